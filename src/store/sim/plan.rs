//! Which operation comes next: whatever makes sense in the state that there is, and now and then
//! something that does not.

use super::super::model::FlagAction;
use super::model::{Body, DELETED, Mailbox, Op, Place, State};
use super::rng::Rng;
use crate::types::LogPos;

/// What histories are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One operation at a time.
    Plain,
    /// Several at once, with checkpoints in between.
    Crowd,
    /// Bodies in files of their own.
    Large,
    /// Mailboxes with more messages than a slice.
    Bulk,
    /// The disk and the index fail without a crash.
    Faults,
}

const FLAGS: [&str; 6] = ["\\Seen", "\\Flagged", DELETED, "$Work", "$Junk", "later"];
const NAMES: [&str; 6] = ["Work", "Work/Old", "Lists", "Lists/a/b", "Notes", "Ideas"];

/// The bytes of a body: what zstd can't shrink where it is to be large.
pub(super) fn raw(body: &Body) -> Vec<u8> {
    bytes(body.number, body.len)
}

fn bytes(number: u64, len: usize) -> Vec<u8> {
    let mut out =
        format!("Subject: {number}\r\nMessage-ID: <{number}@x.test>\r\n\r\n").into_bytes();
    let mut rng = Rng(number);
    while out.len() < len {
        out.extend_from_slice(&rng.next().to_be_bytes());
    }
    out
}

pub(super) struct Planner {
    pub(super) rng: Rng,
    pub(super) kind: Kind,
    pub(super) bodies: u64,
}

impl Planner {
    fn body(&mut self, large: bool) -> Body {
        self.bodies += 1;
        let number = self.rng.next() >> 20 << 8 | self.bodies & 0xff;
        let len = match (large, self.rng.below(6)) {
            (true, _) => 4_300_000 + self.rng.below(100_000),
            (_, 0) => 5000 + self.rng.below(8000),
            (_, 1) => 0,
            _ => self.rng.below(1500),
        };
        let raw = bytes(number, len);
        Body {
            number,
            len,
            sum: (raw.len() as u64, crc32fast::hash(&raw)),
        }
    }

    fn flags(&mut self) -> Vec<String> {
        let some = self.rng.some(&FLAGS);
        some.into_iter().take(3).map(str::to_owned).collect()
    }

    fn account(&mut self, state: &State) -> String {
        let all: Vec<&String> = state.accounts.keys().collect();
        self.rng
            .pick(&all)
            .map_or_else(|| "a@x.test".to_owned(), |a| (*a).clone())
    }

    fn place(&mut self, state: &State) -> Place {
        let account = self.account(state);
        let boxes: Vec<&Mailbox> = match state.accounts.get(&account) {
            Some(found) => found.boxes.values().collect(),
            None => return (account, 1),
        };
        // Mostly one that has something in it.
        let full: Vec<u32> = boxes
            .iter()
            .filter(|m| !m.messages.is_empty())
            .map(|m| m.id)
            .collect();
        let any: Vec<u32> = boxes.iter().map(|m| m.id).collect();
        let id = match self.rng.one_in(4) {
            true => self.rng.pick(&any),
            false => self.rng.pick(&full).or(any.first()),
        };
        (account, id.copied().unwrap_or(1))
    }

    fn uids(&mut self, state: &State, place: &Place) -> Vec<u32> {
        let mailbox = state.mailbox(place);
        let all: Vec<u32> = mailbox.map_or(Vec::new(), |m| m.messages.keys().copied().collect());
        let mut some = self.rng.some(&all);
        if self.kind != Kind::Crowd && self.rng.one_in(8) {
            some.push(all.last().map_or(1, |last| last + 1));
        }
        some
    }

    fn name(&mut self, state: &State, account: &str) -> String {
        let there: Vec<String> = state
            .accounts
            .get(account)
            .map_or(Vec::new(), |found| found.boxes.keys().cloned().collect());
        match self.rng.below(3) {
            0 => self.rng.pick(&there).cloned().unwrap_or_default(),
            _ => (*self.rng.pick(&NAMES).unwrap_or(&"x")).to_owned(),
        }
    }

    /// What a new store begins with.
    pub(super) fn first() -> Vec<Op> {
        vec![
            Op::Domain("x.test".into()),
            Op::AccountAdd("a@x.test".into()),
            Op::AccountAdd("b@x.test".into()),
        ]
    }

