//! Attempts: tests begin here, and here is what the end of an attempt means.
//!
//! Machine: no IO, no clock, no randomness.

use std::sync::Arc;

use super::run::{self, DAY, OriginRun, THROTTLE_HOLD, back_off};
use super::{
    Alarm, DeviceChange, Edit, Flight, Planner, TESTS_PER_MINUTE, Target, TestStart, target,
};
use crate::push::outcome::{Answer, LOOKUPS_BUSY, NAME_LOOKUP, NO_SUCH_HOST, Outcome, Rejection};
use crate::store::{OutboxKey, WakeSlot};
use crate::types::{AccountId, UnixMillis};

/// What ntfy says of a topic without a subscriber.
const NOBODY_SUBSCRIBED: u16 = 507;

impl Planner {
    /// A test that the device's owner wants. Once it is begun it is in flight: report with
    /// [`Planner::done`].
    pub(crate) fn begin_test(&mut self, now: UnixMillis, to: Target, origin: &str) -> TestStart {
        self.tick(now);
        let key = OutboxKey {
            account: to.0,
            device: to.1,
            slot: WakeSlot::Test,
        };
        let device = self.devices.entry(to).or_default();
        if let Err(wait) = device.may_test(now, TESTS_PER_MINUTE) {
            return TestStart::TooOften(wait);
        }
        let origin: Arc<str> = origin.into();
        let run = self.origins.entry(origin.clone()).or_default();
        let suspect = run.is_suspect();
        let full = !run.has_place(self.limits.in_flight_per_origin);
        let held = run.not_before().max(self.service.hold) > now;
        let device = self.devices.entry(to).or_default();
        let busy = device.in_flight || full || held;
        if busy || !self.account_has_place(to.0) || !self.has_place(suspect) {
            return TestStart::Busy;
        }
        self.devices.entry(to).or_default().tests.push_back(now);
        let flight = Flight {
            generation: 0,
            origin,
            started: now,
            suspect,
            uids: 0,
            count: 0,
        };
        self.take_off(now, key, flight);
        TestStart::Begun(key)
    }

