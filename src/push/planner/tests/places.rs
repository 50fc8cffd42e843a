//! Who has a place, who waits, and who is next.

use super::*;

#[test]
fn an_account_has_a_few_places_and_waits_behind_nobody() {
    let mut p = Planner::new(Limits {
        in_flight_per_account: 4,
        in_flight: 16,
        ..limits()
    });
    // A slow service for each of many devices of one account.
    for id in 0..32 {
        let origin = format!("https://slow{id}.test");
        p.arrived(t(0), device(id), &origin, INBOX, Uid(1), t(0));
    }
    let flying: Vec<_> = std::iter::from_fn(|| started(&mut p, t(0))).collect();
    assert_eq!(flying.len(), 4);
    exchange(&mut p, phone(2), ORIGIN, 1, DELIVERED, t(1));
    // Others fill what is left: with places free again, accounts take turns.
    for account in 3..7 {
        for id in 0..8 {
            let to = (AccountId(account), DeviceId(id));
            p.arrived(t(2), to, ORIGIN, INBOX, Uid(1), t(2));
        }
    }
    let mut flying: Vec<_> = std::iter::from_fn(|| started(&mut p, t(2))).collect();
    assert_eq!(flying.len(), 8);
    let mut order = vec![];
    while let Some(to) = flying.pop() {
        p.done(t(3), key_of(to), &answer(DELIVERED), 0, true);
        while let Some(to) = started(&mut p, t(3)) {
            order.push(to.0.0);
            flying.push(to);
        }
    }
    assert_eq!(order.len(), 24, "all of them in the end");
    let first: BTreeSet<_> = order[..4].iter().collect();
    assert!(first.len() >= 3, "{order:?}");
    // The slow ones go on when they are done, in whichever way.
    let mut ended = 0;
    let mut slow: Vec<_> = p.flights.keys().copied().collect();
    while let Some(key) = slow.pop() {
        p.done(t(4), key, &answer(DELIVERED), 0, true);
        ended += 1;
        while let Some(to) = started(&mut p, t(4)) {
            slow.push(key_of(to));
        }
    }
    assert_eq!(ended, 32);
    assert!(p.accounts.values().all(AccountRun::is_idle));
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
    assert_eq!(begin(&mut p, t(20)), TestStart::TooOften(MINUTE - 20));
    assert_eq!(begin(&mut p, t(MINUTE)), TestStart::Begun(key));
}

#[test]
fn nothing_waits_for_ever() {
    for seed in 1..=20u64 {
        let mut p = Planner::new(Limits {
            in_flight_per_account: 2,
            in_flight_per_origin: 2,
            in_flight: 4,
            ..limits()
        });
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let (mut now, mut uid) = (t(0), 0);
        let mut flying = vec![];
        for _ in 0..2000 {
            let account = AccountId(random(6) as u32);
            let to = (account, DeviceId(random(5) as u32));
            match random(10) {
                0..=3 => {
                    uid += 1;
                    let origin = format!("https://{}.test", to.1.0 % 3);
                    p.arrived(now, to, &origin, INBOX, Uid(uid), now);
                }
                4 => p.forget(to),
                5 => {
                    let mailbox = INBOX;
                    p.settled(MailboxKey { account, mailbox }, Uid(uid));
                }
                6 => now = now.plus(random(40) * SECOND),
                _ if !flying.is_empty() => {
                    let key: OutboxKey = flying.swap_remove(random(flying.len() as u64) as usize);
                    let outcome = [
                        DELIVERED,
                        DELIVERED,
                        TRANSIENT,
                        Outcome::Auth,
                        Outcome::Throttled { wait: Some(0) },
                    ][random(5) as usize];
                    p.done(now, key, &answer(outcome), 0, true);
                }
                _ => {}
            }
            while let Some(step) = p.poll(now) {
                if let Step::Send(entry) = step {
                    flying.push(entry.key);
                }
            }
            assert!(flying.len() <= 4 && p.flights.len() == flying.len());
        }
        // From here on all goes well.
        loop {
            while let Some(step) = p.poll(now) {
                if let Step::Send(entry) = step {
                    flying.push(entry.key);
                }
            }
            if let Some(key) = flying.pop() {
                p.done(now, key, &answer(DELIVERED), 0, true);
            } else if let Some(at) = p.deadline() {
                now = now.max(at);
            } else {
                break;
            }
        }
        assert!(p.pending.is_empty(), "seed {seed}: {:?}", p.pending);
        assert!(p.origins.values().all(|o| o.in_flight + o.granted == 0));
    }
}
