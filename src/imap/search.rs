//! SEARCH keys against messages (RFC 9051, 6.4.4).
//!
//! Machine: no IO, no clock, no randomness. Nesting is bounded by the parser.

use super::command::{SearchKey, SeqNumber, SequenceSet};
use crate::mail::{Needle, SearchScope};
use crate::types::{Flag, Flags, UidSet};

/// A message, asked only for what a key needs.
pub trait Candidate {
    fn seq(&self) -> u32;
    fn uid(&self) -> u32;
    fn flags(&self) -> Flags;
    fn recent(&self) -> bool;
    fn keyword_bit(&self, name: &str) -> Option<u32>;
    /// INTERNALDATE: milliseconds since 1970, minutes east.
    fn internal(&self) -> Option<(i64, i16)>;
    /// The Date header's day, as written: days since 1970.
    fn sent_day(&self) -> Option<i32>;
    fn size(&self) -> Option<u64>;
    fn modseq(&self) -> u64;
    /// Of a field; `key` is the key's number among those that ask for fields.
    fn header_contains(&self, key: usize, name: &str, needle: &str) -> bool;
    /// Of a field of addresses.
    fn address_contains(&self, key: usize, name: &str, needle: &str) -> bool;
    /// The needle of that number in [`Program::needles`].
    fn contains(&self, needle: usize) -> bool;
}

/// Numbers that a set means: `*` is `max`, `$` is `saved`.
pub fn resolve(set: &SequenceSet, max: u32, saved: &UidSet) -> UidSet {
    match set {
        SequenceSet::Saved => saved.clone(),
        SequenceSet::Ranges(ranges) => {
            let value = |n: &SeqNumber| match n {
                SeqNumber::Number(n) => *n,
                SeqNumber::Star => max,
            };
            UidSet::from_ranges(ranges.iter().map(|(a, b)| (value(a), value(b))))
        }
    }
}

enum Node {
    All,
    Seq(UidSet),
    Uid(UidSet),
    System(u16),
    Keyword(String),
    Recent,
    New,
    Before(i32),
    On(i32),
    Since(i32),
    SentBefore(i32),
    SentOn(i32),
    SentSince(i32),
    Larger(u64),
    Smaller(u64),
    Older(u32),
    Younger(u32),
    ModSeq(u64),
    Header(usize, String, String),
    Address(usize, &'static str, String),
    /// BODY or TEXT.
    Words(usize),
    And(Vec<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
}

/// A search ready to run.
pub struct Program {
    root: Node,
    needles: Vec<Needle>,
    fields: usize,
}

impl Program {
    /// `fold` makes needles comparable; it is called once for each.
    pub fn compile(
        key: &SearchKey,
        max_seq: u32,
        max_uid: u32,
        saved: &UidSet,
        fold: &dyn Fn(&str) -> String,
    ) -> Self {
        let mut compiler = Compiler {
            max_seq,
            max_uid,
            saved,
            fold,
            needles: Vec::new(),
            fields: 0,
        };
        Self {
            root: compiler.node(key),
            needles: compiler.needles,
            fields: compiler.fields,
        }
    }

    /// What BODY and TEXT look for.
    pub fn needles(&self) -> &[Needle] {
        &self.needles
    }

    /// How many keys ask for fields.
    pub fn fields(&self) -> usize {
        self.fields
    }

    pub fn matches(&self, message: &dyn Candidate, now: i64) -> bool {
        self.root.matches(message, now)
    }

    /// More than flags and records are looked at.
    pub fn reads_messages(&self) -> bool {
        self.root.cost() >= 2
    }
}

struct Compiler<'a> {
    max_seq: u32,
    max_uid: u32,
    saved: &'a UidSet,
    fold: &'a dyn Fn(&str) -> String,
    needles: Vec<Needle>,
    fields: usize,
}

impl Compiler<'_> {
    fn header(&mut self, name: &str, text: &str) -> Node {
        self.fields += 1;
        Node::Header(self.fields - 1, name.into(), (self.fold)(text))
    }

    fn address(&mut self, name: &'static str, text: &str) -> Node {
        self.fields += 1;
        Node::Address(self.fields - 1, name, (self.fold)(text))
    }

    fn words(&mut self, scope: SearchScope, text: &str) -> Node {
        self.needles.push(Needle::new(scope, (self.fold)(text)));
        Node::Words(self.needles.len() - 1)
    }

