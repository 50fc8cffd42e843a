//! What the planner remembers about devices, accounts, origins and transports while it runs:
//! holds, counts of failures in a row, what was sent lately.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::{HashSet, VecDeque};

use super::Target;
use super::fair::Fair;
use crate::store::OutboxKey;
use crate::types::{AccountId, UnixMillis};

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
/// Accounts that an origin must have refused or failed in a row before it is held, and have served
/// before its refusals say something about us; origins that must refuse before the transport is
/// stopped. One account, whatever its devices are answered, must not silence others.
const STRIKES: usize = 3;
/// Between two alarms about refused credentials.
const ALARM_EVERY: u64 = HOUR;
/// Failures further apart are not in a row: back-off is far shorter than this.
const FAILURE_GAP: u64 = 6 * HOUR;
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
    pub(super) sent: VecDeque<UnixMillis>,
    /// Until then `sent` does not know all of the last hour, because of a restart.
    pub(super) unsure_until: UnixMillis,
    /// Not woken since the restart.
    fresh: bool,
    /// The first and the last failure in a row.
    pub(super) failing: Option<(UnixMillis, UnixMillis)>,
    rejections: u32,
    redirects: u32,
    pub(super) tests: VecDeque<UnixMillis>,
}

impl DeviceRun {
    /// The next wake-up for mail not before this: one per `coalesce`, `per_hour` in an hour.
    pub(super) fn next_mail(&self, coalesce: u64, per_hour: u32) -> UnixMillis {
        // Evenly, where it is not known how many of the hour's are left. The first after a
        // restart is not held up: most phones were woken once, and not sixty times.
        let even = HOUR / u64::from(per_hour.max(1));
        let after_last = self.sent.back().map_or(UnixMillis(0), |at| {
            if *at < self.unsure_until && !self.fresh {
                at.plus(coalesce.max(even))
            } else {
                at.plus(coalesce)
            }
        });
        let most = per_hour.max(1) as usize;
        let capped = self
            .sent
            .len()
            .checked_sub(most)
            .and_then(|i| self.sent.get(i));
        after_last.max(capped.map_or(UnixMillis(0), |at| at.plus(HOUR)))
    }

    pub(super) fn delivered(&mut self, started: UnixMillis, mail: bool, per_hour: u32) {
        self.forgive();
        if mail {
            self.fresh = false;
            self.sent.push_back(started);
            while self.sent.len() > per_hour.max(1) as usize {
                self.sent.pop_front();
            }
        }
    }

    /// Failures don't count any longer.
    pub(super) fn forgive(&mut self) {
        self.failing = None;
        self.rejections = 0;
        self.redirects = 0;
    }

    /// Before a restart it failed from the one to the other.
    pub(super) fn failed_before(&mut self, from: UnixMillis, to: UnixMillis) {
        let (first, last) = self.failing.get_or_insert((from, to));
        (*first, *last) = ((*first).min(from), (*last).max(to));
    }

    /// Before a restart it was woken then.
    pub(super) fn woken_before(&mut self, at: UnixMillis) {
        self.sent.push_back(at);
        self.unsure_until = at.plus(HOUR);
        self.fresh = true;
    }

    /// Err: not for so long.
    pub(super) fn may_test(&mut self, now: UnixMillis, per_minute: usize) -> Result<(), u64> {
        self.tests.retain(|at| now.since(*at) < MINUTE);
        match self.tests.front() {
            Some(first) if self.tests.len() >= per_minute => Err(first.plus(MINUTE).since(now)),
            _ => Ok(()),
        }
    }

    /// True where the device should be paused.
    pub(super) fn rejected(&mut self, redirect: bool, most: u32) -> bool {
        self.rejections += 1;
        self.redirects = if redirect { self.redirects + 1 } else { 0 };
        self.rejections >= most || self.redirects >= MAX_REDIRECTS
    }

    /// True where the device has done nothing but fail for a day.
    pub(super) fn failed(&mut self, now: UnixMillis) -> bool {
        let (first, last) = self.failing.get_or_insert((now, now));
        if now.since(*last) > FAILURE_GAP {
            *first = now;
        }
        *last = now;
        now.since(*first) >= DAY
    }

    /// True where forgetting it changes nothing.
    pub(super) fn is_idle(&self, now: UnixMillis) -> bool {
        !self.in_flight
            && self
                .failing
                .is_none_or(|(_, last)| now.since(last) > FAILURE_GAP)
            && self.rejections == 0
            && self.hold <= now
            && self.sent.back().is_none_or(|at| now.since(*at) >= HOUR)
            && self.tests.back().is_none_or(|at| now.since(*at) >= MINUTE)
    }
}

/// One account.
#[derive(Debug, Default)]
pub(super) struct AccountRun {
    pub(super) in_flight: usize,
    /// Entries that wait for a place of the account.
    pub(super) parked: VecDeque<OutboxKey>,
}

