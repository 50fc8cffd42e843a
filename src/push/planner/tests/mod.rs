//! The planner as a machine: time is passed in, edits and steps come out.

mod clock;
mod failing;
mod places;

use std::collections::VecDeque;

use super::run::{DAY, back_off};
use super::*;
use crate::push::outcome::{Answer, Outcome, Rejection};
use crate::store::{ContentLevel, DeviceKind};

const A: AccountId = AccountId(1);
const INBOX: MailboxId = MailboxId(1);
const MAILBOX: MailboxKey = MailboxKey {
    account: A,
    mailbox: INBOX,
};
const T0: u64 = 1_800_000_000_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const ORIGIN: &str = "https://push.test";

fn planner() -> Planner {
    Planner::new(limits())
}

fn limits() -> Limits {
    Limits {
        coalesce: 15 * SECOND,
        per_hour: 60,
        ttl: DAY,
        in_flight_per_account: 64,
        in_flight_per_origin: 8,
        in_flight: 64,
        max_rejections: 20,
    }
}

/// The only device of an account.
fn phone(account: u32) -> Target {
    (AccountId(account), DeviceId(1))
}

fn key_of(to: Target) -> OutboxKey {
    OutboxKey {
        account: to.0,
        device: to.1,
        slot: WakeSlot::Mail(INBOX),
    }
}

/// What is sent at this moment, of many accounts.
fn started(p: &mut Planner, at: UnixMillis) -> Option<Target> {
    match p.poll(at)? {
        Step::Send(entry) => Some(target(entry.key)),
        Step::Expired(_) => None,
    }
}

/// Mail for `to`, an attempt at once, and its outcome.
fn exchange(p: &mut Planner, to: Target, origin: &str, uid: u32, outcome: Outcome, at: UnixMillis) {
    p.arrived(at, to, origin, INBOX, Uid(uid), at);
    assert_eq!(started(p, at), Some(to), "{origin}");
    p.done(at, key_of(to), &answer(outcome), 0, true);
}

fn t(millis: u64) -> UnixMillis {
    UnixMillis(T0 + millis)
}

fn device(id: u32) -> Target {
    (A, DeviceId(id))
}

fn key(id: u32) -> OutboxKey {
    OutboxKey {
        account: A,
        device: DeviceId(id),
        slot: WakeSlot::Mail(INBOX),
    }
}

fn mail(p: &mut Planner, id: u32, uid: u32, at: UnixMillis) {
    p.arrived(at, device(id), ORIGIN, INBOX, Uid(uid), at);
}

fn answer(outcome: Outcome) -> Answer {
    Answer::none(outcome, "class")
}

const DELIVERED: Outcome = Outcome::Delivered;
const TRANSIENT: Outcome = Outcome::Transient { wait: None };

fn done(p: &mut Planner, id: u32, outcome: Outcome, at: UnixMillis) {
    p.done(at, key(id), &answer(outcome), 0, true);
}

/// UIDs of what is sent at this moment.
fn sent(p: &mut Planner, at: UnixMillis) -> Option<(u32, Vec<u32>, u32)> {
    match p.poll(at)? {
        Step::Send(entry) => Some((
            entry.key.device.0,
            entry.uids.iter().map(|u| u.0).collect(),
            entry.count,
        )),
        Step::Expired(_) => None,
    }
}

/// What the store would hold after all edits so far.
#[derive(Default)]
struct Stored {
    outbox: BTreeMap<OutboxKey, OutboxEntry>,
    devices: Vec<(Target, DeviceChange)>,
    removed: Vec<Target>,
    lost: Vec<(Target, UnixMillis)>,
}

impl Stored {
    fn take(&mut self, p: &mut Planner) -> &mut Self {
        for edit in p.take_edits() {
            match edit {
                Edit::Put(entry) => {
                    self.outbox.insert(entry.key, entry);
                }
                Edit::Remove(key) => {
                    self.outbox.remove(&key);
                }
                Edit::Device(to, change) => self.devices.push((to, change)),
                Edit::Lost(lost) => self.lost = lost,
                Edit::RemoveDevice(to) => {
                    self.removed.push(to);
                    self.outbox.retain(|key, _| target(*key) != to);
                }
            }
        }
        self
    }
}

#[test]
fn what_is_news() {
    let seen = Flags {
        system: SystemFlags::SEEN,
        keywords: 0,
    };
    let plain = Flags::default();
    assert!(is_news(true, Source::Delivery, plain));
    assert!(!is_news(false, Source::Delivery, plain));
    assert!(!is_news(true, Source::Append, plain));
    assert!(!is_news(true, Source::Copy, plain));
    assert!(!is_news(true, Source::Delivery, seen));
}

