//! Twenty sessions that append, flag, copy, move, expunge and look at random over the same few
//! mailboxes. Each keeps its own books from what it is told, all of them share what must hold for
//! everybody, and in the end everybody agrees with a session that is new.
//!
//! `POSTHORN_WORLD_SECS` makes it run for so long (8), `POSTHORN_WORLD_SEED` otherwise.

mod seat;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::common::Imap;
use super::{ALICE, server};
use seat::{Flags, Kind, Seat, flags_of, number_after};

const BOXES: [&str; 3] = ["box0", "box1", "deep/box2"];
const SEATS: u64 = 20;

/// What all sessions together know.
#[derive(Default)]
struct Facts {
    /// What a message is, by mailbox and UID.
    tokens: HashMap<(usize, u32), u64>,
    /// Messages that a command may have marked \Deleted.
    deleted: HashSet<(usize, u32)>,
    moved: HashSet<(usize, u32)>,
    /// Copies, from what to what: they come with the flags of what was copied.
    copies: Vec<((usize, u32), (usize, u32))>,
    /// Somebody was told that it went, and what tells why may come later.
    gone: HashSet<(usize, u32)>,
    next_token: u64,
}

impl Facts {
    /// A UID means the same message to everybody, for ever.
    fn is(&mut self, mailbox: usize, uid: u32, token: u64) {
        let known = *self.tokens.entry((mailbox, uid)).or_insert(token);
        assert_eq!(known, token, "{} UID {uid}", BOXES[mailbox]);
    }
}

impl Facts {
    /// Nothing goes unless somebody wanted it to.
    fn check_gone(&mut self) {
        loop {
            let before = self.deleted.len();
            for (from, to) in &self.copies {
                if self.deleted.contains(from) {
                    self.deleted.insert(*to);
                }
            }
            if self.deleted.len() == before {
                break;
            }
        }
        for at in &self.gone {
            assert!(
                self.deleted.contains(at) || self.moved.contains(at),
                "{} {} went and nobody removed it",
                BOXES[at.0],
                at.1
            );
        }
    }
}

type World = Arc<Mutex<Facts>>;

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|v| v.parse().ok());
    value.unwrap_or(default)
}

/// UIDs with their flags, as a new session finds them.
fn truth(imap: &mut Imap, mailbox: usize, world: &World) -> BTreeMap<u32, Flags> {
    imap.ok(&format!("EXAMINE {}", BOXES[mailbox]));
    let lines = imap.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (X-TOKEN)])");
    let mut all = BTreeMap::new();
    for line in lines.iter().filter(|l| l.text.contains(" FETCH (")) {
        let uid = number_after(&line.text, "UID ").expect("a UID");
        let token = seat::token(&line.literals[0]).expect("a token");
        world.lock().expect("no panic").is(mailbox, uid, token);
        all.insert(uid, flags_of(&line.text).expect("flags"));
    }
    all
}

#[test]
fn twenty_sessions_see_one_consistent_world() {
    let (_home, server) = server();
    let world = World::default();
    let mut fresh = server.imap(ALICE);
    for name in BOXES {
        fresh.ok(&format!("CREATE {name}"));
    }
    let capability = fresh.ok("CAPABILITY")[0].text.clone();
    let seed = variable("POSTHORN_WORLD_SEED", 1);
    let until = Instant::now() + Duration::from_secs(variable("POSTHORN_WORLD_SECS", 8));
    let mut seats: Vec<Seat> = (0..SEATS)
        .map(|n| {
            let kind = Kind::of(n, &capability);
            let random = (seed * 1000 + n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Seat::new(server.imap(ALICE), kind, random, world.clone())
        })
        .collect();
    let mut agreed = 0;
    while Instant::now() < until {
        // What was not told is forgotten soon, so they agree often.
        let end = Instant::now() + Duration::from_millis(200);
        let threads: Vec<_> = seats
            .into_iter()
            .map(|mut seat| {
                std::thread::spawn(move || {
                    while Instant::now() < end {
                        seat.act();
                    }
                    seat
                })
            })
            .collect();
        seats = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .expect("a seat found something wrong, see above")
            })
            .collect();
        agreed += agree(&mut seats, &mut fresh, &world);
    }
    let actions: u64 = seats.iter().map(|seat| seat.actions).sum();
    assert!(
        actions > 20 * SEATS,
        "{actions} are too few to say anything"
    );
    assert!(agreed > 0, "nobody knew anything");
}

/// Everybody hears the rest, and then knows what a new session finds. Gives how many flags were
/// known.
fn agree(seats: &mut [Seat], fresh: &mut Imap, world: &World) -> usize {
    let truths: Vec<_> = (0..BOXES.len()).map(|at| truth(fresh, at, world)).collect();
    let mut agreed = 0;
    for seat in seats {
        seat.settle();
        for (at, truth) in truths.iter().enumerate() {
            let unseen = truth.values().filter(|f| !f.contains("\\seen")).count();
            seat.status(at, truth.len(), unseen);
        }
        let Some((mailbox, messages)) = seat.known() else {
            continue;
        };
        let truth = &truths[mailbox];
        assert_eq!(messages.len(), truth.len(), "{}", seat.story());
        for (known, (uid, flags)) in messages.iter().zip(truth) {
            let fits = known.uid.is_none_or(|known| known == *uid)
                && known.flags.as_ref().is_none_or(|known| known == flags);
            assert!(fits, "{known:?} is {uid} {flags:?}\n{}", seat.story());
            agreed += usize::from(known.flags.is_some());
        }
    }
    let mut facts = world.lock().expect("no panic");
    facts.check_gone();
    for (mailbox, uid) in facts.tokens.keys() {
        let there = truths[*mailbox].contains_key(uid);
        let removed = facts.deleted.contains(&(*mailbox, *uid));
        let moved = facts.moved.contains(&(*mailbox, *uid));
        assert!(
            there || removed || moved,
            "{} {uid} vanished",
            BOXES[*mailbox]
        );
    }
    agreed
}
