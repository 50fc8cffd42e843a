use super::*;
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
    Planner::new(Limits {
        coalesce: 15 * SECOND,
        per_hour: 60,
        ttl: DAY,
        in_flight_per_origin: 8,
        in_flight: 64,
        max_rejections: 20,
    })
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
    assert!(is_woken(&active, t(5000)));
    assert!(!is_woken(&active, t(3000)), "mail from before it was added");
    let paused = DeviceState::Paused {
        reason: String::new(),
    };
    assert!(!is_woken(&device(paused), t(6000)));
    let unverified = DeviceState::Unverified {
        code: String::new(),
        expires: t(9000),
    };
    assert!(!is_woken(&device(unverified), t(6000)));
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
fn failures_back_off_with_jitter_until_the_time_to_live_ends() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    let mut at = 0;
    for wait in [5, 30, 120, 600, 1800, 1800] {
        assert!(sent(&mut p, t(at)).is_some(), "{wait}");
        done(&mut p, 1, TRANSIENT, t(at));
        at += wait * SECOND;
        assert_eq!(p.deadline(), Some(t(at)));
        assert_eq!(stored.take(&mut p).outbox[&key(1)].due, t(at));
        assert_eq!(sent(&mut p, t(at - 1)), None);
    }
    assert_eq!(p.poll(t(DAY)), Some(Step::Expired(key(1))));
    assert!(stored.take(&mut p).outbox.is_empty());
    for (jitter, wait) in [(-200, 4000), (200, 6000), (-999, 4000), (0, 5000)] {
        assert_eq!(back_off(1, jitter), wait);
    }
}

#[test]
fn a_service_may_ask_for_more_time() {
    let mut p = planner();
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    let busy = Outcome::Transient {
        wait: Some(2 * MINUTE),
    };
    done(&mut p, 1, busy, t(0));
    assert_eq!(p.deadline(), Some(t(2 * MINUTE)));
    assert!(sent(&mut p, t(2 * MINUTE)).is_some());
    let throttled = Outcome::Throttled {
        wait: Some(5 * MINUTE),
    };
    done(&mut p, 1, throttled, t(2 * MINUTE));
    // Other mail for the device waits too.
    mail(&mut p, 1, 2, t(3 * MINUTE));
    assert_eq!(sent(&mut p, t(7 * MINUTE - 1)), None);
    assert_eq!(sent(&mut p, t(7 * MINUTE)), Some((1, vec![1, 2], 2)));
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
fn a_dead_registration_takes_all_with_it() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    mail(&mut p, 1, 2, t(1));
    done(&mut p, 1, Outcome::Gone, t(2));
    stored.take(&mut p);
    assert_eq!(stored.removed, [device(1)]);
    assert!(stored.outbox.is_empty());
    assert_eq!((p.poll(t(DAY)), p.deadline()), (None, None));
}

#[test]
fn rejections_drop_the_message_and_in_the_end_pause_the_device() {
    for (rejection, most, reason) in [
        (Rejection::Message, 20, "its push service rejects wake-ups"),
        (Rejection::Redirect, 3, "its push service redirects"),
    ] {
        let (mut p, mut stored) = (planner(), Stored::default());
        for n in 1..=most {
            let at = u64::from(n) * MINUTE;
            mail(&mut p, 1, n, t(at));
            assert!(sent(&mut p, t(at)).is_some(), "{n}");
            done(&mut p, 1, Outcome::Rejected(rejection), t(at));
            assert!(stored.take(&mut p).outbox.is_empty());
            let last = &stored.devices.last().expect("noted").1;
            let paused = matches!(last, DeviceChange::Pause { reason: r, .. } if *r == reason);
            assert_eq!(paused, n == most, "{n}");
        }
    }
}

#[test]
fn a_day_of_nothing_but_failures_pauses() {
    let (mut p, mut stored) = (planner(), Stored::default());
    for hour in 0..=24u32 {
        let at = u64::from(hour) * HOUR;
        mail(&mut p, 1, hour + 1, t(at));
        assert!(sent(&mut p, t(at)).is_some(), "{hour}");
        done(&mut p, 1, TRANSIENT, t(at));
        stored.take(&mut p);
        let last = &stored.devices.last().expect("noted").1;
        assert_eq!(matches!(last, DeviceChange::Pause { .. }), hour == 24);
        assert_eq!(stored.outbox.is_empty(), hour == 24);
    }
}