#[test]
fn who_is_woken() {
    let device = |state| Device {
        id: DeviceId(1),
        account: A,
        name: "phone".into(),
        kind: DeviceKind::WebPush {
            endpoint: String::new(),
            p256dh: vec![],
            auth: vec![],
            vapid_key: vec![],
        },
        state,
        show: ContentLevel::default(),
        created: t(5000),
        last_success: None,
        last_failure: None,
        last_error: None,
        failures: 0,
    };
    let active = device(DeviceState::Active);
    assert!(is_woken(&active, t(5000), t(5000)));
    assert!(
        !is_woken(&active, t(3000), t(5000)),
        "mail from before it was added"
    );
    assert!(
        is_woken(&active, t(3000), t(3500)),
        "added when the clock was ahead"
    );
    let paused = DeviceState::Paused {
        reason: String::new(),
    };
    assert!(!is_woken(&device(paused), t(6000), t(6000)));
    let unverified = DeviceState::Unverified {
        code: String::new(),
        expires: t(9000),
    };
    assert!(!is_woken(&device(unverified), t(6000), t(6000)));
}

#[test]
fn the_first_goes_at_once_and_the_last_always_goes() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert_eq!(sent(&mut p, t(0)), Some((1, vec![1], 1)));
    done(&mut p, 1, DELIVERED, t(20));
    assert!(stored.take(&mut p).outbox.is_empty());
    for uid in 2..=5 {
        mail(&mut p, 1, uid, t(u64::from(uid) * SECOND));
        assert_eq!(sent(&mut p, t(u64::from(uid) * SECOND)), None);
    }
    assert_eq!(stored.take(&mut p).outbox[&key(1)].count, 4);
    assert_eq!(p.deadline(), Some(t(15 * SECOND)));
    assert_eq!(sent(&mut p, t(15 * SECOND - 1)), None);
    assert_eq!(sent(&mut p, t(15 * SECOND)), Some((1, vec![2, 3, 4, 5], 4)));
    done(&mut p, 1, DELIVERED, t(15 * SECOND));
    assert!(stored.take(&mut p).outbox.is_empty());
    assert_eq!(p.deadline(), None);
    // After a quiet time at once again.
    mail(&mut p, 1, 6, t(MINUTE));
    assert_eq!(sent(&mut p, t(MINUTE)), Some((1, vec![6], 1)));
}

#[test]
fn what_comes_during_an_attempt_is_kept_for_the_next() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert_eq!(sent(&mut p, t(0)), Some((1, vec![1], 1)));
    mail(&mut p, 1, 2, t(10));
    assert_eq!(sent(&mut p, t(10)), None, "one in flight per device");
    done(&mut p, 1, DELIVERED, t(20));
    let entry = stored.take(&mut p).outbox[&key(1)].clone();
    assert_eq!((entry.uids, entry.count), (vec![Uid(2)], 1));
    assert_eq!(entry.caused, t(10));
    assert_eq!(sent(&mut p, t(15 * SECOND)), Some((1, vec![2], 1)));
}

#[test]
fn the_hour_is_capped() {
    let mut p = planner();
    let mut at = 0;
    let mut uid = 0;
    for _ in 0..60 {
        uid += 1;
        mail(&mut p, 1, uid, t(at));
        assert!(sent(&mut p, t(at)).is_some());
        done(&mut p, 1, DELIVERED, t(at));
        at += 20 * SECOND;
    }
    mail(&mut p, 1, 1000, t(at));
    assert_eq!(sent(&mut p, t(at)), None);
    assert_eq!(sent(&mut p, t(HOUR - 1)), None);
    assert_eq!(sent(&mut p, t(HOUR)), Some((1, vec![1000], 1)));
}

#[test]
fn what_was_read_wakes_nobody() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    mail(&mut p, 2, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    assert!(sent(&mut p, t(0)).is_some());
    done(&mut p, 1, DELIVERED, t(1));
    done(&mut p, 2, TRANSIENT, t(1));
    mail(&mut p, 1, 2, t(2));
    mail(&mut p, 2, 2, t(2));
    stored.take(&mut p);
    assert_eq!(stored.outbox[&key(2)].count, 2);
    p.settled(MAILBOX, Uid(2));
    stored.take(&mut p);
    assert!(!stored.outbox.contains_key(&key(1)), "nothing left to say");
    assert_eq!(stored.outbox[&key(2)].uids, [Uid(1)]);
    let other = MailboxKey {
        mailbox: MailboxId(2),
        ..MAILBOX
    };
    p.settled(other, Uid(1));
    assert!(stored.take(&mut p).outbox.contains_key(&key(2)));
    p.settled(MAILBOX, Uid(1));
    assert!(stored.take(&mut p).outbox.is_empty());
    assert_eq!((p.poll(t(DAY)), p.deadline()), (None, None));
}

