//! What failures of devices, services and ours come to.

use super::*;

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
fn refused_credentials_are_told_at_once_and_hold_the_device() {
    let mut p = planner();
    // A small server: one account, three services. All refuse, and an operator hears of it.
    for (id, origin) in [
        (1, "https://a.test"),
        (2, "https://b.test"),
        (3, "https://c.test"),
    ] {
        exchange(&mut p, device(id), origin, 1, Outcome::Auth, t(0));
        let alarms = p.take_alarms();
        let expected: &[Alarm] = if id == 1 {
            &[Alarm::CredentialsRefused]
        } else {
            &[]
        };
        assert_eq!(alarms, expected, "one in an hour");
    }
    mail(&mut p, 1, 2, t(10));
    assert_eq!(sent(&mut p, t(5 * MINUTE - 1)), None);
    for n in 0..12 {
        assert!(sent(&mut p, t((5 * n + 5) * MINUTE)).is_some());
        done(&mut p, 1, Outcome::Auth, t((5 * n + 5) * MINUTE));
        for id in [2, 3] {
            p.forget(device(id));
        }
    }
    assert_eq!(
        p.take_alarms(),
        [Alarm::CredentialsRefused],
        "an hour later"
    );
}

#[test]
fn three_accounts_hold_an_origin_and_all_origins_the_transport() {
    let mut p = planner();
    let origins = ["https://a.test", "https://b.test", "https://c.test"];
    let mut to = 0;
    for origin in origins {
        for n in 0..3 {
            exchange(&mut p, phone(to + n), origin, 1, DELIVERED, t(0));
        }
        to += 3;
    }
    let mut to = 0;
    for (nth, origin) in origins.into_iter().enumerate() {
        for n in 0..3 {
            assert!(p.alarms.iter().all(|a| *a != Alarm::TransportStopped));
            exchange(&mut p, phone(to + n), origin, 2, Outcome::Auth, t(MINUTE));
        }
        let refuses = p.take_alarms();
        assert!(refuses.contains(&Alarm::OriginRefuses));
        assert_eq!(refuses.contains(&Alarm::TransportStopped), nth == 2);
        p.arrived(t(MINUTE), phone(100), origin, INBOX, Uid(1), t(MINUTE));
        assert_eq!(started(&mut p, t(MINUTE)), None, "the origin is held");
        p.forget(phone(100));
        to += 3;
    }
    p.arrived(
        t(MINUTE),
        phone(200),
        "https://d.test",
        INBOX,
        Uid(1),
        t(MINUTE),
    );
    assert_eq!(started(&mut p, t(MINUTE)), None, "all is held");
    assert!(started(&mut p, t(6 * MINUTE)).is_some());
}

#[test]
fn hostile_services_stop_nobody_else() {
    // One account, nine verified devices on three services of its own, which begin to refuse.
    let mut p = planner();
    for id in 0..9 {
        let origin = format!("https://evil{}.test", id % 3);
        exchange(&mut p, device(id), &origin, 1, DELIVERED, t(0));
    }
    for id in 0..9 {
        let origin = format!("https://evil{}.test", id % 3);
        exchange(&mut p, device(id), &origin, 2, Outcome::Auth, t(MINUTE));
    }
    assert_eq!(p.take_alarms(), [Alarm::CredentialsRefused]);
    exchange(&mut p, phone(100), ORIGIN, 1, DELIVERED, t(MINUTE + 1));
    for id in 0..9 {
        p.forget(device(id));
    }
    // Three accounts that work together stop their own services, but not all.
    let hostile = |n: u32| (AccountId(10 + n / 3), DeviceId(n % 3));
    for (uid, outcome) in [(1, DELIVERED), (2, Outcome::Auth)] {
        for n in 0..9 {
            let origin = format!("https://own{}.test", n % 3);
            let at = t(u64::from(uid) * 10 * MINUTE);
            exchange(&mut p, hostile(n), &origin, uid, outcome, at);
        }
    }
    assert!(!p.take_alarms().contains(&Alarm::TransportStopped));
    exchange(&mut p, phone(101), ORIGIN, 1, DELIVERED, t(20 * MINUTE + 1));
}

