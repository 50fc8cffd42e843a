//! Places and the queue: who may start now, who waits for what, and who is next.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! An entry is in exactly one of these: `queue` (its `at` is set), in flight, behind its device's
//! attempt in flight, or parked for a place of its origin or of all. Whenever an attempt ends,
//! those behind it are looked at again; whoever is given a place and can't use it passes it on.

use std::collections::HashSet;
use std::sync::Arc;

use super::run::OriginRun;
use super::{Edit, Flight, Planner, SWEEP_EVERY, Step, Target, target};
use crate::store::{OutboxEntry, OutboxKey, WakeSlot};
use crate::types::{MailboxId, UnixMillis};

impl Planner {
    pub(super) fn next_due(&mut self, now: UnixMillis) -> Option<Step> {
        while let Some((at, key)) = self.queue.first().copied() {
            if at > now {
                return None;
            }
            self.unqueue(key);
            let Some(pending) = self.pending.get(&key) else {
                continue;
            };
            if pending.entry.expires <= now {
                self.remove(key);
                return Some(Step::Expired(key));
            }
            let (expires, origin) = (pending.entry.expires, pending.origin.clone());
            let gate = self.gate(key, &origin);
            if gate > now {
                self.queue_at(key, gate.min(expires));
                self.unpark_idle(&origin);
                continue;
            }
            if self.devices.get(&target(key)).is_some_and(|d| d.in_flight) {
                // Queued again when that attempt ends.
                self.unpark_idle(&origin);
                continue;
            }
            let suspect = self.origins.get(&origin).is_none_or(OriginRun::is_suspect);
            if !self.has_place(suspect) {
                self.parked[usize::from(suspect)].push_back(key);
                self.unpark_idle(&origin);
                continue;
            }
            let run = self.origins.entry(origin.clone()).or_default();
            if run.in_flight >= run.places(self.limits.in_flight_per_origin) {
                run.parked.push_back(key);
                continue;
            }
            return self.start(now, key, origin, suspect).map(Step::Send);
        }
        None
    }

    pub(super) fn keys_of(&self, to: Target) -> Vec<OutboxKey> {
        let first = OutboxKey {
            account: to.0,
            device: to.1,
            slot: WakeSlot::Mail(MailboxId(0)),
        };
        self.pending
            .range(first..)
            .map(|(key, _)| *key)
            .take_while(|key| target(*key) == to)
            .collect()
    }

    pub(super) fn gate(&self, key: OutboxKey, origin: &Arc<str>) -> UnixMillis {
        let mut gate = self.service.hold;
        if let Some(run) = self.origins.get(origin) {
            gate = gate.max(run.not_before());
        }
        if let Some(run) = self.devices.get(&target(key)) {
            gate = gate.max(run.hold);
            if matches!(key.slot, WakeSlot::Mail(_)) {
                gate = gate.max(run.next_mail(self.limits.coalesce, self.limits.per_hour));
            }
        }
        gate
    }

    pub(super) fn has_place(&self, suspect: bool) -> bool {
        let most = self.limits.in_flight.max(1);
        self.flights.len() < most && (!suspect || self.suspects < most.div_ceil(2))
    }

    pub(super) fn start(
        &mut self,
        now: UnixMillis,
        key: OutboxKey,
        origin: Arc<str>,
        suspect: bool,
    ) -> Option<OutboxEntry> {
        let pending = self.pending.get_mut(&key)?;
        pending.entry.attempts = pending.entry.attempts.saturating_add(1);
        let entry = pending.entry.clone();
        self.take_off(now, key, origin, suspect, entry.uids.len(), entry.count);
        Some(entry)
    }

    pub(super) fn take_off(
        &mut self,
        now: UnixMillis,
        key: OutboxKey,
        origin: Arc<str>,
        suspect: bool,
        uids: usize,
        count: u32,
    ) {
        self.devices.entry(target(key)).or_default().in_flight = true;
        self.origins.entry(origin.clone()).or_default().started(now);
        self.suspects += usize::from(suspect);
        let flight = Flight {
            origin,
            started: now,
            suspect,
            uids,
            count,
            superseded: false,
        };
        self.flights.insert(key, flight);
    }

