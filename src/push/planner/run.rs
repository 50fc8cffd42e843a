//! What the planner remembers about devices, origins and transports while it runs: holds, counts
//! of failures in a row, what was sent lately.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::{HashSet, VecDeque};

use super::Target;
use crate::store::OutboxKey;
use crate::types::UnixMillis;

const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// After credentials were refused.
pub(super) const AUTH_HOLD: u64 = 5 * MINUTE;
/// Where a service says "too many" but not for how long.
pub(super) const THROTTLE_HOLD: u64 = MINUTE;
/// Failures in a row after which an origin is only probed.
const BREAK_AFTER: u32 = 20;
const PROBE_EVERY: u64 = MINUTE;
/// Devices of one origin that are throttled within a minute before the origin is held.
const THROTTLED_DEVICES: usize = 10;
/// Devices of one origin that refuse our credentials in a row before the origin is held, and
/// origins before the transport is. One device, or one hostile service, must not silence others.
const AUTH_STRIKES: usize = 3;
/// Redirects in a row before a device is paused.
const MAX_REDIRECTS: u32 = 3;

/// `base` ± 20 %; `jitter` is in thousandths, from -200 to 200.
fn jittered(base: u64, jitter: i32) -> u64 {
    let jitter = i64::from(jitter.clamp(-200, 200));
    base.saturating_add_signed(base as i64 / 1000 * jitter)
}

/// How long to wait after the `attempts`th attempt failed.
pub(super) fn back_off(attempts: u32, jitter: i32) -> u64 {
    let base = match attempts {
        0 | 1 => 5_000,
        2 => 30_000,
        3 => 2 * MINUTE,
        4 => 10 * MINUTE,
        _ => 30 * MINUTE,
    };
    jittered(base, jitter)
}

/// One device.
#[derive(Debug, Default)]
pub(super) struct DeviceRun {
    pub(super) in_flight: bool,
    /// Not before this.
    pub(super) hold: UnixMillis,
    /// When the last hour's wake-ups were sent, oldest first; those of mail that were accepted.
    sent: VecDeque<UnixMillis>,
    pub(super) failing_since: Option<UnixMillis>,
    pub(super) rejections: u32,
    redirects: u32,
    pub(super) tests: VecDeque<UnixMillis>,
}

impl DeviceRun {
    /// The next wake-up for mail not before this: one per `coalesce`, `per_hour` in an hour.
    pub(super) fn next_mail(&self, coalesce: u64, per_hour: u32) -> UnixMillis {
        let after_last = self
            .sent
            .back()
            .map_or(UnixMillis(0), |at| at.plus(coalesce));
        let most = per_hour.max(1) as usize;
        let capped = self
            .sent
            .len()
            .checked_sub(most)
            .and_then(|i| self.sent.get(i));
        after_last.max(capped.map_or(UnixMillis(0), |at| at.plus(HOUR)))
    }

    pub(super) fn delivered(&mut self, started: UnixMillis, mail: bool, per_hour: u32) {
        self.failing_since = None;
        self.rejections = 0;
        self.redirects = 0;
        if mail {
            self.sent.push_back(started);
            while self.sent.len() > per_hour.max(1) as usize {
                self.sent.pop_front();
            }
        }
    }

    pub(super) fn may_test(&mut self, now: UnixMillis, per_minute: usize) -> bool {
        self.tests.retain(|at| now.since(*at) < MINUTE);
        self.tests.len() < per_minute
    }

    /// True where the device should be paused.
    pub(super) fn rejected(&mut self, redirect: bool, most: u32) -> bool {
        self.rejections += 1;
        self.redirects = if redirect { self.redirects + 1 } else { 0 };
        self.rejections >= most || self.redirects >= MAX_REDIRECTS
    }

    /// True where the device has done nothing but fail for a day.
    pub(super) fn failed(&mut self, now: UnixMillis) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        now.since(since) >= DAY
    }

    /// True where forgetting it changes nothing.
    pub(super) fn is_idle(&self, now: UnixMillis) -> bool {
        !self.in_flight
            && self.failing_since.is_none()
            && self.rejections == 0
            && self.hold <= now
            && self.sent.back().is_none_or(|at| now.since(*at) >= HOUR)
            && self.tests.back().is_none_or(|at| now.since(*at) >= MINUTE)
    }
}

/// One push service.
#[derive(Debug, Default)]
pub(super) struct OriginRun {
    pub(super) in_flight: usize,
    pub(super) hold: UnixMillis,
    /// In a row.
    failures: u32,
    last_attempt: UnixMillis,
    pub(super) last_delivered: Option<UnixMillis>,
    throttled: VecDeque<(UnixMillis, Target)>,
    auth: HashSet<Target>,
    /// Entries that wait for a place.
    pub(super) parked: VecDeque<OutboxKey>,
}

impl OriginRun {
    /// Not before this; a service in trouble is probed once a minute.
    pub(super) fn not_before(&self) -> UnixMillis {
        if self.failures >= BREAK_AFTER {
            self.hold.max(self.last_attempt.plus(PROBE_EVERY))
        } else {
            self.hold
        }
    }

    pub(super) fn places(&self, most: usize) -> usize {
        if self.failures >= BREAK_AFTER {
            1
        } else {
            most.max(1)
        }
    }

    /// Never yet worked, or is in trouble: such origins share half of all places, so that slow
    /// strangers leave room for services that work.
    pub(super) fn is_suspect(&self) -> bool {
        self.failures > 0 || self.last_delivered.is_none()
    }

    pub(super) fn started(&mut self, now: UnixMillis) {
        self.in_flight += 1;
        self.last_attempt = now;
    }

    pub(super) fn delivered(&mut self, now: UnixMillis) {
        self.answered();
        self.last_delivered = Some(now);
        self.auth.clear();
    }

    /// It answers, whatever it says.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn throttled(&mut self, now: UnixMillis, target: Target, wait: u64) {
        self.throttled
            .retain(|(at, other)| now.since(*at) < MINUTE && *other != target);
        self.throttled.push_back((now, target));
        if self.throttled.len() >= THROTTLED_DEVICES {
            self.hold = self.hold.max(now.plus(wait));
            self.throttled.clear();
        }
    }

    /// True where the origin is now held.
    pub(super) fn auth_failed(&mut self, now: UnixMillis, target: Target) -> bool {
        self.auth.insert(target);
        if self.auth.len() < AUTH_STRIKES {
            return false;
        }
        self.auth.clear();
        self.hold = self.hold.max(now.plus(AUTH_HOLD));
        true
    }

    pub(super) fn is_idle(&self, now: UnixMillis) -> bool {
        self.in_flight == 0
            && self.parked.is_empty()
            && self.hold <= now
            && now.since(self.last_attempt) >= HOUR
    }
}

/// All of a transport.
#[derive(Debug, Default)]
pub(super) struct ServiceRun {
    pub(super) hold: UnixMillis,
    refusing: HashSet<String>,
}

impl ServiceRun {
    pub(super) fn delivered(&mut self) {
        self.refusing.clear();
    }

    /// An origin refuses our credentials. True where the transport is now stopped.
    pub(super) fn origin_refuses(&mut self, now: UnixMillis, origin: &str) -> bool {
        self.refusing.insert(origin.to_owned());
        if self.refusing.len() < AUTH_STRIKES {
            return false;
        }
        self.refusing.clear();
        self.hold = now.plus(AUTH_HOLD);
        true
    }
}