#[test]
fn failures_far_apart_pause_nothing() {
    let (mut p, mut stored) = (planner(), Stored::default());
    for day in 0..5 {
        let at = t(u64::from(day) * DAY);
        mail(&mut p, 1, day + 1, at);
        assert!(sent(&mut p, at).is_some());
        done(&mut p, 1, TRANSIENT, at);
        p.settled(MAILBOX, Uid(day + 1));
        stored.take(&mut p);
        let last = &stored.devices.last().expect("noted").1;
        assert!(matches!(last, DeviceChange::Failure { .. }), "day {day}");
    }
    assert_eq!((p.take_settled(), p.take_settled()), (5, 0));
}

#[test]
fn at_once_is_not_for_ever() {
    let mut p = planner();
    mail(&mut p, 1, 1, t(0));
    let mut at = 0;
    for wait in [1, 5, 30, 120, 600, 1800] {
        assert!(sent(&mut p, t(at)).is_some(), "{wait}");
        let outcome = Outcome::Throttled { wait: Some(0) };
        done(&mut p, 1, outcome, t(at));
        at += wait * SECOND;
        assert_eq!(p.deadline(), Some(t(at)));
    }
}

#[test]
fn a_fault_of_ours_blames_nobody() {
    let (mut p, mut stored) = (planner(), Stored::default());
    mail(&mut p, 1, 1, t(0));
    let mut at = t(0);
    while at < t(DAY - HOUR) {
        assert!(sent(&mut p, at).is_some());
        p.done(at, key(1), &Answer::own_fault("client"), 0, true);
        at = p.deadline().expect("tried again");
    }
    assert!(stored.take(&mut p).devices.is_empty());
    assert_eq!(stored.outbox.len(), 1);
}

/// Hourly mail, an attempt with each, no host found by that name.
fn no_host(p: &mut Planner, hours: std::ops::Range<u64>) {
    for hour in hours {
        let (at, uid) = (t(hour * HOUR), 1 + hour as u32);
        mail(p, 1, uid, at);
        assert!(sent(p, at).is_some(), "hour {hour}");
        p.done(at, key(1), &answer_of("no-such-host"), 0, true);
        p.settled(MAILBOX, Uid(uid));
    }
}

fn answer_of(class: &'static str) -> Answer {
    Answer::none(TRANSIENT, class)
}

#[test]
fn a_week_without_a_host_of_that_name_is_the_end() {
    let (mut p, mut stored) = (planner(), Stored::default());
    no_host(&mut p, 0..7 * 24);
    let paused =
        |(_, change): &(Target, DeviceChange)| matches!(change, DeviceChange::Pause { .. });
    assert!(!stored.take(&mut p).devices.iter().any(paused));
    assert!(stored.removed.is_empty());
    no_host(&mut p, 7 * 24..7 * 24 + 1);
    assert_eq!(stored.take(&mut p).removed, [device(1)]);
    assert_eq!((p.deadline(), stored.lost.clone()), (None, vec![]));
}

