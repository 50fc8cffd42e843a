//! Who is woken, when, and how often.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Arrivals, answers and the time go in; attempts to make, and changes for the store, come out.
//! Invariants: one pending entry per slot; one attempt in flight per device; what is in `edits`
//! brings the store to what is here; an entry leaves only when it was delivered, rejected, read
//! meanwhile, expired, or its device is gone or paused.

mod attempts;
mod clock;
mod fair;
mod lost;
mod places;
mod run;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::clock::in_time;
use self::fair::Fair;
use self::lost::Lost;
pub(crate) use self::lost::{decode as decode_lost, encode as encode_lost};
use self::run::{AccountRun, DeviceRun, HOUR, OriginRun, ServiceRun};
use crate::store::{Device, DeviceState, OutboxEntry, OutboxKey, Source, WakeSlot};
use crate::types::{
    AccountId, DeviceId, Flags, MailboxId, MailboxKey, SystemFlags, Uid, UnixMillis,
};

/// A device in the whole store.
pub(crate) type Target = (AccountId, DeviceId);

/// Tests of one device in a minute.
const TESTS_PER_MINUTE: usize = 5;
/// Attempts after which an entry that a restart finds has failed since it was caused.
const RESTORED_FAILURES: u32 = 5;
/// Between two looks for state that is no longer needed.
const SWEEP_EVERY: u64 = HOUR / 6;

/// The configuration's part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) coalesce: u64,
    pub(crate) per_hour: u32,
    pub(crate) ttl: u64,
    pub(crate) in_flight_per_account: usize,
    pub(crate) in_flight_per_origin: usize,
    pub(crate) in_flight: usize,
    pub(crate) max_rejections: u32,
}

/// What the store has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Put(OutboxEntry),
    Remove(OutboxKey),
    Device(Target, DeviceChange),
    RemoveDevice(Target),
    /// Devices whose push service has no host any more, each since when: all of them.
    Lost(Vec<(Target, UnixMillis)>),
}

/// What happened to a device; applied to its newest record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceChange {
    Success(UnixMillis),
    Failure {
        at: UnixMillis,
        class: String,
    },
    Pause {
        at: UnixMillis,
        class: String,
        reason: &'static str,
    },
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make this attempt and report with [`Planner::done`] or [`Planner::cancel`].
    Send(OutboxEntry),
    /// Its time to live is over; nothing to do but count.
    Expired(OutboxKey),
}

/// What became of the wish for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestStart {
    Begun(OutboxKey),
    /// Something else is in flight; ask again when that has ended.
    Busy,
    /// Possible again after so many milliseconds.
    TooOften(u64),
}

/// Something an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The first refusal in an hour, after a second try with a new token.
    CredentialsRefused,
    OriginRefuses,
    TransportStopped,
}

#[derive(Debug)]
struct Pending {
    entry: OutboxEntry,
    /// Which of those that had this key one after the other: an attempt's end concerns its own.
    generation: u64,
    origin: Arc<str>,
    /// Where it is in `queue`.
    at: Option<UnixMillis>,
    /// It waits for its origin to open, and is in `queue` only to expire.
    held: bool,
    turn: Turn,
    /// When the first message after those in flight came.
    later_caused: Option<UnixMillis>,
}

/// Is it the turn of an entry that waited for a place?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    None,
    /// For a place of its origin, which is kept for it.
    Origin,
    /// For one of all.
    Any,
}

#[derive(Debug)]
struct Flight {
    generation: u64,
    origin: Arc<str>,
    started: UnixMillis,
    suspect: bool,
    /// How much of the entry it carries.
    uids: usize,
    count: u32,
}

pub(crate) struct Planner {
    limits: Limits,
    pending: BTreeMap<OutboxKey, Pending>,
    queue: BTreeSet<(UnixMillis, OutboxKey)>,
    /// When origins open that somebody waits for.
    doors: BTreeSet<(UnixMillis, Arc<str>)>,
    flights: HashMap<OutboxKey, Flight>,
    suspects: usize,
    devices: HashMap<Target, DeviceRun>,
    accounts: HashMap<AccountId, AccountRun>,
    origins: HashMap<Arc<str>, OriginRun>,
    service: ServiceRun,
    lost: Lost,
    /// Wait for any place at all: those of trusted origins, those of suspect ones.
    parked: [Fair; 2],
    generations: u64,
    /// Wake-ups that ended because nothing was left to say.
    settled: u64,
    edits: Vec<Edit>,
    alarms: Vec<Alarm>,
    swept: UnixMillis,
    /// The latest that it was.
    clock: UnixMillis,
}