impl AccountRun {
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.parked.is_empty()
    }
}

/// One push service.
#[derive(Debug, Default)]
pub(super) struct OriginRun {
    pub(super) in_flight: usize,
    pub(super) hold: UnixMillis,
    /// In a row: all, for whom, and those where nobody was reached.
    failures: u32,
    failed_for: HashSet<AccountId>,
    unreached: u32,
    pub(super) last_attempt: UnixMillis,
    pub(super) last_delivered: Option<UnixMillis>,
    pub(super) throttled: VecDeque<(UnixMillis, Target)>,
    /// Accounts that it refused since it last took something, and some that it served.
    refused: HashSet<AccountId>,
    served: HashSet<AccountId>,
    /// Entries that wait for a place, and how many places are kept for those whose turn it is.
    pub(super) parked: Fair,
    pub(super) granted: usize,
    /// Nothing starts before; whoever waits is looked at then.
    pub(super) opens: Option<UnixMillis>,
}

impl OriginRun {
    /// Not before this; a service in trouble is probed once a minute.
    pub(super) fn not_before(&self) -> UnixMillis {
        if self.is_broken() {
            self.hold.max(self.last_attempt.plus(PROBE_EVERY))
        } else {
            self.hold
        }
    }

    fn is_broken(&self) -> bool {
        self.unreached >= BREAK_AFTER
            || self.failures >= BREAK_AFTER && self.failed_for.len() >= STRIKES
    }

    pub(super) fn has_place(&self, most: usize) -> bool {
        self.in_flight + self.granted < self.places(most)
    }

    fn places(&self, most: usize) -> usize {
        if self.is_broken() { 1 } else { most.max(1) }
    }

    /// Never yet worked, or is in trouble: such origins share half of all places, so that slow
    /// strangers leave room for services that work.
    pub(super) fn is_suspect(&self) -> bool {
        let in_trouble = self.unreached > 0 || self.failed_for.len() >= STRIKES;
        in_trouble || self.last_delivered.is_none()
    }

    pub(super) fn started(&mut self, now: UnixMillis) {
        self.in_flight += 1;
        self.last_attempt = now;
    }

    pub(super) fn delivered(&mut self, now: UnixMillis, account: AccountId) {
        self.answered();
        self.last_delivered = Some(now);
        self.refused.clear();
        if self.served.len() < STRIKES {
            self.served.insert(account);
        }
    }

    /// Served several accounts, so that what it says is more than one of them may wish.
    pub(super) fn is_proven(&self) -> bool {
        self.served.len() >= STRIKES
    }

    /// It answers, whatever it says.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.failed_for.clear();
        self.unreached = 0;
    }

    /// A wake-up failed; `reached`: with an answer, which may be meant for this account alone.
    pub(super) fn failed(&mut self, account: AccountId, reached: bool) {
        self.failures = self.failures.saturating_add(1);
        if self.failed_for.len() < STRIKES {
            self.failed_for.insert(account);
        }
        self.unreached = match reached {
            true => 0,
            false => self.unreached.saturating_add(1),
        };
    }

    pub(super) fn throttled(&mut self, now: UnixMillis, target: Target, wait: u64) {
        self.throttled
            .retain(|(at, other)| now.since(*at) < MINUTE && *other != target);
        self.throttled.push_back((now, target));
        let accounts: HashSet<_> = self.throttled.iter().map(|(_, to)| to.0).collect();
        if self.throttled.len() >= THROTTLED_DEVICES && accounts.len() >= STRIKES {
            self.hold = self.hold.max(now.plus(wait));
            self.throttled.clear();
        }
    }

    /// True where the origin is now held.
    pub(super) fn auth_failed(&mut self, now: UnixMillis, account: AccountId) -> bool {
        self.refused.insert(account);
        if self.refused.len() < STRIKES {
            return false;
        }
        self.refused.clear();
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
    pub(super) alarmed: Option<UnixMillis>,
}

impl ServiceRun {
    pub(super) fn delivered(&mut self) {
        self.refusing.clear();
    }

    /// Our credentials were refused. True where an operator should be told.
    pub(super) fn refused(&mut self, now: UnixMillis) -> bool {
        let due = self.alarmed.is_none_or(|at| now.since(at) >= ALARM_EVERY);
        if due {
            self.alarmed = Some(now);
        }
        due
    }

    /// A proven origin refuses. True where the transport is now stopped: several do, and
    /// `others`, those that served somebody lately, are all among them.
    pub(super) fn origin_refuses<'a>(
        &mut self,
        now: UnixMillis,
        origin: &str,
        mut others: impl Iterator<Item = &'a str>,
    ) -> bool {
        self.refusing.insert(origin.to_owned());
        if self.refusing.len() < STRIKES || !others.all(|o| self.refusing.contains(o)) {
            return false;
        }
        self.refusing.clear();
        self.hold = now.plus(AUTH_HOLD);
        true
    }
}