#[test]
fn the_week_outlives_a_restart_and_begins_anew_when_the_host_is_there() {
    let (mut p, mut stored) = (planner(), Stored::default());
    no_host(&mut p, 0..100);
    assert_eq!(stored.take(&mut p).lost, [(device(1), t(0))]);
    let mut p = planner();
    p.lost_before(t(99 * HOUR), device(1), t(0), t(99 * HOUR));
    // Names that can't be looked up say nothing, nor does a fault of ours.
    for (hour, answer) in [
        (100, answer_of("name-lookup")),
        (101, Answer::own_fault("client")),
    ] {
        mail(&mut p, 1, hour as u32 + 1, t(hour * HOUR));
        assert!(sent(&mut p, t(hour * HOUR)).is_some());
        p.done(t(hour * HOUR), key(1), &answer, 0, true);
        p.settled(MAILBOX, Uid(hour as u32 + 1));
    }
    no_host(&mut p, 102..7 * 24 + 1);
    assert_eq!(stored.take(&mut p).removed, [device(1)]);

    let (mut p, mut stored) = (planner(), Stored::default());
    no_host(&mut p, 0..7 * 24);
    let found = t(7 * 24 * HOUR);
    mail(&mut p, 1, 1000, found);
    assert!(sent(&mut p, found).is_some());
    p.done(found, key(1), &answer_of("connect"), 0, true);
    p.settled(MAILBOX, Uid(1000));
    assert!(stored.take(&mut p).lost.is_empty());
    no_host(&mut p, 7 * 24 + 1..14 * 24);
    assert!(stored.take(&mut p).removed.is_empty());
}

#[test]
fn days_between_two_looks_prove_nothing() {
    let (mut p, mut stored) = (planner(), Stored::default());
    for day in [0, 4, 8, 12] {
        no_host(&mut p, day * 24..day * 24 + 1);
    }
    assert!(stored.take(&mut p).removed.is_empty());
    assert_eq!(stored.lost, [(device(1), t(12 * DAY))]);
}