/// Does an arrival concern phones at all?
pub(crate) fn is_news(mailbox_is_inbox: bool, source: Source, flags: Flags) -> bool {
    mailbox_is_inbox && source == Source::Delivery && !flags.system.contains(SystemFlags::SEEN)
}

/// Is this device woken for what happened `at`?
pub(crate) fn is_woken(device: &Device, at: UnixMillis, now: UnixMillis) -> bool {
    // Whole seconds, because a device may be added in the moment of a delivery. One from the
    // future was added before the clock was set back.
    let known = device.created.secs() <= at.secs() || device.created > now;
    device.state == DeviceState::Active && known
}

fn target(key: OutboxKey) -> Target {
    (key.account, key.device)
}

impl Planner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: BTreeMap::new(),
            queue: BTreeSet::new(),
            doors: BTreeSet::new(),
            flights: HashMap::new(),
            suspects: 0,
            devices: HashMap::new(),
            accounts: HashMap::new(),
            origins: HashMap::new(),
            service: ServiceRun::default(),
            lost: Lost::default(),
            parked: Default::default(),
            generations: 0,
            settled: 0,
            edits: Vec::new(),
            alarms: Vec::new(),
            swept: UnixMillis(0),
            clock: UnixMillis(0),
        }
    }

    /// After a reload.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes up an entry that the store holds already.
    pub(crate) fn restore(&mut self, now: UnixMillis, mut entry: OutboxEntry, origin: &str) {
        self.tick(now);
        in_time(&mut entry, now);
        // Fewer may have been hours of waiting that the service asked for.
        if entry.attempts >= RESTORED_FAILURES {
            let device = self.devices.entry(target(entry.key)).or_default();
            device.failed_before(entry.caused, entry.due);
        }
        self.insert(entry, origin);
    }

    /// A device was woken before a restart: what is collected goes on being so.
    pub(crate) fn woken_before(&mut self, now: UnixMillis, to: Target, at: UnixMillis) {
        // One from the future says nothing: the clock was set back.
        if at <= now && now.since(at) < HOUR {
            self.devices.entry(to).or_default().woken_before(at);
        }
    }

    /// Before a restart its push service had no host from the one to the other.
    pub(crate) fn lost_before(
        &mut self,
        now: UnixMillis,
        to: Target,
        since: UnixMillis,
        last: UnixMillis,
    ) {
        self.lost.restore(to, since.min(now), last.min(now));
    }

    /// A new message for a device that is to be woken.
    pub(crate) fn arrived(
        &mut self,
        now: UnixMillis,
        to: Target,
        origin: &str,
        mailbox: MailboxId,
        uid: Uid,
        caused: UnixMillis,
    ) {
        self.tick(now);
        self.sweep(now);
        let expires = caused.plus(self.limits.ttl);
        if expires <= now {
            return;
        }
        let key = OutboxKey {
            account: to.0,
            device: to.1,
            slot: WakeSlot::Mail(mailbox),
        };
        let Some(pending) = self.pending.get_mut(&key) else {
            let entry = OutboxEntry {
                key,
                uids: vec![uid],
                count: 1,
                caused,
                due: now,
                expires,
                attempts: 0,
            };
            self.edits.push(Edit::Put(entry.clone()));
            return self.insert(entry, origin);
        };
        let entry = &mut pending.entry;
        // After a crash changes are read again that an entry stands for already.
        if entry.uids.contains(&uid) {
            return;
        }
        entry.uids.push(uid);
        entry.count = entry.count.saturating_add(1);
        entry.expires = expires;
        let generation = pending.generation;
        let flight = self.flights.get_mut(&key);
        let flight = flight.filter(|flight| flight.generation == generation);
        if flight.is_some() {
            pending.later_caused.get_or_insert(caused);
        }
        if entry.uids.len() > OutboxEntry::MAX_UIDS {
            // The first stays, of those in flight and of the others: the rest is counted from it.
            match flight {
                Some(flight) if flight.uids > 1 => {
                    entry.uids.remove(1);
                    flight.uids -= 1;
                }
                Some(flight) => drop(entry.uids.remove(flight.uids + 1)),
                None => drop(entry.uids.remove(1)),
            }
        }
        self.edits.push(Edit::Put(entry.clone()));
    }

    /// A wake-up that is in the store already, such as that of a new device's code.
    fn insert(&mut self, entry: OutboxEntry, origin: &str) {
        let key = entry.key;
        let origin = match self.origins.get_key_value(origin) {
            Some((known, _)) => known.clone(),
            None => {
                let origin: Arc<str> = origin.into();
                self.origins.insert(origin.clone(), OriginRun::default());
                origin
            }
        };
        self.unqueue(key);
        self.take_turn(key);
        let due = entry.due;
        self.generations += 1;
        self.pending.insert(
            key,
            Pending {
                entry,
                generation: self.generations,
                origin,
                at: None,
                held: false,
                turn: Turn::None,
                later_caused: None,
            },
        );
        self.queue_at(key, due);
    }

    /// A message was read or removed: nobody need be woken for it.
    pub(crate) fn settled(&mut self, mailbox: MailboxKey, uid: Uid) {
        let slot = WakeSlot::Mail(mailbox.mailbox);
        let key = |device| OutboxKey {
            account: mailbox.account,
            device: DeviceId(device),
            slot: WakeSlot::Mail(MailboxId(0)),
        };
        let concerned: Vec<_> = self
            .pending
            .range(key(0)..)
            .take_while(|(key, _)| key.account == mailbox.account)
            .filter(|(key, pending)| key.slot == slot && pending.entry.uids.contains(&uid))
            .map(|(key, _)| *key)
            .collect();
        for key in concerned {
            self.settle_one(key, uid);
        }
    }

    fn settle_one(&mut self, key: OutboxKey, uid: Uid) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        let entry = &mut pending.entry;
        let Some(place) = entry.uids.iter().position(|u| *u == uid) else {
            return;
        };
        let generation = pending.generation;
        let flight = self.flights.get_mut(&key);
        let flight = flight.filter(|flight| flight.generation == generation);
        // Others are counted from there.
        let first = place == 0 || flight.as_ref().is_some_and(|f| f.uids == place);
        if first && entry.has_more() {
            return;
        }
        entry.uids.remove(place);
        entry.count = entry.count.saturating_sub(1);
        if let Some(flight) = flight {
            if place < flight.uids {
                flight.uids -= 1;
                flight.count = flight.count.saturating_sub(1);
            }
        } else if entry.count == 0 {
            self.settled += 1;
            return self.remove(key);
        }
        // One that is in flight is decided upon when the answer comes.
        let entry = entry.clone();
        self.edits.push(Edit::Put(entry));
    }

    /// The next thing to do at `now`; ask until there is none.
    pub(crate) fn poll(&mut self, now: UnixMillis) -> Option<Step> {
        self.tick(now);
        self.open_doors(now);
        loop {
            if let Some(step) = self.next_due(now) {
                return Some(step);
            }
            if !self.refill() {
                return None;
            }
        }
    }

    /// When to poll again, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<UnixMillis> {
        let queued = self.queue.first().map(|(at, _)| *at);
        let door = self.doors.first().map(|(at, _)| *at);
        queued.into_iter().chain(door).min()
    }

    /// The device is gone, and with it, in the store, its entries.
    pub(crate) fn forget(&mut self, to: Target) {
        self.lost.forget(to);
        for key in self.keys_of(to) {
            self.unqueue(key);
            self.take_turn(key);
            if let Some(pending) = self.pending.remove(&key) {
                self.pass_on(key.account, &pending.origin);
            }
        }
        if self.devices.get(&to).is_some_and(|d| !d.in_flight) {
            self.devices.remove(&to);
        }
    }

    /// Removes all that waits for a device that is not to be woken now.
    pub(crate) fn drop_entries(&mut self, to: Target) {
        for key in self.keys_of(to) {
            self.remove(key);
        }
    }

    /// The owner wants it woken again: old sins are forgiven.
    pub(crate) fn resumed(&mut self, to: Target) {
        self.lost.forget(to);
        if let Some(device) = self.devices.get_mut(&to) {
            device.forgive();
            device.hold = UnixMillis(0);
        }
    }

    /// Changes for the store since the last call, in order.
    pub(crate) fn take_edits(&mut self) -> Vec<Edit> {
        self.edits.extend(self.lost.take_changed().map(Edit::Lost));
        std::mem::take(&mut self.edits)
    }

    /// Wake-ups that ended since the last call because their messages were read or removed.
    pub(crate) fn take_settled(&mut self) -> u64 {
        std::mem::take(&mut self.settled)
    }

    pub(crate) fn take_alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }
}
