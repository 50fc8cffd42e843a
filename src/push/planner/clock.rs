//! A clock that was set back: what is remembered moves with it, so that what was to wait for a
//! minute does so, and not for the hours or days that the clock was ahead.
//!
//! Machine: no IO, no clock, no randomness.

use super::run::{DAY, DeviceRun, OriginRun, ServiceRun};
use super::{Edit, Planner};
use crate::store::OutboxEntry;
use crate::types::UnixMillis;

/// Less is not worth the writing; it adds up until it is.
const STEP: u64 = 1000;

impl Planner {
    /// It is now `now`. All that is given a time calls this first.
    pub(super) fn tick(&mut self, now: UnixMillis) {
        let by = self.clock.since(now);
        if by >= STEP {
            self.set_back(now, by);
            self.clock = now;
        }
        self.clock = self.clock.max(now);
    }

    fn set_back(&mut self, now: UnixMillis, by: u64) {
        for pending in self.pending.values_mut() {
            let entry = &mut pending.entry;
            let before = (entry.due, entry.expires);
            let due = entry.due.minus(by);
            in_time(entry, now);
            entry.due = due;
            if before.0 > now || before.1 != entry.expires {
                self.edits.push(Edit::Put(entry.clone()));
            }
            pending.later_caused = pending.later_caused.map(|at| at.min(now));
            let held = pending.held.then_some(entry.expires);
            pending.at = pending.at.map(|at| held.unwrap_or(at.minus(by)));
        }
        let queued = self
            .pending
            .iter()
            .filter_map(|(key, p)| Some((p.at?, *key)));
        self.queue = queued.collect();
        for flight in self.flights.values_mut() {
            flight.started = flight.started.minus(by);
        }
        self.devices
            .values_mut()
            .for_each(|run| run.set_back(now, by));
        self.origins.values_mut().for_each(|run| run.set_back(by));
        let doors = self
            .origins
            .iter()
            .filter_map(|(origin, run)| Some((run.opens?, origin.clone())));
        self.doors = doors.collect();
        self.service.set_back(by);
        self.lost.set_back(now);
        self.swept = self.swept.minus(by);
    }
}

/// Of an entry that was made when the clock was ahead.
pub(super) fn in_time(entry: &mut OutboxEntry, now: UnixMillis) {
    let ahead = entry.caused.since(now);
    entry.caused = entry.caused.minus(ahead);
    entry.expires = entry.expires.minus(ahead);
    entry.due = entry.due.minus(ahead);
    // Nothing waits for longer.
    if entry.due.since(now) > DAY {
        entry.due = now;
    }
}

impl DeviceRun {
    fn set_back(&mut self, now: UnixMillis, by: u64) {
        self.hold = self.hold.minus(by);
        self.unsure_until = self.unsure_until.minus(by);
        for at in self.sent.iter_mut().chain(&mut self.tests) {
            *at = at.minus(by);
        }
        // Not made longer by hours that never were.
        self.failing = self.failing.map(|(from, to)| (from.min(now), to.min(now)));
    }
}

impl OriginRun {
    fn set_back(&mut self, by: u64) {
        self.hold = self.hold.minus(by);
        self.last_attempt = self.last_attempt.minus(by);
        self.last_delivered = self.last_delivered.map(|at| at.minus(by));
        self.opens = self.opens.map(|at| at.minus(by));
        for (at, _) in &mut self.throttled {
            *at = at.minus(by);
        }
    }
}

impl ServiceRun {
    fn set_back(&mut self, by: u64) {
        self.hold = self.hold.minus(by);
        self.alarmed = self.alarmed.map(|at| at.minus(by));
    }
}
