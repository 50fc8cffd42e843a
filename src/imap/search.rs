//! SEARCH keys against messages (RFC 9051, 6.4.4).
//!
//! Machine: no IO, no clock, no randomness. Nesting is bounded by the parser.

use super::command::{SearchKey, SeqNumber, SequenceSet};
use super::keys::{Facts, Field};
use super::object_id;
use crate::mail::{self, Fuzzy, Needle, SearchScope};
use crate::types::{Flag, Flags, UidSet};

/// A message, asked only for what a key needs.
pub trait Candidate {
    fn seq(&self) -> u32;
    fn uid(&self) -> u32;
    fn flags(&self) -> Flags;
    fn recent(&self) -> bool;
    /// None: it is gone.
    fn facts(&self) -> Option<Facts>;
    /// The Date header's day, as written: days since 1970.
    fn sent_day(&self) -> Option<i32>;
    fn modseq(&self) -> u64;
    /// Of a field of the envelope; None: all of the field has to be looked at.
    fn field_contains(&self, field: Field, needle: &str) -> Option<bool>;
    /// RFC 8474, 5.2.
    fn has_thread_id(&self, id: &str) -> bool;
    /// Of any field; `key` is the key's number among those that ask for fields. None, here and
    /// below: the message is not looked at, or not now.
    fn header_contains(&self, key: usize, name: &str, needle: &str) -> Option<bool>;
    /// Of a field of addresses.
    fn address_contains(&self, key: usize, name: &str, needle: &str) -> Option<bool>;
    /// The needle of that number in [`Program::needles`].
    fn contains(&self, needle: usize) -> Option<bool>;
    /// How well words are found in a field of the envelope (RFC 6203, 4); 0: not at all.
    fn field_score(&self, field: Field, words: &Fuzzy) -> u8;
    /// How well a needle was found that is contained.
    fn score(&self, needle: usize) -> u8;
}

/// Numbers that a set means: `*` is `max`, `$` is `saved`.
pub fn resolve(set: &SequenceSet, max: u32, saved: &UidSet) -> UidSet {
    let value = |n: &SeqNumber| match n {
        SeqNumber::Number(n) => *n,
        SeqNumber::Star => max,
    };
    let ranges = set.ranges().iter().map(|(a, b)| (value(a), value(b)));
    let saved = saved.ranges().filter(|_| set.has_saved());
    UidSet::from_ranges(ranges.chain(saved.map(|r| (*r.start(), *r.end()))))
}