    fn node(&mut self, key: &SearchKey) -> Node {
        match key {
            SearchKey::All => Node::All,
            SearchKey::And(keys) => {
                let mut nodes: Vec<Node> = keys.iter().map(|key| self.node(key)).collect();
                nodes.sort_by_key(Node::cost);
                Node::And(nodes)
            }
            SearchKey::Or(a, b) => {
                let (a, b) = (self.node(a), self.node(b));
                let (a, b) = if a.cost() <= b.cost() { (a, b) } else { (b, a) };
                Node::Or(Box::new(a), Box::new(b))
            }
            SearchKey::Not(inner) => Node::Not(Box::new(self.node(inner))),
            SearchKey::Set(SequenceSet::Saved) => Node::Uid(self.saved.clone()),
            SearchKey::Set(set) => Node::Seq(resolve(set, self.max_seq, self.saved)),
            SearchKey::Uid(set) => Node::Uid(resolve(set, self.max_uid, self.saved)),
            SearchKey::Flag(Flag::System(flag)) => Node::System(flag.0),
            SearchKey::Flag(Flag::Keyword(name)) => Node::Keyword(name.clone()),
            SearchKey::New => Node::New,
            SearchKey::Old => Node::Not(Box::new(Node::Recent)),
            SearchKey::Recent => Node::Recent,
            SearchKey::Before(day) => Node::Before(*day),
            SearchKey::On(day) => Node::On(*day),
            SearchKey::Since(day) => Node::Since(*day),
            SearchKey::SentBefore(day) => Node::SentBefore(*day),
            SearchKey::SentOn(day) => Node::SentOn(*day),
            SearchKey::SentSince(day) => Node::SentSince(*day),
            SearchKey::Larger(size) => Node::Larger(*size),
            SearchKey::Smaller(size) => Node::Smaller(*size),
            SearchKey::Older(seconds) => Node::Older(*seconds),
            SearchKey::Younger(seconds) => Node::Younger(*seconds),
            SearchKey::ModSeq(modseq) => Node::ModSeq(*modseq),
            SearchKey::From(text) => self.address("From", text),
            SearchKey::To(text) => self.address("To", text),
            SearchKey::Cc(text) => self.address("Cc", text),
            SearchKey::Bcc(text) => self.address("Bcc", text),
            SearchKey::Subject(text) => self.header("Subject", text),
            SearchKey::Header(name, text) => self.header(name, text),
            SearchKey::Body(text) => self.words(SearchScope::Body, text),
            SearchKey::Text(text) => self.words(SearchScope::Text, text),
        }
    }
}

/// The day in the zone that the date was given in (RFC 9051: "disregarding time and timezone").
fn day((millis, zone): (i64, i16)) -> i32 {
    let seconds = millis.div_euclid(1000) + i64::from(zone) * 60;
    i32::try_from(seconds.div_euclid(86_400)).unwrap_or(i32::MAX)
}

impl Node {
    /// What it costs to ask: nothing, a record, the header, the whole message.
    fn cost(&self) -> u8 {
        match self {
            Self::All
            | Self::Seq(_)
            | Self::Uid(_)
            | Self::System(_)
            | Self::Keyword(_)
            | Self::Recent
            | Self::New
            | Self::ModSeq(_) => 0,
            Self::Before(_)
            | Self::On(_)
            | Self::Since(_)
            | Self::Larger(_)
            | Self::Smaller(_)
            | Self::Older(_)
            | Self::Younger(_) => 1,
            Self::SentBefore(_)
            | Self::SentOn(_)
            | Self::SentSince(_)
            | Self::Header(..)
            | Self::Address(..) => 2,
            Self::Words(_) => 3,
            Self::And(nodes) => nodes.iter().map(Self::cost).max().unwrap_or(0),
            Self::Or(a, b) => a.cost().max(b.cost()),
            Self::Not(inner) => inner.cost(),
        }
    }

    fn matches(&self, m: &dyn Candidate, now: i64) -> bool {
        let internal = |test: &dyn Fn(i32) -> bool| m.internal().is_some_and(|at| test(day(at)));
        let sent = |test: &dyn Fn(i32) -> bool| m.sent_day().is_some_and(test);
        let age = || m.internal().map(|(at, _)| now.saturating_sub(at) / 1000);
        match self {
            Self::All => true,
            Self::Seq(set) => set.contains(m.seq()),
            Self::Uid(set) => set.contains(m.uid()),
            Self::System(flag) => m.flags().system.0 & flag == *flag,
            Self::Keyword(name) => m
                .keyword_bit(name)
                .is_some_and(|bit| m.flags().keywords & (1 << bit) != 0),
            Self::Recent => m.recent(),
            Self::New => m.recent() && !m.flags().system.contains(crate::types::SystemFlags::SEEN),
            Self::Before(d) => internal(&|at| at < *d),
            Self::On(d) => internal(&|at| at == *d),
            Self::Since(d) => internal(&|at| at >= *d),
            Self::SentBefore(d) => sent(&|at| at < *d),
            Self::SentOn(d) => sent(&|at| at == *d),
            Self::SentSince(d) => sent(&|at| at >= *d),
            Self::Larger(n) => m.size().is_some_and(|size| size > *n),
            Self::Smaller(n) => m.size().is_some_and(|size| size < *n),
            Self::Older(seconds) => age().is_some_and(|age| age >= i64::from(*seconds)),
            Self::Younger(seconds) => age().is_some_and(|age| age < i64::from(*seconds)),
            Self::ModSeq(least) => m.modseq() >= *least,
            Self::Header(key, name, needle) => m.header_contains(*key, name, needle),
            Self::Address(key, name, needle) => m.address_contains(*key, name, needle),
            Self::Words(needle) => m.contains(*needle),
            Self::And(nodes) => nodes.iter().all(|node| node.matches(m, now)),
            Self::Or(a, b) => a.matches(m, now) || b.matches(m, now),
            Self::Not(inner) => !inner.matches(m, now),
        }
    }
}
