//! A mailbox in memory: chunks of 64 UIDs, shared by all sessions that have it selected.
//!
//! A snapshot never changes. A commit makes a new one that shares all chunks which it did not
//! touch, so a session finds what changed since the snapshot it last told its client about by
//! comparing pointers, and no event can be lost.
//!
//! May import: types.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::chunk::Chunk;
use super::keys::MailboxRecord;
use super::model::Message;
use crate::types::{Flags, MailboxKey, ModSeq, SystemFlags, Uid, UidValidity};

/// Keywords of a mailbox (RFC 9051, 2.3.2 lets a server set a limit): bits of [`Flags`].
const MAX_KEYWORDS: usize = u64::BITS as usize;

/// An opened mailbox. Sessions keep an `Arc` of it while it is selected.
pub struct Mailbox {
    key: MailboxKey,
    current: ArcSwap<Snapshot>,
    told: watch::Sender<u64>,
    deleted: AtomicBool,
    recent_from: AtomicU32,
    /// When it was last asked for, in the cache's own count.
    pub(super) used: AtomicU64,
}

impl Mailbox {
    pub(super) fn new(key: MailboxKey, snapshot: Snapshot) -> Self {
        Self {
            key,
            recent_from: AtomicU32::new(snapshot.unread_from().0),
            current: ArcSwap::from_pointee(snapshot),
            told: watch::Sender::new(0),
            deleted: AtomicBool::new(false),
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }

    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Wakes those who watch, after what they will see was published.
    pub(super) fn tell(&self, commit: u64) {
        self.told.send_replace(commit);
    }

    pub fn key(&self) -> MailboxKey {
        self.key
    }

    /// The newest committed state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Told after every commit that touched the mailbox, its removal included; the value is
    /// the commit's number. `changed()` never misses a commit.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// True once the mailbox was deleted: sessions that have it selected must say so.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// First UID that is \Recent for the session that asks now (RFC 3501, 2.3.2); with `claim`
    /// the session takes them, and the next one will get a later UID. Nothing is kept of it: of
    /// a mailbox that is opened anew, what nobody can be known to have been told of is recent,
    /// and that is what came after the last message that somebody has read.
    pub fn recent_from(&self, claim: bool) -> Uid {
        let next = self.snapshot().uid_next().0;
        Uid(if claim {
            self.recent_from.fetch_max(next, Ordering::AcqRel)
        } else {
            self.recent_from.load(Ordering::Acquire)
        })
    }

    /// Messages that would be \Recent for a session that asks now.
    pub fn recent(&self) -> u32 {
        let from = self.recent_from(false);
        self.snapshot().range(from.0..=u32::MAX).count() as u32
    }
}

/// What the messages' records of a mailbox add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Messages {
    pub count: u32,
    pub uid_sum: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// UID / 64.
    base: u32,
    /// Messages in the chunks before this one.
    before: u32,
    /// No message of it has a higher mod-sequence.
    high: ModSeq,
    chunk: Arc<Chunk>,
}

/// One state of a mailbox.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) record: MailboxRecord,
    keywords: Arc<[String]>,
    slots: Vec<Slot>,
}

impl Snapshot {
    pub(super) fn empty(uid_validity: UidValidity) -> Self {
        Self {
            record: MailboxRecord {
                uid_validity,
                uid_next: Uid(1),
                highest_modseq: ModSeq(1),
                ..MailboxRecord::default()
            },
            keywords: Arc::new([]),
            slots: Vec::new(),
        }
    }

    /// From the index; `chunks` by rising base. None: they are not what the record says.
    pub(super) fn load(
        record: MailboxRecord,
        keywords: Vec<String>,
        chunks: Vec<(u32, Chunk)>,
        messages: Messages,
    ) -> Option<Self> {
        let mut snapshot = Self {
            record,
            keywords: keywords.into(),
            slots: chunks
                .into_iter()
                .map(|(base, chunk)| Slot {
                    base,
                    before: 0,
                    high: chunk.highest_modseq(),
                    chunk: Arc::new(chunk),
                })
                .collect(),
        };
        if snapshot.slots.iter().any(|s| !s.chunk.is_sound()) {
            return None;
        }
        snapshot.renumber();
        let mut sum = MailboxRecord {
            uid_validity: record.uid_validity,
            uid_next: record.uid_next,
            highest_modseq: record.highest_modseq,
            bytes: messages.bytes,
            keywords: u8::try_from(snapshot.keywords.len()).ok()?,
            ..MailboxRecord::default()
        };
        let mut bits = 0;
        for (_, message) in snapshot.iter() {
            let flags = message.flags;
            sum.exists += 1;
            sum.unseen += u32::from(!flags.system.contains(SystemFlags::SEEN));
            sum.deleted += u32::from(flags.system.contains(SystemFlags::DELETED));
            sum.uid_sum += u64::from(message.uid.0);
            bits |= flags.keywords;
            if message.uid >= record.uid_next || message.modseq > record.highest_modseq {
                return None;
            }
        }
        let named = 64 - bits.leading_zeros() as usize <= snapshot.keywords.len();
        let complete = (messages.count, messages.uid_sum) == (sum.exists, sum.uid_sum);
        (sum == record && named && complete).then_some(snapshot)
    }