#[test]
fn what_is_read_during_an_attempt_is_not_tried_again() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    p.settled(MAILBOX, Uid(1));
    done(&mut p, 1, TRANSIENT, t(5));
    assert!(stored.take(&mut p).outbox.is_empty());
    mail(&mut p, 1, 2, t(10));
    assert!(sent(&mut p, t(10)).is_some());
    mail(&mut p, 1, 3, t(11));
    p.settled(MAILBOX, Uid(2));
    done(&mut p, 1, DELIVERED, t(12));
    assert_eq!(stored.take(&mut p).outbox[&key(1)].uids, [Uid(3)]);
}

#[test]
fn an_entry_that_was_replaced_outlives_the_old_attempt() {
    let verify = OutboxKey {
        slot: WakeSlot::Verify,
        ..key(1)
    };
    let entry = |at| OutboxEntry {
        key: verify,
        uids: vec![],
        count: 1,
        caused: t(at),
        due: t(at),
        expires: t(10 * MINUTE),
        attempts: 0,
    };
    for outcome in [DELIVERED, TRANSIENT, Outcome::Rejected(Rejection::Message)] {
        let mut p = planner();
        p.restore(t(0), entry(0), ORIGIN);
        assert!(started(&mut p, t(0)).is_some());
        // Registered again with new keys: a new code.
        p.restore(t(5), entry(5), ORIGIN);
        assert_eq!(started(&mut p, t(5)), None, "one in flight per device");
        p.done(t(6), verify, &answer(outcome), 0, true);
        assert_eq!(started(&mut p, t(6)), Some(device(1)), "{outcome:?}");
        p.done(t(7), verify, &answer(DELIVERED), 0, true);
        assert!(p.pending.is_empty());
    }
    // Paused and resumed during an attempt: what comes then is not what it carried.
    let mut p = planner();
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    p.drop_entries(device(1));
    mail(&mut p, 1, 2, t(1));
    done(&mut p, 1, DELIVERED, t(2));
    assert_eq!(sent(&mut p, t(15 * SECOND)), Some((1, vec![2], 1)));
}

#[test]
fn collecting_goes_on_after_a_restart() {
    let mut p = planner();
    p.woken_before(t(0), device(1), UnixMillis(T0 - 5 * SECOND));
    mail(&mut p, 1, 1, t(0));
    assert_eq!(p.poll(t(10 * SECOND - 1)), None);
    assert!(sent(&mut p, t(10 * SECOND)).is_some());
}

#[test]
fn the_first_after_a_restart_goes_at_once() {
    let mut p = planner();
    p.woken_before(t(0), device(1), UnixMillis(T0 - 15 * SECOND));
    p.woken_before(t(0), device(2), UnixMillis(T0 - 30 * MINUTE));
    for id in 1..=2 {
        exchange(&mut p, device(id), ORIGIN, 1, DELIVERED, t(0));
    }
    // The second is one of those that are given out evenly.
    mail(&mut p, 1, 2, t(1));
    assert_eq!(sent(&mut p, t(MINUTE - 1)), None);
    assert!(sent(&mut p, t(MINUTE)).is_some());
    // One that failed was none.
    let mut p = planner();
    p.woken_before(t(0), device(1), UnixMillis(T0 - MINUTE / 2));
    exchange(&mut p, device(1), ORIGIN, 1, TRANSIENT, t(0));
    assert!(sent(&mut p, t(5 * SECOND)).is_some());
}

#[test]
fn a_restart_does_not_exceed_the_cap_of_an_hour() {
    // How often it was woken is forgotten: the hour's share is given out evenly.
    let mut p = planner();
    p.woken_before(t(0), device(1), UnixMillis(T0 - 1));
    let hour = |p: &mut Planner, from: u64, uid: &mut u32| {
        let mut woken = Vec::new();
        for at in (from..from + HOUR).step_by(SECOND as usize) {
            *uid += 1;
            mail(p, 1, *uid, t(at));
            if sent(p, t(at)).is_some() {
                done(p, 1, DELIVERED, t(at));
                woken.push(at);
            }
        }
        woken
    };
    let mut uid = 0;
    let first = hour(&mut p, 0, &mut uid);
    assert!((55..=60).contains(&first.len()), "{}", first.len());
    assert!(first.windows(2).all(|w| w[1] - w[0] >= MINUTE));
    // Crashing again and again gives nobody more than collecting does.
    let mut last = 0;
    for minute in 1..=120 {
        let mut p = planner();
        p.woken_before(t(last), device(1), t(last));
        mail(&mut p, 1, 1, t(last));
        let at = p.deadline().expect("queued").max(t(last));
        let at = match p.poll(at) {
            Some(_) => at,
            None => p.deadline().expect("queued again"),
        };
        last = at.0 - T0;
        assert!(last >= minute * 15 * SECOND, "{minute}: {last}");
    }
    // What was sent since is known after an hour.
    let quiet = 3 * HOUR;
    assert_eq!(
        hour(&mut p, quiet, &mut uid)[..2],
        [quiet, quiet + 15 * SECOND]
    );
}