enum Node {
    All,
    Seq(UidSet),
    Uid(UidSet),
    System(u16),
    /// None: no message has it.
    Keyword(Option<u64>),
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
    SavedBefore(i32),
    SavedOn(i32),
    SavedSince(i32),
    EmailId(String),
    ThreadId(String),
    Header(usize, String, String),
    Field(Field, usize, String, String),
    Address(Field, usize, &'static str, String),
    /// BODY or TEXT.
    Words(usize),
    FuzzyField(Field, Fuzzy),
    FuzzyWords(usize),
    And(Vec<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
}

/// A search ready to run.
pub struct Program {
    root: Node,
    needles: Vec<Needle>,
    fields: usize,
    sought: Vec<(usize, Vec<u32>)>,
}

impl Program {
    pub fn compile(key: &SearchKey, names: Names<'_>) -> Self {
        let mut compiler = Compiler {
            names,
            needles: Vec::new(),
            fields: 0,
            fuzzy: false,
            sought: Vec::new(),
        };
        Self {
            root: compiler.node(key),
            needles: compiler.needles,
            fields: compiler.fields,
            sought: compiler.sought,
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

    /// What a message has in which such a key finds something ([`mail::trigrams`]).
    pub fn sought(&self) -> &[(usize, Vec<u32>)] {
        &self.sought
    }

    /// None: the candidate could not say.
    pub fn matches(&self, message: &dyn Candidate, now: i64) -> Option<bool> {
        self.root.matches(message, now)
    }

    /// How relevant a message is that matches: 1 to 100 (RFC 6203, 4).
    pub fn score(&self, message: &dyn Candidate) -> u8 {
        let (sum, count) = self.root.score(message);
        let mean = sum.checked_div(count).unwrap_or(100);
        u8::try_from(mean.clamp(1, 100)).unwrap_or(100)
    }

    /// The UIDs of the messages that can match at all, where that is said: both are included.
    pub fn bounds(&self) -> Option<(u32, u32)> {
        self.root.bounds()
    }

    /// More than flags and records are looked at.
    pub fn reads_messages(&self) -> bool {
        self.root.cost() >= 3
    }
}

/// What names and numbers of a search stand for, at the moment when it begins.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub max_seq: u32,
    pub max_uid: u32,
    pub saved: &'a UidSet,
    /// Of the messages that will be asked.
    pub keywords: &'a [String],
}

struct Compiler<'a> {
    names: Names<'a>,
    needles: Vec<Needle>,
    fields: usize,
    /// Inside of FUZZY.
    fuzzy: bool,
    sought: Vec<(usize, Vec<u32>)>,
}

impl Compiler<'_> {
    fn number(&mut self) -> usize {
        self.fields += 1;
        self.fields - 1
    }

    fn header(&mut self, name: &str, text: &str) -> Node {
        let (key, text) = (self.number(), mail::comparable(text));
        match Field::of_header(name) {
            Some(field) => Node::Field(field, key, name.into(), text),
            None => {
                self.seek(key, name, &text);
                Node::Header(key, name.into(), text)
            }
        }
    }

    fn seek(&mut self, key: usize, name: &str, text: &str) {
        let mut all = mail::trigrams(text);
        // An index has of a field what `name: value` has.
        if name.is_ascii() {
            all.extend(mail::trigrams(&name.to_ascii_lowercase()));
        }
        all.sort_unstable();
        all.dedup();
        self.sought.push((key, all));
    }

    fn address(&mut self, field: Field, name: &'static str, text: &str) -> Node {
        if self.fuzzy {
            return Node::FuzzyField(field, Fuzzy::new(text));
        }
        Node::Address(field, self.number(), name, mail::comparable(text))
    }

    fn words(&mut self, scope: SearchScope, text: &str) -> Node {
        if self.fuzzy {
            self.needles.push(Needle::fuzzy(scope, text));
            return Node::FuzzyWords(self.needles.len() - 1);
        }
        self.needles.push(Needle::new(scope, mail::fold(text)));
        Node::Words(self.needles.len() - 1)
    }

    fn keyword(&self, name: &str) -> Option<u64> {
        let mut names = self.names.keywords.iter();
        let bit = names.position(|k| k.eq_ignore_ascii_case(name))?;
        1u64.checked_shl(u32::try_from(bit).ok()?)
    }

    fn node(&mut self, key: &SearchKey) -> Node {
        let names = self.names;
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
            SearchKey::Set(set) => {
                let numbers = || Node::Seq(resolve(set, names.max_seq, &UidSet::new()));
                let saved = || Node::Uid(names.saved.clone());
                match set {
                    SequenceSet::Saved => saved(),
                    SequenceSet::Ranges(_) => numbers(),
                    SequenceSet::Both(_) => Node::Or(Box::new(numbers()), Box::new(saved())),
                }
            }
            SearchKey::Uid(set) => Node::Uid(resolve(set, names.max_uid, names.saved)),
            SearchKey::Flag(Flag::System(flag)) => Node::System(flag.0),
            SearchKey::Flag(Flag::Keyword(name)) => Node::Keyword(self.keyword(name)),
            SearchKey::New => Node::New,
            SearchKey::Old => Node::Not(Box::new(Node::Recent)),
            SearchKey::Recent => Node::Recent,
            SearchKey::Before(day) => Node::Before(*day),
            SearchKey::On(day) => Node::On(*day),
            SearchKey::Since(day) => Node::Since(*day),
            SearchKey::SentBefore(day) => Node::SentBefore(*day),
            SearchKey::SentOn(day) => Node::SentOn(*day),
            SearchKey::SentSince(day) => Node::SentSince(*day),
            SearchKey::SavedBefore(day) => Node::SavedBefore(*day),
            SearchKey::SavedOn(day) => Node::SavedOn(*day),
            SearchKey::SavedSince(day) => Node::SavedSince(*day),
            // RFC 8514, 4.2: all mailboxes know it.
            SearchKey::SaveDateSupported => Node::All,
            SearchKey::EmailId(id) => Node::EmailId(id.clone()),
            SearchKey::ThreadId(id) => Node::ThreadId(id.clone()),
            SearchKey::Larger(size) => Node::Larger(*size),
            SearchKey::Smaller(size) => Node::Smaller(*size),
            SearchKey::Older(seconds) => Node::Older(*seconds),
            SearchKey::Younger(seconds) => Node::Younger(*seconds),
            SearchKey::ModSeq(modseq) => Node::ModSeq(*modseq),
            SearchKey::From(text) => self.address(Field::From, "From", text),
            SearchKey::To(text) => self.address(Field::To, "To", text),
            SearchKey::Cc(text) => self.address(Field::Cc, "Cc", text),
            SearchKey::Bcc(text) => self.address(Field::Bcc, "Bcc", text),
            SearchKey::Subject(text) if self.fuzzy => {
                Node::FuzzyField(Field::Subject, Fuzzy::new(text))
            }
            SearchKey::Subject(text) => self.header("Subject", text),
            SearchKey::Fuzzy(inner) => {
                // RFC 6203, 5: what is no text is matched exactly.
                let outer = std::mem::replace(&mut self.fuzzy, true);
                let node = self.node(inner);
                self.fuzzy = outer;
                node
            }
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
    /// What it costs to ask: nothing, what is kept of messages, the header, the whole message.
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
            | Self::SavedBefore(_)
            | Self::SavedOn(_)
            | Self::SavedSince(_)
            | Self::EmailId(_)
            | Self::Larger(_)
            | Self::Smaller(_)
            | Self::Older(_)
            | Self::Younger(_) => 1,
            Self::SentBefore(_)
            | Self::SentOn(_)
            | Self::SentSince(_)
            | Self::Field(..)
            | Self::FuzzyField(..)
            | Self::Address(..) => 2,
            Self::ThreadId(_) | Self::Header(..) => 3,
            Self::Words(_) | Self::FuzzyWords(_) => 4,
            Self::And(nodes) => nodes.iter().map(Self::cost).max().unwrap_or(0),
            Self::Or(a, b) => a.cost().max(b.cost()),
            Self::Not(inner) => inner.cost(),
        }
    }