    /// Behind the last message that is \Seen.
    fn unread_from(&self) -> Uid {
        let seen = |m: &Message| m.flags.system.contains(SystemFlags::SEEN);
        let slots = self.slots.iter().rev();
        let mut last = slots.filter_map(|s| s.chunk.iter(s.base).filter(seen).last());
        last.next()
            .map_or(Uid(1), |m| Uid(m.uid.0.saturating_add(1)))
    }

    fn renumber(&mut self) {
        let mut before = 0;
        for slot in &mut self.slots {
            slot.before = before;
            before += slot.chunk.len();
        }
    }

    /// Where the chunk is, or would be. Most mailboxes have no gaps of whole chunks, or few.
    fn place(&self, base: u32) -> Result<usize, usize> {
        let first = self.slots.first().map_or(0, |s| s.base);
        let guess = base.wrapping_sub(first) as usize;
        match self.slots.get(guess) {
            Some(slot) if slot.base == base => Ok(guess),
            _ => self.slots.binary_search_by_key(&base, |s| s.base),
        }
    }

    fn slot(&mut self, base: u32) -> &mut Slot {
        let at = match self.place(base) {
            Ok(at) => at,
            Err(at) => {
                let before = self.slots[..at]
                    .last()
                    .map_or(0, |s| s.before + s.chunk.len());
                self.slots.insert(
                    at,
                    Slot {
                        base,
                        before,
                        high: ModSeq::default(),
                        chunk: Arc::default(),
                    },
                );
                at
            }
        };
        &mut self.slots[at]
    }

    fn count(&mut self, flags: Flags, by: i32) {
        let add = |n: &mut u32| *n = n.saturating_add_signed(by);
        if !flags.system.contains(SystemFlags::SEEN) {
            add(&mut self.record.unseen);
        }
        if flags.system.contains(SystemFlags::DELETED) {
            add(&mut self.record.deleted);
        }
    }

    /// Adds a message with a UID above all that were; gives its chunk's base.
    pub(super) fn add(&mut self, uid: Uid, flags: Flags, modseq: ModSeq, size: u64) -> u32 {
        self.count(flags, 1);
        self.record.exists += 1;
        self.record.bytes += size;
        self.record.uid_sum += u64::from(uid.0);
        self.record.uid_next = self.record.uid_next.max(Uid(uid.0.saturating_add(1)));
        self.record.highest_modseq = self.record.highest_modseq.max(modseq);
        let slot = self.slot(uid.0 / 64);
        slot.high = slot.high.max(modseq);
        Arc::make_mut(&mut slot.chunk).put(uid.0 % 64, flags, modseq);
        uid.0 / 64
    }

    /// None: no such message.
    pub(super) fn set(&mut self, uid: Uid, flags: Flags, modseq: ModSeq) -> Option<u32> {
        let old = self.by_uid(uid)?;
        self.count(old.flags, -1);
        self.count(flags, 1);
        self.record.highest_modseq = self.record.highest_modseq.max(modseq);
        let slot = self.slot(uid.0 / 64);
        slot.high = slot.high.max(modseq);
        Arc::make_mut(&mut slot.chunk).put(uid.0 % 64, flags, modseq);
        Some(uid.0 / 64)
    }

    /// Removes messages (with their sizes); gives the bases of the chunks touched.
    pub(super) fn remove(&mut self, uids: &[(Uid, u64)], modseq: ModSeq) -> Vec<u32> {
        let mut bases = Vec::new();
        for (uid, size) in uids {
            let Some(old) = self.by_uid(*uid) else {
                continue;
            };
            self.count(old.flags, -1);
            self.record.exists -= 1;
            self.record.bytes = self.record.bytes.saturating_sub(*size);
            self.record.uid_sum -= u64::from(uid.0);
            let base = uid.0 / 64;
            Arc::make_mut(&mut self.slot(base).chunk).remove(uid.0 % 64);
            if bases.last() != Some(&base) {
                bases.push(base);
            }
        }
        self.slots.retain(|s| s.chunk.len() > 0);
        self.renumber();
        self.record.highest_modseq = self.record.highest_modseq.max(modseq);
        bases
    }

