//! A clock that is set back.

use super::*;

/// Before it is set right, the clock is so far ahead.
const AHEAD: u64 = 2 * DAY;

#[test]
fn a_woken_phone_is_woken_again() {
    let mut p = planner();
    exchange(&mut p, device(1), ORIGIN, 1, DELIVERED, t(AHEAD));
    mail(&mut p, 1, 2, t(10));
    assert_eq!(sent(&mut p, t(10)), None, "collected, as ever");
    assert_eq!(p.deadline(), Some(t(15 * SECOND + 10)));
    assert!(sent(&mut p, t(15 * SECOND + 10)).is_some());
    done(&mut p, 1, DELIVERED, t(15 * SECOND + 10));
    let test = p.begin_test(t(20 * SECOND), device(1), ORIGIN);
    assert!(matches!(test, TestStart::Begun(_)));
}

#[test]
fn the_cap_of_an_hour_is_not_one_of_days() {
    let mut p = Planner::new(Limits {
        per_hour: 2,
        coalesce: 0,
        ..limits()
    });
    for uid in 1..=2 {
        exchange(&mut p, device(1), ORIGIN, uid, DELIVERED, t(AHEAD));
    }
    mail(&mut p, 1, 3, t(0));
    assert_eq!(sent(&mut p, t(0)), None);
    assert!(sent(&mut p, t(HOUR)).is_some());
}

#[test]
fn what_waited_goes_on_waiting_as_long_as_before() {
    let (mut p, mut stored) = (planner(), Stored::default());
    exchange(&mut p, device(1), ORIGIN, 1, TRANSIENT, t(AHEAD));
    let wait = Some(10 * MINUTE);
    let throttled = Outcome::Throttled { wait };
    exchange(&mut p, device(2), "https://b.test", 1, throttled, t(AHEAD));
    assert_eq!(sent(&mut p, t(0)), None);
    assert!(sent(&mut p, t(5 * SECOND)).is_some());
    let entry = stored.take(&mut p).outbox[&key(2)].clone();
    let times = (entry.caused, entry.due, entry.expires);
    assert_eq!(times, (t(0), t(10 * MINUTE), t(DAY)));
    done(&mut p, 1, DELIVERED, t(5 * SECOND));
    assert_eq!(sent(&mut p, t(10 * MINUTE)).map(|s| s.0), Some(2));
    // A service that is only probed, and one that refuses our key.
    let mut p = planner();
    for id in 1..=20 {
        exchange(&mut p, device(id), ORIGIN, 1, TRANSIENT, t(AHEAD));
    }
    for n in 30..33 {
        exchange(
            &mut p,
            phone(n),
            "https://b.test",
            1,
            Outcome::Auth,
            t(AHEAD),
        );
    }
    assert_eq!(started(&mut p, t(0)), None);
    assert!(started(&mut p, t(MINUTE)).is_some(), "a probe");
    assert_eq!(started(&mut p, t(5 * MINUTE - 1)), None);
    let after: Vec<_> = std::iter::from_fn(|| started(&mut p, t(5 * MINUTE))).collect();
    assert!(after.contains(&phone(30)), "{after:?}");
}

#[test]
fn a_restart_trusts_no_times_from_the_future() {
    let mut p = planner();
    p.woken_before(t(0), device(1), t(AHEAD));
    mail(&mut p, 1, 1, t(0));
    assert!(sent(&mut p, t(0)).is_some());
    let entry = |id, caused, due| OutboxEntry {
        key: key(id),
        uids: vec![Uid(1)],
        count: 1,
        caused: t(caused),
        due: t(due),
        expires: t(caused + DAY),
        attempts: 1,
    };
    p.restore(t(0), entry(2, AHEAD, AHEAD + MINUTE), ORIGIN);
    p.restore(t(0), entry(3, 0, AHEAD), ORIGIN);
    assert_eq!(sent(&mut p, t(0)).map(|s| s.0), Some(3));
    assert_eq!(sent(&mut p, t(MINUTE)).map(|s| s.0), Some(2));
}

#[test]
fn hours_that_never_were_are_no_trouble() {
    let (mut p, mut stored) = (planner(), Stored::default());
    for (at, uid) in [(0, 1), (AHEAD, 2), (HOUR, 3)] {
        mail(&mut p, 1, uid, t(at));
        while let Some(step) = p.poll(t(at)) {
            if let Step::Send(_) = step {
                done(&mut p, 1, TRANSIENT, t(at));
            }
        }
        p.settled(MAILBOX, Uid(uid));
    }
    stored.take(&mut p);
    let paused =
        |(_, change): &(Target, DeviceChange)| matches!(change, DeviceChange::Pause { .. });
    assert!(!stored.devices.iter().any(paused));
}
