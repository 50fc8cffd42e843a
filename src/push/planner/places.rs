//! Places and the queue: who may start now, who waits for what, and who is next.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! An entry is in exactly one of these: `queue` (its `at` is set), in flight, behind its device's
//! attempt in flight, or parked for a place of its account, of its origin or of all. Whenever an
//! attempt ends, those behind it are looked at again; whoever is given a place and can't use it
//! passes it on. Who waits for an origin that is held, or only probed, is parked there too, with
//! one time in `doors` for all of them, so that accounts take turns at it.

use std::collections::HashSet;
use std::sync::Arc;

use super::run::OriginRun;
use super::{Edit, Flight, Planner, SWEEP_EVERY, Step, Target, Turn, target};
use crate::store::{OutboxEntry, OutboxKey, WakeSlot};
use crate::types::{AccountId, MailboxId, UnixMillis};

impl Planner {
    pub(super) fn next_due(&mut self, now: UnixMillis) -> Option<Step> {
        while let Some((at, key)) = self.queue.first().copied() {
            if at > now {
                return None;
            }
            self.unqueue(key);
            let turn = self.take_turn(key) != Turn::None;
            let Some(pending) = self.pending.get(&key) else {
                continue;
            };
            if pending.entry.expires <= now {
                self.remove(key);
                return Some(Step::Expired(key));
            }
            let (expires, origin) = (pending.entry.expires, pending.origin.clone());
            let gate = self.gate(key);
            let opens = self.origins.get(&origin).map(OriginRun::not_before);
            let opens = opens.filter(|at| *at > now);
            let suspect = self.origins.get(&origin).is_none_or(OriginRun::is_suspect);
            if gate > now {
                self.queue_at(key, gate.min(expires));
            } else if self.devices.get(&target(key)).is_some_and(|d| d.in_flight) {
                // Queued again when that attempt ends.
            } else if let Some(opens) = opens {
                self.hold_back(key, &origin, opens, turn);
            } else if !self.account_has_place(key.account) {
                let account = self.accounts.entry(key.account).or_default();
                account.parked.push_back(key);
            } else if !self.has_place(suspect)
                || !turn && !self.parked[usize::from(suspect)].is_empty()
            {
                self.parked[usize::from(suspect)].push(key);
            } else if !self.origin_has_place(&origin) || !turn && self.others_wait_at(&origin) {
                let run = self.origins.entry(origin.clone()).or_default();
                run.parked.push(key);
            } else {
                let started = self.start(now, key, origin.clone(), suspect);
                self.pass_on(key.account, &origin);
                return started.map(Step::Send);
            }
            self.pass_on(key.account, &origin);
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

    fn gate(&self, key: OutboxKey) -> UnixMillis {
        let mut gate = self.service.hold;
        if let Some(run) = self.devices.get(&target(key)) {
            gate = gate.max(run.hold);
            if matches!(key.slot, WakeSlot::Mail(_)) {
                gate = gate.max(run.next_mail(self.limits.coalesce, self.limits.per_hour));
            }
        }
        gate
    }

    /// Its origin takes nothing now: it waits in turn until that opens, or until it expires.
    fn hold_back(&mut self, key: OutboxKey, origin: &Arc<str>, opens: UnixMillis, turn: bool) {
        let run = self.origins.entry(origin.clone()).or_default();
        if turn {
            run.parked.push_front(key);
        } else {
            run.parked.push(key);
        }
        self.set_door(origin, Some(opens));
        if let Some(pending) = self.pending.get(&key) {
            self.queue_at(key, pending.entry.expires);
        }
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.held = true;
        }
    }

    fn set_door(&mut self, origin: &Arc<str>, opens: Option<UnixMillis>) {
        let Some(run) = self.origins.get_mut(origin) else {
            return;
        };
        if let Some(at) = std::mem::replace(&mut run.opens, opens) {
            self.doors.remove(&(at, origin.clone()));
        }
        if let Some(at) = opens {
            self.doors.insert((at, origin.clone()));
        }
    }

    /// Lets the next in where an origin may be spoken to again.
    pub(super) fn open_doors(&mut self, now: UnixMillis) {
        while let Some((at, origin)) = self.doors.first().cloned()
            && at <= now
        {
            self.doors.remove(&(at, origin.clone()));
            self.set_door(&origin, None);
            self.pass_on_at(&origin);
        }
    }

    /// An attempt has ended: who waits need not wait any longer where it showed that all is well.
    pub(super) fn reopen(&mut self, now: UnixMillis, origin: &Arc<str>) {
        let run = self.origins.get(origin);
        if run.is_some_and(|run| run.opens.is_some() && run.not_before() <= now) {
            self.set_door(origin, None);
            self.pass_on_at(origin);
        }
    }

    pub(super) fn has_place(&self, suspect: bool) -> bool {
        let most = self.limits.in_flight.max(1);
        self.flights.len() < most && (!suspect || self.suspects < most.div_ceil(2))
    }

    pub(super) fn account_has_place(&self, account: AccountId) -> bool {
        let most = self.limits.in_flight_per_account.max(1);
        self.accounts
            .get(&account)
            .is_none_or(|a| a.in_flight < most)
    }

    fn origin_has_place(&self, origin: &Arc<str>) -> bool {
        let most = self.limits.in_flight_per_origin;
        let run = self.origins.get(origin);
        run.is_none_or(|run| run.has_place(most))
    }

    fn others_wait_at(&self, origin: &Arc<str>) -> bool {
        let run = self.origins.get(origin);
        run.is_some_and(|run| !run.parked.is_empty())
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
        let flight = Flight {
            generation: pending.generation,
            origin,
            started: now,
            suspect,
            uids: entry.uids.len(),
            count: entry.count,
        };
        self.take_off(now, key, flight);
        Some(entry)
    }

    pub(super) fn take_off(&mut self, now: UnixMillis, key: OutboxKey, flight: Flight) {
        self.devices.entry(target(key)).or_default().in_flight = true;
        self.accounts.entry(key.account).or_default().in_flight += 1;
        let origin = self.origins.entry(flight.origin.clone()).or_default();
        origin.started(now);
        self.suspects += usize::from(flight.suspect);
        self.flights.insert(key, flight);
    }

    /// Gives back the places that an attempt had, and lets others have them.
    pub(super) fn land(&mut self, key: OutboxKey) -> Option<Flight> {
        let flight = self.flights.remove(&key)?;
        self.suspects -= usize::from(flight.suspect);
        if let Some(device) = self.devices.get_mut(&target(key)) {
            device.in_flight = false;
        }
        if let Some(account) = self.accounts.get_mut(&key.account) {
            account.in_flight = account.in_flight.saturating_sub(1);
        }
        if let Some(origin) = self.origins.get_mut(&flight.origin) {
            origin.in_flight = origin.in_flight.saturating_sub(1);
        }
        for key in self.keys_of(target(key)) {
            if self.pending.get(&key).is_some_and(|p| !p.held) {
                self.unpark(key, Turn::None);
            }
        }
        self.pass_on(key.account, &flight.origin);
        Some(flight)
    }

    /// Is what is pending still what the attempt was made for?
    pub(super) fn is_own(&self, key: OutboxKey, flight: &Flight) -> bool {
        let pending = self.pending.get(&key);
        pending.is_some_and(|pending| pending.generation == flight.generation)
    }

    /// Queues what waited for a place, if it still does.
    pub(super) fn unpark(&mut self, key: OutboxKey, turn: Turn) -> bool {
        let waits = self.pending.get_mut(&key);
        let waits = waits.filter(|p| p.held || p.at.is_none());
        let Some(pending) = waits else {
            return false;
        };
        pending.turn = turn;
        if turn == Turn::Origin
            && let Some(run) = self.origins.get_mut(&pending.origin)
        {
            run.granted += 1;
        }
        let due = pending.entry.due;
        self.queue_at(key, due);
        true
    }

    /// Ends the turn of an entry that uses it now, or never will.
    pub(super) fn take_turn(&mut self, key: OutboxKey) -> Turn {
        let Some(pending) = self.pending.get_mut(&key) else {
            return Turn::None;
        };
        let turn = std::mem::take(&mut pending.turn);
        if turn == Turn::Origin
            && let Some(run) = self.origins.get_mut(&pending.origin)
        {
            run.granted = run.granted.saturating_sub(1);
        }
        turn
    }

    /// Where the account or the origin has room, the next that waits for it is queued: whoever
    /// comes from there to find that it can't start calls this again, so that no place is lost.
    pub(super) fn pass_on(&mut self, account: AccountId, origin: &Arc<str>) {
        while self.account_has_place(account)
            && let Some(run) = self.accounts.get_mut(&account)
            && let Some(key) = run.parked.pop_front()
        {
            if self.unpark(key, Turn::None) {
                break;
            }
        }
        self.pass_on_at(origin);
    }

    fn pass_on_at(&mut self, origin: &Arc<str>) {
        let open = |run: &OriginRun| run.opens.is_none();
        while self.origins.get(origin).is_some_and(open)
            && self.origin_has_place(origin)
            && let Some(run) = self.origins.get_mut(origin)
            && let Some(key) = run.parked.pop()
        {
            if self.unpark(key, Turn::Origin) {
                break;
            }
        }
    }

    /// Gives free places to those that wait for any. True where there was one.
    pub(super) fn refill(&mut self) -> bool {
        for suspect in [false, true] {
            while self.has_place(suspect)
                && let Some(key) = self.parked[usize::from(suspect)].pop()
            {
                if self.unpark(key, Turn::Any) {
                    return true;
                }
            }
        }
        false
    }

    /// What the attempt carried is done with; what came meanwhile is not.
    pub(super) fn finish(&mut self, now: UnixMillis, key: OutboxKey, flight: &Flight) {
        let pending = self.pending.get_mut(&key);
        let Some(pending) = pending.filter(|p| p.generation == flight.generation) else {
            return;
        };
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

    pub(super) fn retry(&mut self, key: OutboxKey, flight: &Flight, due: UnixMillis) {
        let pending = self.pending.get_mut(&key);
        let Some(pending) = pending.filter(|p| p.generation == flight.generation) else {
            return;
        };
        if matches!(key.slot, WakeSlot::Mail(_)) && pending.entry.count == 0 {
            self.settled += 1;
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
        self.take_turn(key);
        if let Some(pending) = self.pending.remove(&key) {
            self.pass_on(key.account, &pending.origin);
        }
        self.edits.push(Edit::Remove(key));
    }

    pub(super) fn queue_at(&mut self, key: OutboxKey, at: UnixMillis) {
        self.unqueue(key);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.at = Some(at);
            pending.held = false;
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
        self.accounts.retain(|_, run| !run.is_idle());
        let used: HashSet<_> = self.pending.values().map(|p| p.origin.clone()).collect();
        self.origins
            .retain(|origin, run| used.contains(origin) || !run.is_idle(now));
    }
}