    /// An attempt ended. `jitter` is in thousandths, from -200 to 200; `own_key`: the device's
    /// registration was made for the credentials that we use.
    pub(crate) fn done(
        &mut self,
        now: UnixMillis,
        key: OutboxKey,
        answer: &Answer,
        jitter: i32,
        own_key: bool,
    ) {
        self.tick(now);
        let Some(flight) = self.land(key) else {
            return;
        };
        let to = target(key);
        let origin = self.origins.entry(flight.origin.clone()).or_default();
        let device = self.devices.entry(to).or_default();
        let verifying = key.slot == WakeSlot::Verify;
        let attempts = match self.pending.get(&key) {
            Some(pending) if pending.generation == flight.generation => pending.entry.attempts,
            _ => 1,
        };
        let mut failure = Some(DeviceChange::Failure {
            at: now,
            class: answer.describe(),
        });
        // Whoever answers is there, and so is whoever refuses to.
        let unasked = [NAME_LOOKUP, NO_SUCH_HOST, LOOKUPS_BUSY].contains(&answer.class);
        if !answer.own_fault && !unasked {
            self.lost.forget(to);
        }
        let pause = |reason| DeviceChange::Pause {
            at: now,
            class: answer.describe(),
            reason,
        };
        match answer.outcome {
            Outcome::Delivered => {
                origin.delivered(now, to.0);
                self.service.delivered();
                let mail = matches!(key.slot, WakeSlot::Mail(_));
                device.delivered(flight.started, mail, self.limits.per_hour);
                failure = Some(DeviceChange::Success(now));
                self.finish(now, key, &flight);
            }
            Outcome::Gone => {
                origin.answered();
                failure = None;
                self.forget(to);
                self.edits.push(Edit::RemoveDevice(to));
            }
            Outcome::Rejected(how) => {
                origin.answered();
                let redirect = how == Rejection::Redirect;
                if device.rejected(redirect, self.limits.max_rejections) {
                    failure = Some(pause(if redirect {
                        "its push service redirects"
                    } else {
                        "its push service rejects wake-ups"
                    }));
                }
                self.finish(now, key, &flight);
            }
            // Others of this service are served: it is this registration, made for another key.
            Outcome::Auth
                if !own_key && origin.last_delivered.is_some_and(|at| now.since(at) < DAY) =>
            {
                failure = None;
                self.forget(to);
                self.edits.push(Edit::RemoveDevice(to));
            }
            Outcome::Auth => {
                origin.answered();
                device.hold = now.plus(run::AUTH_HOLD);
                // Anybody can register a device that was made for another key; only verified
                // ones say something about us.
                if !verifying {
                    self.refused(now, to.0, &flight.origin);
                }
                self.retry(key, &flight, now.plus(run::AUTH_HOLD));
            }
            Outcome::Throttled { wait } => {
                origin.answered();
                // "At once" is for the first time only.
                let least = match attempts {
                    0 | 1 => 1000,
                    more => back_off(more - 1, jitter),
                };
                let wait = wait.unwrap_or(THROTTLE_HOLD).max(least);
                device.hold = now.plus(wait);
                if !verifying {
                    origin.throttled(now, to, wait);
                }
                self.retry(key, &flight, now.plus(wait));
            }
            Outcome::Transient { .. } if answer.own_fault || answer.class == LOOKUPS_BUSY => {
                // It says nothing about the device or its service.
                failure = None;
                self.retry(key, &flight, now.plus(back_off(attempts, jitter)));
            }
            // It is no day's trouble, but nor is it for ever before a week is over.
            Outcome::Transient { .. } if answer.class == NO_SUCH_HOST && !verifying => {
                origin.failed(to.0, false);
                if self.lost.not_found(now, to) {
                    failure = None;
                    self.forget(to);
                    self.edits.push(Edit::RemoveDevice(to));
                } else {
                    self.retry(key, &flight, now.plus(back_off(attempts, jitter)));
                }
            }
            Outcome::Transient { wait } => {
                // Whoever has an account can register what fails, and let its own subscriptions
                // lapse: neither says something about the service.
                if !verifying && answer.status != Some(NOBODY_SUBSCRIBED) {
                    origin.failed(to.0, answer.status.is_some());
                }
                if device.failed(now) {
                    failure = Some(pause("it could not be reached for a day"));
                }
                let wait = back_off(attempts, jitter).max(wait.unwrap_or(0));
                self.retry(key, &flight, now.plus(wait));
            }
        }
        self.reopen(now, &flight.origin);
        // A new device is forgotten, not paused.
        let failure = match failure {
            Some(DeviceChange::Pause { at, class, .. }) if verifying => {
                Some(DeviceChange::Failure { at, class })
            }
            // Only mail and tests prove that it can be woken.
            Some(DeviceChange::Success(_)) if verifying => None,
            other => other,
        };
        if let Some(change) = failure {
            if matches!(change, DeviceChange::Pause { .. }) {
                self.drop_entries(to);
            }
            self.edits.push(Edit::Device(to, change));
        }
    }

    /// Credentials of ours were refused: tell the operator, and spare those who refuse.
    fn refused(&mut self, now: UnixMillis, account: AccountId, at: &Arc<str>) {
        if self.service.refused(now) {
            self.alarms.push(Alarm::CredentialsRefused);
        }
        let origin = self.origins.entry(at.clone()).or_default();
        if !origin.auth_failed(now, account) {
            return;
        }
        self.alarms.push(Alarm::OriginRefuses);
        if !origin.is_proven() {
            return;
        }
        let lately = |run: &OriginRun| run.last_delivered.is_some_and(|at| now.since(at) < DAY);
        let serving = self.origins.iter().filter(|(_, run)| lately(run));
        let serving = serving.map(|(name, _)| &**name);
        if self.service.origin_refuses(now, at, serving) {
            self.alarms.push(Alarm::TransportStopped);
        }
    }

    /// The attempt was not made after all: nothing is left that it could say.
    pub(crate) fn cancel(&mut self, key: OutboxKey) {
        if let Some(flight) = self.land(key)
            && self.is_own(key, &flight)
        {
            self.remove(key);
        }
    }
}