    /// Gives back the places that an attempt had, and lets others have them.
    pub(super) fn land(&mut self, now: UnixMillis, key: OutboxKey) -> Option<Flight> {
        let flight = self.flights.remove(&key)?;
        self.suspects -= usize::from(flight.suspect);
        if let Some(device) = self.devices.get_mut(&target(key)) {
            device.in_flight = false;
        }
        let next = self.keys_of(target(key));
        let mut room = 0;
        if let Some(origin) = self.origins.get_mut(&flight.origin) {
            origin.in_flight = origin.in_flight.saturating_sub(1);
            let places = origin.places(self.limits.in_flight_per_origin);
            room = places.saturating_sub(origin.in_flight);
        }
        for key in next {
            self.unpark(key, now);
        }
        while room > 0
            && let Some(key) = self.next_parked_at(&flight.origin)
        {
            room -= usize::from(self.unpark(key, now));
        }
        Some(flight)
    }

    pub(super) fn next_parked_at(&mut self, origin: &Arc<str>) -> Option<OutboxKey> {
        self.origins.get_mut(origin)?.parked.pop_front()
    }

    /// Queues what waited for a place, if it still does.
    pub(super) fn unpark(&mut self, key: OutboxKey, now: UnixMillis) -> bool {
        let waits = self.pending.get(&key).filter(|p| p.at.is_none());
        let Some(due) = waits.map(|p| p.entry.due) else {
            return false;
        };
        self.queue_at(key, due.max(now));
        true
    }

    /// Where an entry that was given an origin's place did not use it, and nothing is in flight
    /// whose end would give it to another, the others are queued themselves.
    pub(super) fn unpark_idle(&mut self, origin: &Arc<str>) {
        while self.origins.get(origin).is_some_and(|o| o.in_flight == 0)
            && let Some(key) = self.next_parked_at(origin)
        {
            self.unpark(key, UnixMillis(0));
        }
    }

    /// Gives free places to those that wait for any. True where there was one.
    pub(super) fn refill(&mut self, now: UnixMillis) -> bool {
        for suspect in [false, true] {
            while self.has_place(suspect)
                && let Some(key) = self.parked[usize::from(suspect)].pop_front()
            {
                if self.unpark(key, now) {
                    return true;
                }
            }
        }
        false
    }

    /// What the attempt carried is done with; what came meanwhile is not.
    pub(super) fn finish(&mut self, now: UnixMillis, key: OutboxKey, flight: &Flight) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        if flight.superseded {
            return self.queue_at(key, now);
        }
        let entry = &mut pending.entry;
        entry.count = entry.count.saturating_sub(flight.count);
        entry.uids.drain(..flight.uids.min(entry.uids.len()));
        if entry.count == 0 {
            return self.remove(key);
        }
        entry.caused = pending.later_caused.take().unwrap_or(entry.caused);
        entry.attempts = 0;
        entry.due = now;
        let entry = entry.clone();
        self.edits.push(Edit::Put(entry));
        self.queue_at(key, now);
    }

    pub(super) fn retry(&mut self, key: OutboxKey, due: UnixMillis) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        if matches!(key.slot, WakeSlot::Mail(_)) && pending.entry.count == 0 {
            return self.remove(key);
        }
        pending.later_caused = None;
        pending.entry.due = due;
        let expires = pending.entry.expires;
        let entry = pending.entry.clone();
        self.edits.push(Edit::Put(entry));
        self.queue_at(key, due.min(expires));
    }

    pub(super) fn remove(&mut self, key: OutboxKey) {
        self.unqueue(key);
        if let Some(pending) = self.pending.remove(&key) {
            self.unpark_idle(&pending.origin);
        }
        self.edits.push(Edit::Remove(key));
    }

    pub(super) fn queue_at(&mut self, key: OutboxKey, at: UnixMillis) {
        self.unqueue(key);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.at = Some(at);
            self.queue.insert((at, key));
        }
    }

    pub(super) fn unqueue(&mut self, key: OutboxKey) {
        if let Some(pending) = self.pending.get_mut(&key)
            && let Some(at) = pending.at.take()
        {
            self.queue.remove(&(at, key));
        }
    }

    pub(super) fn sweep(&mut self, now: UnixMillis) {
        if now.since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.devices.retain(|_, run| !run.is_idle(now));
        let used: HashSet<_> = self.pending.values().map(|p| p.origin.clone()).collect();
        self.origins
            .retain(|origin, run| used.contains(origin) || !run.is_idle(now));
    }
}
