//! Rounds of load, `kill -9` and damage over one store, and what has to be true after each.
//!
//! `POSTHORN_KILL_ROUNDS=300 POSTHORN_KILL_SEED=7 cargo test --test kill rounds -- --nocapture`:
//! the seed repeats what is done and damaged; how far the server comes meanwhile is its own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::actor::{ACTORS, Actor, World};
use crate::chance::{Chance, LARGE, hash, message};
use crate::common::{SMTP, Smtp};
use crate::damage::damage;
use crate::ledger::{Ledger, Mail, Sent};
use crate::site::{ACCOUNTS, Site, address};

const ROUNDS: u64 = 40;
const SENDERS: u64 = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Keeps the files of a run that failed, and says how to repeat it.
struct Scene {
    home: Option<tempfile::TempDir>,
    seed: u64,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let home = self.home.take().map(tempfile::TempDir::keep);
            eprintln!("POSTHORN_KILL_SEED={}, files: {home:?}", self.seed);
        }
    }
}

/// Delivers until told to stop or the server is gone.
fn send(world: &World<'_>, name: &str, mut chance: Chance) {
    let port = world.site.base + SMTP;
    let connect = || {
        let mut smtp = Smtp::connect(port).ok()?;
        smtp.command("EHLO load.test").ok().map(|_| smtp)
    };
    let Some(mut smtp) = connect() else { return };
    for n in 0..40 {
        if world.stop.load(Ordering::Relaxed) {
            return;
        }
        let large = if chance.percent(2) { LARGE } else { "" };
        let id = format!("{name}-{n}{large}");
        let all = ACCOUNTS.len() as u64;
        let several = if chance.percent(40) {
            1 + chance.below(all)
        } else {
            1
        };
        let first = chance.below(all);
        let to = (0..several).map(|n| ((first + n) % all) as usize).collect();
        let body = message(&id);
        let mail = Mail {
            to,
            sent: Sent::Unsure,
            seen: Default::default(),
        };
        let to: Vec<String> = mail.to.iter().map(|a| address(*a)).collect();
        world.ledger.lock().unwrap().mail.insert(id.clone(), mail);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        match smtp.deliver("k@example.net", &to, &body) {
            Ok(reply) if reply.starts_with("250") => {
                let mut ledger = world.ledger.lock().unwrap();
                ledger.acked += 1;
                ledger.mail.get_mut(&id).expect("sent").sent = Sent::Acked;
            }
            Ok(reply) => {
                assert!(reply.starts_with('4'), "{id}: {reply}");
                std::thread::sleep(Duration::from_millis(20));
                match connect() {
                    Some(again) => smtp = again,
                    None => return,
                }
            }
            Err(_) => return,
        }
        std::thread::sleep(Duration::from_millis(chance.below(4)));
    }
}

/// Takes images and compacts, by the real commands.
fn look_after(world: &World<'_>, mut chance: Chance) -> u64 {
    let mut done = 0;
    while !world.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(chance.below(80)));
        let what = if chance.percent(50) {
            "compact"
        } else {
            "image"
        };
        let answer = world.site.cli.run(&["store", what], "");
        done += u64::from(answer.status == Some(0));
    }
    done
}

/// All that work, until the server is killed at any moment.
fn load(
    world: &World<'_>,
    actors: &mut [Actor],
    round: u64,
    chance: &mut Chance,
    kill: impl FnOnce(),
) -> u64 {
    let wait = Duration::from_millis(20 + chance.below(500));
    let seed = chance.next();
    let tended = chance.percent(60);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let name = format!("s{sender}-{round}");
            let own = Chance::new(seed ^ hash(&name));
            scope.spawn(move || send(world, &name, own));
        }
        for actor in actors {
            scope.spawn(move || actor.work(world));
        }
        let keeper = tended.then(|| scope.spawn(move || look_after(world, Chance::new(seed))));
        std::thread::sleep(wait);
        kill();
        world.stop.store(true, Ordering::Relaxed);
        keeper.map_or(0, |keeper| keeper.join().expect("keeper"))
    })
}