#[test]
fn resuming_forgives_all() {
    let (mut p, mut stored) = (planner(), Stored::default());
    for n in 0..4u32 {
        if n == 2 {
            p.resumed(device(1));
        }
        let redirect = Outcome::Rejected(Rejection::Redirect);
        exchange(&mut p, device(1), ORIGIN, n + 1, redirect, t(u64::from(n)));
    }
    stored.take(&mut p);
    let paused =
        |(_, change): &(Target, DeviceChange)| matches!(change, DeviceChange::Pause { .. });
    assert!(!stored.devices.iter().any(paused));
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
    let wait = Some(10 * MINUTE);
    let throttled = Outcome::Throttled { wait };
    // One account's devices say nothing about others.
    for id in 1..=30 {
        exchange(&mut p, device(id), ORIGIN, 1, throttled, t(0));
    }
    let mut p = planner();
    for id in 1..=10 {
        let to = (AccountId(1 + id % 3), DeviceId(id));
        exchange(&mut p, to, ORIGIN, 1, throttled, t(0));
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
fn a_restart_remembers_a_day_of_failures_but_invents_none() {
    for (attempts, paused) in [(1, false), (5, true)] {
        let (mut p, mut stored) = (planner(), Stored::default());
        let entry = OutboxEntry {
            key: key(1),
            uids: vec![Uid(1)],
            count: 1,
            caused: t(0),
            due: t(DAY),
            expires: t(2 * DAY),
            attempts,
        };
        p.restore(t(0), entry, ORIGIN);
        assert!(sent(&mut p, t(DAY)).is_some());
        done(&mut p, 1, TRANSIENT, t(DAY));
        let last = &stored.take(&mut p).devices[0].1;
        assert_eq!(matches!(last, DeviceChange::Pause { .. }), paused);
    }
}

/// An answer with a status: the service was reached.
fn trouble(status: u16) -> Answer {
    Answer {
        status: Some(status),
        ..answer(TRANSIENT)
    }
}

#[test]
fn one_account_breaks_nobodys_service() {
    // Many devices of account 1 at a shared service that answers for them as it likes.
    for status in [507, 500, 503] {
        let mut p = planner();
        let bob = phone(2);
        exchange(&mut p, bob, ORIGIN, 1, DELIVERED, t(0));
        for n in 0..40 {
            mail(&mut p, n, 1, t(MINUTE));
            assert!(started(&mut p, t(MINUTE)).is_some(), "{status} {n}");
            p.done(t(MINUTE), key(n), &trouble(status), 0, true);
        }
        exchange(&mut p, bob, ORIGIN, 2, DELIVERED, t(MINUTE + 1));
    }
    // 507 says something about a subscription, whoever hears it.
    let mut p = planner();
    for n in 10..50 {
        p.arrived(t(0), phone(n), ORIGIN, INBOX, Uid(1), t(0));
        assert_eq!(started(&mut p, t(0)), Some(phone(n)), "{n}");
        p.done(t(0), key_of(phone(n)), &trouble(507), 0, true);
    }
    exchange(&mut p, phone(2), ORIGIN, 1, DELIVERED, t(1));
}

#[test]
fn codes_that_are_not_taken_break_nothing() {
    let mut p = planner();
    for n in 0..60 {
        let to = (AccountId(10 + n % 6), DeviceId(n));
        let key = OutboxKey {
            slot: WakeSlot::Verify,
            ..key_of(to)
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
        p.restore(t(0), entry, ORIGIN);
        assert_eq!(started(&mut p, t(0)), Some(to), "{n}");
        let answer = [trouble(503), answer(TRANSIENT), trouble(507)][n as usize % 3].clone();
        p.done(t(0), key, &answer, 0, true);
        p.forget(to);
    }
    exchange(&mut p, phone(2), ORIGIN, 1, DELIVERED, t(1));
}

#[test]
fn three_accounts_in_trouble_break_a_service() {
    let mut p = planner();
    for n in 0..20 {
        let to = (AccountId(10 + n % 3), DeviceId(n));
        p.arrived(t(0), to, ORIGIN, INBOX, Uid(1), t(0));
        assert_eq!(started(&mut p, t(0)), Some(to), "{n}");
        p.done(t(0), key_of(to), &trouble(502), 0, true);
    }
    p.arrived(t(1), phone(2), ORIGIN, INBOX, Uid(1), t(1));
    assert_eq!(started(&mut p, t(1)), None);
    assert!(started(&mut p, t(MINUTE)).is_some());
}

#[test]
fn probes_go_round_by_account() {
    let mut p = planner();
    // Account 1 has many devices at a service that nobody can reach.
    for id in 1..=20 {
        mail(&mut p, id, 1, t(0));
        assert!(sent(&mut p, t(0)).is_some(), "{id}");
        done(&mut p, id, TRANSIENT, t(0));
    }
    let others = [phone(2), phone(3)];
    for to in others {
        p.arrived(t(SECOND), to, ORIGIN, INBOX, Uid(1), t(SECOND));
    }
    let mut probed = vec![];
    for minute in 1..=3 {
        let at = t(minute * MINUTE);
        assert_eq!(started(&mut p, UnixMillis(at.0 - 1)), None, "{minute}");
        let to = started(&mut p, at).expect("a probe");
        assert_eq!(started(&mut p, at), None, "only one");
        p.done(at, key_of(to), &answer(TRANSIENT), 0, true);
        probed.push(to);
    }
    let accounts: BTreeSet<_> = probed.iter().map(|to| to.0.0).collect();
    assert_eq!(accounts.len(), 3, "{probed:?}");
    // All go when the service is back.
    let at = t(4 * MINUTE);
    let to = started(&mut p, at).expect("a probe");
    p.done(at, key_of(to), &answer(DELIVERED), 0, true);
    assert!((0..8).all(|_| started(&mut p, at).is_some()));
}

#[test]
fn what_waits_for_a_broken_service_expires_in_time() {
    let mut p = Planner::new(Limits {
        ttl: 3 * MINUTE,
        ..limits()
    });
    for id in 1..=20 {
        mail(&mut p, id, 1, t(0));
        assert!(sent(&mut p, t(0)).is_some(), "{id}");
        done(&mut p, id, TRANSIENT, t(0));
    }
    for minute in 1..=2 {
        let (id, ..) = sent(&mut p, t(minute * MINUTE)).expect("a probe");
        done(&mut p, id, TRANSIENT, t(minute * MINUTE));
    }
    while let Some(step) = p.poll(t(3 * MINUTE)) {
        assert!(matches!(step, Step::Expired(_)), "{step:?}");
    }
    assert!(p.pending.is_empty());
}