    /// Gives the bases of chunks in which messages had the bit under another name: there are
    /// such only where the group that took it from them is damaged.
    pub(super) fn add_keyword(&mut self, bit: u8, name: String) -> Vec<u32> {
        let mut touched = Vec::new();
        let bits = 1u64.checked_shl(u32::from(bit)).unwrap_or(0);
        let other = self.keywords.get(usize::from(bit));
        if other.is_some_and(|other| *other != name) && self.used_keywords() & bits != 0 {
            let all: Vec<Message> = self.iter().map(|(_, m)| m).collect();
            for mut message in all {
                if message.flags.keywords & bits != 0 {
                    message.flags.keywords &= !bits;
                    touched.extend(self.set(message.uid, message.flags, message.modseq));
                }
            }
        }
        let mut names = self.keywords.to_vec();
        match names.get_mut(usize::from(bit)) {
            Some(old) => *old = name,
            // `name_lost` has named those before it.
            None => names.push(name),
        }
        self.record.keywords = u8::try_from(names.len()).unwrap_or(u8::MAX);
        self.keywords = names.into();
        touched
    }

    /// Gives names to the bits below `bit` that have none, and tells which.
    pub(super) fn name_lost(&mut self, bit: u8) -> Vec<(u8, String)> {
        let mut lost = Vec::new();
        for free in self.keywords.len()..usize::from(bit).min(MAX_KEYWORDS) {
            let mut name = format!("lost-{free}");
            while self.keywords.iter().any(|k| k.eq_ignore_ascii_case(&name)) {
                name.push('x');
            }
            self.add_keyword(free as u8, name.clone());
            lost.push((free as u8, name));
        }
        lost
    }

    /// Without the keywords that have no name: only groups that are lost can have given it.
    pub(super) fn named(&self, mut flags: Flags) -> Flags {
        let unnamed = u64::MAX.checked_shl(self.keywords.len() as u32);
        flags.keywords &= !unnamed.unwrap_or(0);
        flags
    }

    /// A bit for a new keyword: one that never had a name, else one that is neither on a message
    /// nor in `held`.
    pub(super) fn free_keyword(&self, held: u64) -> Option<u8> {
        let named = self.keywords.len();
        if named < MAX_KEYWORDS {
            return u8::try_from(named).ok();
        }
        let free = !self.used_keywords() & !held;
        (free != 0).then(|| free.trailing_zeros() as u8)
    }

    fn used_keywords(&self) -> u64 {
        let slots = self.slots.iter();
        slots.fold(0, |used, slot| used | slot.chunk.used_keywords())
    }

    /// False where all bits are taken by keywords that messages carry.
    pub fn has_keyword_room(&self) -> bool {
        self.free_keyword(0).is_some()
    }

    /// Numbers that are not given again.
    pub(super) fn raise(&mut self, uid_next: Uid, highest_modseq: ModSeq) {
        self.record.uid_next = self.record.uid_next.max(uid_next);
        self.record.highest_modseq = self.record.highest_modseq.max(highest_modseq);
    }

    pub(super) fn chunk(&self, base: u32) -> Option<&Chunk> {
        let at = self.place(base).ok()?;
        Some(&self.slots[at].chunk)
    }

    pub fn uid_validity(&self) -> UidValidity {
        self.record.uid_validity
    }

    pub fn uid_next(&self) -> Uid {
        self.record.uid_next
    }

    pub fn highest_modseq(&self) -> ModSeq {
        self.record.highest_modseq
    }