#[test]
fn refused_credentials_hold_the_device_then_the_origin_then_the_transport() {
    let mut p = planner();
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    done(&mut p, 1, Outcome::Auth, t(0));
    assert!(p.take_alarms().is_empty());
    mail(&mut p, 1, 2, t(1));
    assert_eq!(sent(&mut p, t(5 * MINUTE - 1)), None);
    mail(&mut p, 2, 1, t(2));
    assert!(
        sent(&mut p, t(2)).is_some(),
        "one device does not silence others"
    );
    done(&mut p, 2, Outcome::Auth, t(2));
    mail(&mut p, 3, 1, t(3));
    assert!(sent(&mut p, t(3)).is_some());
    done(&mut p, 3, Outcome::Auth, t(3));
    assert_eq!(p.take_alarms(), [Alarm::OriginRefuses]);
    mail(&mut p, 4, 1, t(4));
    assert_eq!(sent(&mut p, t(4)), None, "the origin is held");
    for (base, origin) in [(10, "https://b.test"), (20, "https://c.test")] {
        for id in base..base + 3 {
            p.arrived(t(5), device(id), origin, INBOX, Uid(1), t(5));
            assert!(sent(&mut p, t(5)).is_some(), "{id}");
            done(&mut p, id, Outcome::Auth, t(5));
        }
    }
    assert_eq!(
        p.take_alarms(),
        [
            Alarm::OriginRefuses,
            Alarm::OriginRefuses,
            Alarm::TransportStopped
        ]
    );
    p.arrived(t(6), device(30), "https://d.test", INBOX, Uid(1), t(6));
    assert_eq!(sent(&mut p, t(6)), None, "all is held");
    assert!(sent(&mut p, t(5 * MINUTE + 5)).is_some());
}

#[test]
fn a_registration_for_another_key_is_gone_where_others_are_served() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    p.done(t(0), key(1), &answer(Outcome::Auth), 0, false);
    assert!(stored.take(&mut p).removed.is_empty(), "it may be us");
    mail(&mut p, 2, 1, t(1));
    assert!(sent(&mut p, t(1)).is_some());
    done(&mut p, 2, DELIVERED, t(1));
    assert!(sent(&mut p, t(5 * MINUTE)).is_some());
    p.done(t(5 * MINUTE), key(1), &answer(Outcome::Auth), 0, false);
    assert_eq!(stored.take(&mut p).removed, [device(1)]);
}

#[test]
fn ten_throttled_devices_hold_their_origin() {
    let mut p = planner();
    for id in 1..=10 {
        mail(&mut p, id, 1, t(0));
        assert!(sent(&mut p, t(0)).is_some(), "{id}");
        let wait = Some(10 * MINUTE);
        done(&mut p, id, Outcome::Throttled { wait }, t(0));
    }
    mail(&mut p, 11, 1, t(1));
    assert_eq!(sent(&mut p, t(1)), None);
    p.arrived(t(1), device(12), "https://b.test", INBOX, Uid(1), t(1));
    assert_eq!(sent(&mut p, t(1)).map(|s| s.0), Some(12));
    assert!(sent(&mut p, t(10 * MINUTE)).is_some());
}

#[test]
fn a_broken_origin_is_probed_once_a_minute() {
    let mut p = planner();
    for id in 1..=20 {
        mail(&mut p, id, 1, t(0));
        assert!(sent(&mut p, t(0)).is_some(), "{id}");
        done(&mut p, id, TRANSIENT, t(0));
    }
    for minute in 1..5 {
        let at = t(minute * MINUTE);
        assert_eq!(sent(&mut p, UnixMillis(at.0 - 1)), None, "{minute}");
        let (id, ..) = sent(&mut p, at).expect("a probe");
        assert_eq!(sent(&mut p, at), None, "only one");
        done(&mut p, id, TRANSIENT, at);
    }
    let at = t(5 * MINUTE);
    let (id, ..) = sent(&mut p, at).expect("a probe");
    done(&mut p, id, DELIVERED, at);
    assert!((0..8).all(|_| sent(&mut p, at).is_some()), "it works again");
}

#[test]
fn places_are_limited_and_passed_on() {
    let mut p = planner();
    for id in 0..200 {
        mail(&mut p, id, 1, t(0));
    }
    let mut flying: VecDeque<u32> = VecDeque::new();
    let mut woken = BTreeSet::new();
    loop {
        while let Some((id, ..)) = sent(&mut p, t(1)) {
            flying.push_back(id);
        }
        assert!(flying.len() <= 8);
        let Some(id) = flying.pop_front() else { break };
        done(&mut p, id, DELIVERED, t(1));
        assert!(woken.insert(id));
    }
    assert_eq!(woken.len(), 200);
}