#[test]
fn a_list_of_messages_is_bounded() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    for uid in 2..=100 {
        mail(&mut p, 1, uid, t(u64::from(uid)));
    }
    let entry = &stored.take(&mut p).outbox[&key(1)];
    assert_eq!(
        (entry.uids.len(), entry.count),
        (OutboxEntry::MAX_UIDS, 100)
    );
    done(&mut p, 1, DELIVERED, t(200));
    let entry = &stored.take(&mut p).outbox[&key(1)];
    let listed = OutboxEntry::MAX_UIDS - 1;
    assert_eq!((entry.uids.len(), entry.count), (listed, 99));
    assert_eq!(entry.uids.last(), Some(&Uid(100)));
    // The first stays, read or not: between it and the next are those without room.
    assert_eq!(entry.uids[..2], [Uid(2), Uid(71)]);
    p.settled(MAILBOX, Uid(2));
    p.settled(MAILBOX, Uid(71));
    assert!(sent(&mut p, t(15 * SECOND)).is_some());
    mail(&mut p, 1, 101, t(16 * SECOND));
    for uid in 102..=140 {
        mail(&mut p, 1, uid, t(17 * SECOND));
    }
    p.settled(MAILBOX, Uid(101));
    let entry = &stored.take(&mut p).outbox[&key(1)];
    assert_eq!((entry.uids[0], entry.count), (Uid(2), 138));
    done(&mut p, 1, DELIVERED, t(18 * SECOND));
    let entry = &stored.take(&mut p).outbox[&key(1)];
    assert_eq!((entry.uids[0], entry.count), (Uid(101), 40));
}

#[test]
fn a_restart_takes_up_where_it_was() {
    let mut p = planner();
    let entry = OutboxEntry {
        key: key(1),
        uids: vec![Uid(1)],
        count: 1,
        caused: t(0),
        due: t(5 * SECOND),
        expires: t(DAY),
        attempts: 1,
    };
    p.restore(t(0), entry, ORIGIN);
    assert!(p.take_edits().is_empty());
    // The change is read again where the cursor was behind.
    mail(&mut p, 1, 1, t(1));
    assert!(p.take_edits().is_empty());
    assert_eq!(sent(&mut p, t(0)), None);
    assert_eq!(sent(&mut p, t(5 * SECOND)), Some((1, vec![1], 1)));
    done(&mut p, 1, TRANSIENT, t(5 * SECOND));
    assert_eq!(p.deadline(), Some(t(35 * SECOND)), "the second wait");
}

#[test]
fn mail_from_too_long_ago_wakes_nobody() {
    let mut p = planner();
    p.arrived(t(DAY), device(1), ORIGIN, INBOX, Uid(1), t(0));
    assert_eq!((p.take_edits().len(), p.deadline()), (0, None));
}

#[test]
fn a_code_that_is_not_accepted_is_noted_and_never_pauses() {
    let mut p = planner();
    let key = OutboxKey {
        slot: WakeSlot::Verify,
        ..key(1)
    };
    let entry_of = |at: UnixMillis| OutboxEntry {
        key,
        uids: vec![],
        count: 1,
        caused: at,
        due: at,
        expires: at.plus(10 * MINUTE),
        attempts: 0,
    };
    p.restore(t(0), entry_of(t(0)), ORIGIN);
    assert!(sent(&mut p, t(0)).is_some());
    p.done(t(1), key, &answer(TRANSIENT), 0, true);
    let noted = |at| {
        let class = "class".to_owned();
        Edit::Device(device(1), DeviceChange::Failure { at, class })
    };
    let edits = p.take_edits();
    assert!(matches!(&edits[..], [Edit::Put(_), change] if *change == noted(t(1))));
    assert!(sent(&mut p, t(5 * SECOND + 1)).is_some());
    p.done(t(6 * SECOND), key, &answer(DELIVERED), 0, true);
    assert_eq!(p.take_edits(), [Edit::Remove(key)]);
    // Redirected three times: a new device is forgotten in time, not paused.
    for n in 0..3 {
        p.restore(t(MINUTE + n), entry_of(t(MINUTE + n)), ORIGIN);
        assert!(sent(&mut p, t(MINUTE + n)).is_some());
        let redirect = Outcome::Rejected(Rejection::Redirect);
        p.done(t(MINUTE + n), key, &answer(redirect), 0, true);
        assert!(p.take_edits().contains(&noted(t(MINUTE + n))));
    }
}