    /// EXISTS.
    pub fn len(&self) -> u32 {
        self.record.exists
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keyword names; the place is the bit in [`Flags::keywords`].
    pub fn keywords(&self) -> &Arc<[String]> {
        &self.keywords
    }

    pub fn unseen(&self) -> u32 {
        self.record.unseen
    }

    /// Sequence number of the first message without \Seen.
    pub fn first_unseen(&self) -> Option<u32> {
        if self.record.unseen == 0 {
            return None;
        }
        let unseen = |m: &Message| !m.flags.system.contains(SystemFlags::SEEN);
        self.iter().find(|(_, m)| unseen(m)).map(|(seq, _)| seq)
    }

    pub fn by_uid(&self, uid: Uid) -> Option<Message> {
        self.find(uid).map(|(_, message)| message)
    }

    fn find(&self, uid: Uid) -> Option<(u32, Message)> {
        let slot = &self.slots[self.place(uid.0 / 64).ok()?];
        let (place, message) = slot.chunk.get(slot.base, uid.0 % 64)?;
        Some((slot.before + place + 1, message))
    }

    /// Sequence numbers start at 1.
    pub fn by_seq(&self, seq: u32) -> Option<Message> {
        let n = seq.checked_sub(1)?;
        let at = self
            .slots
            .partition_point(|s| s.before <= n)
            .checked_sub(1)?;
        let slot = &self.slots[at];
        slot.chunk.nth(slot.base, n - slot.before)
    }

    pub fn seq_of(&self, uid: Uid) -> Option<u32> {
        self.find(uid).map(|(seq, _)| seq)
    }

    pub fn last_uid(&self) -> Option<Uid> {
        self.slots
            .last()
            .and_then(|s| s.chunk.nth(s.base, s.chunk.len() - 1))
            .map(|m| m.uid)
    }

    /// All messages in order, with their sequence numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Message)> + '_ {
        self.range(1..=u32::MAX)
    }

    /// Messages with UIDs in `range`, in order, with their sequence numbers. Cost is the number
    /// of messages in the range, plus a binary search.
    pub fn range(
        &self,
        range: std::ops::RangeInclusive<u32>,
    ) -> impl Iterator<Item = (u32, Message)> + '_ {
        let (lo, hi) = (*range.start(), *range.end());
        let from = self.slots.partition_point(|s| s.base < lo / 64);
        self.slots[from..]
            .iter()
            .take_while(move |s| s.base <= hi / 64)
            .flat_map(|s| {
                s.chunk
                    .iter(s.base)
                    .zip(s.before + 1..)
                    .map(|(message, seq)| (seq, message))
            })
            .filter(move |(_, m)| (lo..=hi).contains(&m.uid.0))
    }

    /// This state with the messages of an `older` one that are gone since, in their old places:
    /// for who may not hear yet that they are.
    pub fn keeping(&self, older: &Self, gone: &[Uid]) -> Self {
        let mut kept = self.clone();
        for message in gone.iter().filter_map(|uid| older.by_uid(*uid)) {
            let slot = kept.slot(message.uid.0 / 64);
            Arc::make_mut(&mut slot.chunk).put(message.uid.0 % 64, message.flags, message.modseq);
            kept.count(message.flags, 1);
            kept.record.exists += 1;
        }
        kept.renumber();
        // Not all up to now was told.
        kept.record.highest_modseq = older.record.highest_modseq;
        kept
    }

    /// What happened between `self` and the later `newer`; looks only at chunks that differ.
    pub fn diff(&self, newer: &Snapshot) -> Diff {
        let mut diff = Diff {
            keywords_changed: !Arc::ptr_eq(&self.keywords, &newer.keywords)
                && self.keywords != newer.keywords,
            ..Diff::default()
        };
        let (mut a, mut b) = (self.slots.iter().peekable(), newer.slots.iter().peekable());
        loop {
            match (a.peek(), b.peek()) {
                (None, None) => return diff,
                (Some(old), Some(new)) if old.base == new.base => {
                    if !Arc::ptr_eq(&old.chunk, &new.chunk) {
                        diff.chunks(old.base, &old.chunk, &new.chunk);
                    }
                    a.next();
                    b.next();
                }
                (Some(old), new) if new.is_none_or(|new| old.base < new.base) => {
                    diff.expunged
                        .extend(old.chunk.iter(old.base).map(|m| m.uid));
                    a.next();
                }
                (_, Some(new)) => {
                    diff.added.extend(new.chunk.iter(new.base));
                    b.next();
                }
                // `old` without `new` was taken above.
                (Some(_), None) => return diff,
            }
        }
    }
}

/// The difference between two snapshots of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// UIDs that are gone, rising.
    pub expunged: Vec<Uid>,
    /// Messages in both whose flags or modseq differ, with their new state, rising.
    pub changed: Vec<Message>,
    /// Messages that are new, rising.
    pub added: Vec<Message>,
    /// The keyword table grew, or a place in it got another name.
    pub keywords_changed: bool,
}

impl Diff {
    fn chunks(&mut self, base: u32, old: &Chunk, new: &Chunk) {
        for message in old.iter(base) {
            if new.get(base, message.uid.0 % 64).is_none() {
                self.expunged.push(message.uid);
            }
        }
        for message in new.iter(base) {
            match old.get(base, message.uid.0 % 64) {
                None => self.added.push(message),
                Some((_, before)) if before != message => self.changed.push(message),
                Some(_) => {}
            }
        }
    }
}

mod changes;

#[cfg(test)]
mod tests;