    fn matches(&self, m: &dyn Candidate, now: i64) -> Option<bool> {
        let fact = |test: &dyn Fn(Facts) -> bool| m.facts().is_some_and(test);
        let internal = |test: &dyn Fn(i32) -> bool| fact(&|f| test(day(f.internal)));
        let saved = |test: &dyn Fn(i32) -> bool| fact(&|f| test(day((f.saved, 0))));
        let age =
            |test: &dyn Fn(i64) -> bool| fact(&|f| test(now.saturating_sub(f.internal.0) / 1000));
        let sent = |test: &dyn Fn(i32) -> bool| m.sent_day().is_some_and(test);
        Some(match self {
            Self::All => true,
            Self::Seq(set) => set.contains(m.seq()),
            Self::Uid(set) => set.contains(m.uid()),
            Self::System(flag) => m.flags().system.0 & flag == *flag,
            Self::Keyword(bit) => bit.is_some_and(|bit| m.flags().keywords & bit != 0),
            Self::Recent => m.recent(),
            Self::New => m.recent() && !m.flags().system.contains(crate::types::SystemFlags::SEEN),
            Self::Before(d) => internal(&|at| at < *d),
            Self::On(d) => internal(&|at| at == *d),
            Self::Since(d) => internal(&|at| at >= *d),
            Self::SavedBefore(d) => saved(&|at| at < *d),
            Self::SavedOn(d) => saved(&|at| at == *d),
            Self::SavedSince(d) => saved(&|at| at >= *d),
            Self::SentBefore(d) => sent(&|at| at < *d),
            Self::SentOn(d) => sent(&|at| at == *d),
            Self::SentSince(d) => sent(&|at| at >= *d),
            Self::Larger(n) => fact(&|f| f.size > *n),
            Self::Smaller(n) => fact(&|f| f.size < *n),
            Self::Older(seconds) => age(&|age| age >= i64::from(*seconds)),
            Self::Younger(seconds) => age(&|age| age < i64::from(*seconds)),
            Self::ModSeq(least) => m.modseq() >= *least,
            Self::EmailId(id) => fact(&|f| object_id::email_id(f.blob, f.variant) == *id),
            Self::ThreadId(id) => m.has_thread_id(id),
            Self::Header(key, name, needle) => return m.header_contains(*key, name, needle),
            Self::Field(field, key, name, needle) => {
                let kept = m.field_contains(*field, needle);
                return kept.or_else(|| m.header_contains(*key, name, needle));
            }
            Self::Address(field, key, name, needle) => {
                let kept = m.field_contains(*field, needle);
                return kept.or_else(|| m.address_contains(*key, name, needle));
            }
            Self::FuzzyField(field, words) => m.field_score(*field, words) > 0,
            Self::Words(needle) | Self::FuzzyWords(needle) => return m.contains(*needle),
            Self::And(nodes) => {
                let mut all = Some(true);
                for node in nodes {
                    match node.matches(m, now) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => all = None,
                    }
                }
                return all;
            }
            Self::Or(a, b) => {
                return match a.matches(m, now) {
                    Some(true) => Some(true),
                    Some(false) => b.matches(m, now),
                    None => b.matches(m, now).filter(|found| *found),
                };
            }
            Self::Not(inner) => !inner.matches(m, now)?,
        })
    }

    /// Sum and number of the scores of what was found roughly.
    fn score(&self, m: &dyn Candidate) -> (u32, u32) {
        let add = |(a, n): (u32, u32), (b, k): (u32, u32)| (a + b, n + k);
        match self {
            Self::FuzzyField(field, words) => (m.field_score(*field, words).into(), 1),
            // What stands in the text says less than what a message is called.
            Self::FuzzyWords(needle) => (u32::from(m.score(*needle)) * 4 / 5, 1),
            Self::And(nodes) => nodes.iter().map(|n| n.score(m)).fold((0, 0), add),
            Self::Or(a, b) => {
                let mean = |(sum, n): (u32, u32)| sum.checked_div(n).unwrap_or(0);
                let (a, b) = (a.score(m), b.score(m));
                if mean(a) >= mean(b) { a } else { b }
            }
            _ => (0, 0),
        }
    }

    fn bounds(&self) -> Option<(u32, u32)> {
        match self {
            Self::Uid(set) => {
                let (first, last) = (set.ranges().next()?, set.ranges().next_back()?);
                Some((*first.start(), *last.end()))
            }
            Self::And(nodes) => {
                let all = nodes.iter().filter_map(Self::bounds);
                all.reduce(|(a, b), (c, d)| (a.max(c), b.min(d)))
            }
            _ => None,
        }
    }
}