#[test]
fn strangers_leave_room_for_services_that_work() {
    let mut p = planner();
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    done(&mut p, 1, DELIVERED, t(0));
    let mut held = 0;
    for id in 100..200 {
        let origin = format!("https://{id}.test");
        p.arrived(t(1), device(id), &origin, INBOX, Uid(1), t(1));
        held += u32::from(sent(&mut p, t(1)).is_some());
    }
    assert_eq!(held, 32);
    mail(&mut p, 2, 1, t(2));
    assert_eq!(sent(&mut p, t(2)).map(|s| s.0), Some(2));
    // Whoever waited goes on when places are free, in whichever order they become so.
    let mut woken = 0;
    while !p.flights.is_empty() {
        let flying: Vec<_> = p.flights.keys().map(|key| key.device.0).collect();
        for id in flying {
            done(&mut p, id, DELIVERED, t(3));
            woken += 1;
        }
        while sent(&mut p, t(3)).is_some() {}
    }
    assert_eq!(woken, 101);
}

#[test]
fn places_are_not_lost_to_entries_that_vanish() {
    let mut p = planner();
    for id in 0..50 {
        mail(&mut p, id, 1, t(0));
    }
    let mut flying = vec![];
    while let Some((id, ..)) = sent(&mut p, t(0)) {
        flying.push(id);
    }
    // All that wait but the last go away.
    for id in 8..49 {
        p.forget(device(id));
    }
    for id in flying {
        done(&mut p, id, TRANSIENT, t(1));
    }
    assert_eq!(sent(&mut p, t(1)).map(|s| s.0), Some(49));
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
    assert_eq!((entry.uids.len(), entry.count), (OutboxEntry::MAX_UIDS, 99));
    assert_eq!(entry.uids.last(), Some(&Uid(100)));
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
    p.restore(entry, ORIGIN);
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
fn tests_have_their_own_limit() {
    let mut p = planner();
    let begin = |p: &mut Planner, at| p.begin_test(at, device(1), ORIGIN);
    let TestStart::Begun(key) = begin(&mut p, t(0)) else {
        panic!("free")
    };
    assert_eq!(begin(&mut p, t(1)), TestStart::Busy);
    mail(&mut p, 1, 1, t(2));
    assert_eq!(sent(&mut p, t(2)), None, "one in flight per device");
    p.done(t(3), key, &answer(DELIVERED), 0, true);
    assert_eq!(
        sent(&mut p, t(3)),
        Some((1, vec![1], 1)),
        "mail does not wait after it"
    );
    done(&mut p, 1, DELIVERED, t(4));
    for n in 1..5 {
        assert_eq!(begin(&mut p, t(10 + n)), TestStart::Begun(key));
        p.done(t(10 + n), key, &answer(DELIVERED), 0, true);
    }
    assert_eq!(begin(&mut p, t(20)), TestStart::TooOften);
    assert_eq!(begin(&mut p, t(MINUTE)), TestStart::Begun(key));
}

#[test]
fn a_code_that_is_not_accepted_leaves_the_record_alone() {
    let mut p = planner();
    let key = OutboxKey {
        slot: WakeSlot::Verify,
        ..key(1)
    };
    let entry = OutboxEntry {
        key,
        uids: vec![],
        count: 1,
        caused: t(0),
        due: t(0),
        expires: t(10 * MINUTE),
        attempts: 0,
    };
    p.restore(entry, ORIGIN);
    assert!(sent(&mut p, t(0)).is_some());
    p.done(t(1), key, &answer(TRANSIENT), 0, true);
    assert!(matches!(p.take_edits()[..], [Edit::Put(_)]));
    assert!(sent(&mut p, t(5 * SECOND + 1)).is_some());
    p.done(t(6 * SECOND), key, &answer(DELIVERED), 0, true);
    assert_eq!(p.take_edits(), [Edit::Remove(key)]);
}

#[test]
fn a_newer_code_is_sent_though_an_older_one_is_on_its_way() {
    let mut p = planner();
    let verify = OutboxKey {
        slot: WakeSlot::Verify,
        ..key(1)
    };
    let entry = |at: u64| OutboxEntry {
        key: verify,
        uids: vec![],
        count: 1,
        caused: t(at),
        due: t(at),
        expires: t(at + MINUTE),
        attempts: 0,
    };
    let next = |p: &mut Planner, at| match p.poll(at) {
        Some(Step::Send(entry)) => Some(entry.caused),
        _ => None,
    };
    p.restore(entry(0), ORIGIN);
    assert_eq!(next(&mut p, t(0)), Some(t(0)));
    p.restore(entry(500), ORIGIN);
    assert_eq!(next(&mut p, t(500)), None, "one at a time");
    p.done(t(2000), verify, &answer(DELIVERED), 0, true);
    assert_eq!(next(&mut p, t(2000)), Some(t(500)));
}