    fn deliver(&mut self, state: &State) -> Op {
        let large = self.kind == Kind::Large && self.rng.one_in(4);
        let body = self.body(large);
        let count = match self.kind {
            Kind::Bulk if self.rng.one_in(2) => 600,
            _ => 1 + self.rng.below(3),
        };
        let place = self.place(state);
        let to = (0..count).map(|n| match n {
            0 if self.rng.one_in(2) => (place.0.clone(), Some(place.1), self.flags()),
            n if n > 3 => (place.0.clone(), None, Vec::new()),
            _ => (self.account(state), None, self.flags()),
        });
        Op::Deliver {
            body,
            to: to.collect(),
        }
    }

    /// Something that only concerns messages, which others may do at the same time.
    fn message_op(&mut self, state: &State) -> Op {
        let of = self.place(state);
        let uids = self.uids(state, &of);
        let to = match self.rng.one_in(3) {
            true => of.clone(),
            false => self.place(state),
        };
        match self.rng.below(12) {
            0..=3 => self.deliver(state),
            4 => Op::Append {
                body: self.body(false),
                to,
                flags: self.flags(),
                date: self.rng.next() >> 24,
                zone: self.rng.below(600) as i16,
            },
            5..=7 => Op::Flags {
                of,
                uids,
                action: match self.rng.below(3) {
                    0 => FlagAction::Replace,
                    1 => FlagAction::Add,
                    _ => FlagAction::Remove,
                },
                flags: self.flags(),
            },
            8 => Op::Flags {
                of,
                uids,
                action: FlagAction::Add,
                flags: vec![DELETED.into()],
            },
            9 => Op::Copy {
                from: of,
                uids,
                to,
                exactly: self.rng.one_in(2),
            },
            _ => Op::Move { from: of, uids, to },
        }
    }

    /// Several that are asked for at once. What one finds before it waits must not depend on the
    /// others, so that all can be foretold in order.
    pub(super) fn together(&mut self, state: &State) -> Vec<Op> {
        let count = 2 + self.rng.below(7);
        let mut all = Vec::new();
        for n in 0..count {
            all.push(match n {
                0 if self.rng.one_in(3) => Op::Expunge {
                    of: self.place(state),
                    uids: None,
                },
                _ => self.message_op(state),
            });
        }
        all
    }

    pub(super) fn next(&mut self, state: &State, end: LogPos) -> Op {
        let account = self.account(state);
        let name = self.name(state, &account);
        let other = self.name(state, &account);
        let devices: Vec<u32> = state
            .accounts
            .get(&account)
            .map_or(Vec::new(), |found| found.devices.keys().copied().collect());
        let device = self.rng.pick(&devices).copied().unwrap_or(1);
        let slot = format!("m{}", 1 + self.rng.below(3));
        match self.rng.below(48) {
            0..=19 => self.message_op(state),
            20..=22 => {
                let of = self.place(state);
                let some = self.rng.one_in(3).then(|| self.uids(state, &of));
                Op::Expunge { of, uids: some }
            }
            23..=24 => Op::Create(account, name),
            25..=26 => Op::Rename(account, name, other),
            27 => Op::Rename(account, "INBOX".into(), other),
            28 => Op::Delete(account, name),
            29 => Op::Subscribe(account, name, self.rng.one_in(2)),
            30 => Op::DeviceAdd(account, "phone".into()),
            31 => Op::DeviceRemove(account, device),
            32..=33 => {
                let owed = (1..=1 + self.rng.below(3) as u32).collect();
                Op::Owe(account, device, slot, owed)
            }
            34 => Op::Paid(account, device, slot),
            35 => Op::Cursor(end),
            36 => Op::Alias(format!("all{}@x.test", self.rng.below(2)), vec![account]),
            37 => Op::AliasRemove(format!("all{}@x.test", self.rng.below(2))),
            38 => Op::Password(account, format!("hash{}", self.rng.below(9))),
            39 if state.accounts.len() < 3 => {
                Op::AccountAdd(format!("{}@x.test", ["c", "d"][self.rng.below(2)]))
            }
            39 => Op::AccountRemove(account),
            40..=43 => Op::Checkpoint,
            44 => Op::Image,
            45..=46 => Op::Compact,
            _ => Op::Reopen,
        }
    }
}