fn check(world: &World<'_>, actors: &mut [Actor], all: bool) -> u64 {
    let refusals = std::thread::scope(|scope| {
        let looking: Vec<_> = actors
            .iter_mut()
            .map(|actor| scope.spawn(move || actor.check(world, all)))
            .collect();
        let each = looking.into_iter().map(|l| l.join().expect("all is there"));
        each.sum()
    });
    world.ledger.lock().unwrap().settle();
    refusals
}

/// By the numbers that the server itself keeps.
fn nothing_is_wrong(site: &Site) {
    for name in ["lost_groups", "damaged_bodies", "panics", "write_failures"] {
        let name = format!("posthorn_store_{name}_total");
        assert_eq!(site.metric(&name), 0.0, "{name}");
    }
    assert_eq!(site.metric("posthorn_store_mended_mailboxes"), 0.0);
}

#[test]
fn rounds_of_kills_and_damage_lose_nothing() {
    let rounds = setting("POSTHORN_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("POSTHORN_KILL_SEED").unwrap_or(1);
    let home = tempfile::tempdir().expect("tempdir");
    let site = Site::new(home.path());
    let _scene = Scene {
        home: Some(home),
        seed,
    };
    let mut chance = Chance::new(seed);
    let ledger = Mutex::new(Ledger::default());
    let mut actors: Vec<Actor> = (0..ACCOUNTS.len())
        .flat_map(|account| (0..ACTORS).map(move |n| Actor::new(account, n, seed)))
        .collect();
    let started = Instant::now();
    // What was done → how often, how often the index was built anew, how often one was refused.
    let mut told: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let mut kept = 0;
    for round in 0..rounds {
        let damaged = damage(&site.data(), &site.home.join("older"), &mut chance);
        // Also while it recovers.
        let early = [0, 0, 0, 0, 1, 1, 2][chance.below(7) as usize];
        for _ in 0..early {
            let starting = site.spawn();
            std::thread::sleep(Duration::from_millis(chance.below(400)));
            starting.kill();
        }
        let server = site.start();
        let stop = AtomicBool::new(false);
        let world = World {
            site: &site,
            ledger: &ledger,
            stop: &stop,
        };
        // Some rounds go on at once; their damage is met under load.
        let mut refused = 0;
        if !chance.percent(25) {
            refused = check(&world, &mut actors, round % 10 == 0);
            nothing_is_wrong(&site);
        }
        let rebuilds = site.metric("posthorn_store_rebuilds_total") as u64;
        if damaged.rebuilds && early == 0 && round > 0 {
            assert!(rebuilds > 0, "{} and nobody noticed", damaged.what);
        }
        let line = told.entry(damaged.what).or_default();
        *line = (
            line.0 + 1,
            line.1 + u64::from(rebuilds > 0),
            line.2 + u64::from(refused > 0),
        );
        kept += load(&world, &mut actors, round, &mut chance, || server.kill());
        if round % 10 == 9 {
            let ledger = ledger.lock().unwrap();
            let took = started.elapsed().as_secs();
            eprintln!(
                "round {}, {took} s, {}: {} mails and {} changes acknowledged, {kept} by command",
                round + 1,
                damaged.what,
                ledger.acked,
                ledger.changes
            );
        }
    }
    let server = site.start();
    let stop = AtomicBool::new(false);
    let world = World {
        site: &site,
        ledger: &ledger,
        stop: &stop,
    };
    check(&world, &mut actors, true);
    nothing_is_wrong(&site);
    server.stop();
    for (what, (times, rebuilt, refused)) in told {
        eprintln!("{what}: {times} times, {rebuilt} with a rebuild, {refused} noticed by a client");
    }
    let ledger = ledger.lock().unwrap();
    assert!(
        ledger.acked > rounds && ledger.changes > rounds,
        "that was no load"
    );
}
