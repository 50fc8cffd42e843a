//! The full-text index: in which messages of a mailbox a text can't be.
//!
//! May import: the rest of the store, config, mail, telemetry, types.
//!
//! It only narrows what SEARCH reads: a message that it does not cover may contain anything, and
//! one that it does not exclude is read. So it may be behind, damaged, or not there at all. It is
//! made of segments (`format`) beside the log, which belongs to no backup and no state image. A
//! mailbox gets one when somebody first looks for text in it, from then on it is kept up with
//! what comes in by a thread of its own (`worker`), which alone changes files.
//!
//! Invariants: a UID means the same message for ever, so a segment stays right whatever happens
//! to its messages; no file is waited for with `state` locked.

pub(super) mod format;
mod segment;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;

use self::format::{Decompressor, Origin};
use self::segment::{Segment, SegmentError, Span};
pub(super) use self::worker::Indexer;
use super::handle::Store;
use super::shared::Shared;
use crate::types::{MailboxKey, Uid, UidValidity};

/// With so many new messages a segment is made; fewer are read.
const BATCH: u32 = 64;
/// Segments that are open, of all mailboxes.
const OPEN: usize = 256;
/// Mailboxes that may wait to be looked at.
const WAITING: usize = 100_000;
/// Of a text's numbers no more are looked up: they say enough.
const NUMBERS: usize = 32;

/// The form of the index, and the program that made it: another one may fold texts differently.
/// What another one has made is made anew.
fn maker() -> u32 {
    crc32fast::hash(concat!("2 ", env!("CARGO_PKG_VERSION")).as_bytes())
}

/// Messages in which a text is certainly not.
#[derive(Clone, Debug, Default)]
pub struct Without(RoaringBitmap);

impl Without {
    pub fn contains(&self, uid: Uid) -> bool {
        self.0.contains(uid.0)
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Part {
    span: Span,
    bytes: u64,
    open: Option<Arc<Segment>>,
}

/// A mailbox that has an index.
#[derive(Default)]
struct Indexed {
    /// Side by side, from UID 1 on.
    parts: Vec<Part>,
    /// The last UID that is known of.
    newest: u32,
    used: Option<Instant>,
    /// It has as much as it may have.
    full: bool,
    /// It is about to go.
    bad: bool,
}

impl Indexed {
    /// The last UID that was looked at.
    fn looked_to(&self) -> u32 {
        self.parts.last().map_or(0, |part| part.span.1)
    }

    fn behind(&self) -> u32 {
        self.newest.saturating_sub(self.looked_to())
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn is_due(&self) -> bool {
        self.behind() >= BATCH && !self.full && !self.bad
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Index,
    Discard,
}

#[derive(Default)]
struct State {
    stop: bool,
    mailboxes: HashMap<MailboxKey, Indexed>,
    tasks: BTreeMap<MailboxKey, Task>,
}

impl State {
    fn want(&mut self, key: MailboxKey, task: Task) {
        if task == Task::Discard {
            self.tasks.insert(key, task);
        } else if self.tasks.len() < WAITING {
            self.tasks.entry(key).or_insert(task);
        }
    }

    /// Closes those that were not used for the longest time.
    fn close_some(&mut self) {
        let open = |indexed: &Indexed| indexed.parts.iter().filter(|p| p.open.is_some()).count();
        let mut left: usize = self.mailboxes.values().map(open).sum();
        if left <= OPEN {
            return;
        }
        let mut all: Vec<&mut Indexed> = self.mailboxes.values_mut().collect();
        all.sort_by_key(|indexed| indexed.used);
        for indexed in all {
            if left <= OPEN / 2 {
                break;
            }
            left -= open(indexed);
            indexed.parts.iter_mut().for_each(|part| part.open = None);
        }
    }
}

/// What searches, commits and the worker share.
pub(super) struct FullText {
    on: bool,
    /// There is any: else commits need not look.
    any: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl FullText {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            any: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// A mailbox has changed; a hint that may get lost.
    pub(super) fn grew(&self, key: MailboxKey, uid_next: Uid) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        if let Some(indexed) = state.mailboxes.get_mut(&key) {
            indexed.newest = indexed.newest.max(uid_next.0.saturating_sub(1));
            if indexed.is_due() {
                state.want(key, Task::Index);
                self.changed.notify_all();
            }
        }
    }

    /// A mailbox was deleted. Where this gets lost, the next start finds it.
    pub(super) fn gone(&self, key: MailboxKey) {
        if self.any.load(Ordering::Relaxed) {
            self.give_up(key);
        }
    }

    /// It is not used from now on, and removed.
    fn give_up(&self, key: MailboxKey) {
        let mut state = self.state.lock();
        if let Some(indexed) = state.mailboxes.get_mut(&key) {
            indexed.bad = true;
            state.want(key, Task::Discard);
            self.changed.notify_all();
        }
    }

    /// What there is of a mailbox that somebody searches.
    fn parts(
        &self,
        key: MailboxKey,
        newest: u32,
        messages: u32,
    ) -> Vec<(Span, Option<Arc<Segment>>)> {
        let mut state = self.state.lock();
        let Some(indexed) = state.mailboxes.get_mut(&key) else {
            if messages >= BATCH {
                state.want(key, Task::Index);
                self.changed.notify_all();
            }
            return Vec::new();
        };
        indexed.used = Some(Instant::now());
        indexed.newest = indexed.newest.max(newest);
        if indexed.bad {
            return Vec::new();
        }
        let parts = indexed.parts.iter();
        let parts = parts.map(|part| (part.span, part.open.clone())).collect();
        if indexed.is_due() {
            state.want(key, Task::Index);
            self.changed.notify_all();
        }
        parts
    }

    #[cfg(test)]
    pub(super) fn known_to(&self, key: MailboxKey) -> u32 {
        let state = self.state.lock();
        state.mailboxes.get(&key).map_or(0, Indexed::looked_to)
    }

    #[cfg(test)]
    pub(super) fn is_full(&self, key: MailboxKey) -> bool {
        let state = self.state.lock();
        state
            .mailboxes
            .get(&key)
            .is_some_and(|indexed| indexed.full)
    }

    fn keep_open(&self, key: MailboxKey, segment: &Arc<Segment>) {
        let mut state = self.state.lock();
        let parts = state
            .mailboxes
            .get_mut(&key)
            .map(|indexed| &mut indexed.parts);
        let part = parts.and_then(|all| all.iter_mut().find(|p| p.span == segment.span()));
        if let Some(part) = part {
            part.open = Some(segment.clone());
            state.close_some();
        }
    }
}

impl Shared {
    fn origin(&self, mailbox: MailboxKey, uid_validity: UidValidity) -> Origin {
        Origin {
            maker: maker(),
            store: self.store_id,
            mailbox,
            uid_validity,
        }
    }

    /// Of a state of the mailbox that is not older than the segment.
    fn open_segment(
        &self,
        origin: Origin,
        uid_next: Uid,
        span: Span,
    ) -> Result<Arc<Segment>, SegmentError> {
        let dir = segment::directory(&self.options.dir);
        let opened = Segment::open(&*self.disk, &dir, origin, span)?;
        // Somebody has put an older store in its place.
        if span.1 >= uid_next.0 || opened.log() > self.ring.end() {
            return Err(format::Bad("it knows of messages that are not there yet").into());
        }
        let opened = Arc::new(opened);
        self.full_text.keep_open(origin.mailbox, &opened);
        Ok(opened)
    }

    fn find_without(
        &self,
        key: MailboxKey,
        wanted: &[Vec<u32>],
        make: bool,
    ) -> Result<Vec<Without>, SegmentError> {
        let mut found = vec![Without::default(); wanted.len()];
        let Ok(mailbox) = self.mailbox(key) else {
            return Ok(found);
        };
        let before = mailbox.snapshot();
        let newest = before.uid_next().0.saturating_sub(1);
        let messages = if make { before.len() } else { 0 };
        let parts = self.full_text.parts(key, newest, messages);
        if parts.is_empty() {
            return Ok(found);
        }
        let snapshot = mailbox.snapshot();
        let origin = self.origin(key, snapshot.uid_validity());
        let mut with = Decompressor::new()?;
        for (span, open) in parts {
            let segment = match open {
                Some(segment) => segment,
                None => self.open_segment(origin, snapshot.uid_next(), span)?,
            };
            for (numbers, Without(without)) in wanted.iter().zip(&mut found) {
                if !numbers.is_empty() {
                    // Those with blanks come first, and say least.
                    let some = &numbers[numbers.len().saturating_sub(NUMBERS)..];
                    let hits = segment.with_all(some, &mut with)?;
                    *without |= segment.covered() - hits;
                }
            }
        }
        Ok(found)
    }
}

impl Store {
    /// For each of some texts (their [`crate::mail::trigrams`]) the messages that can't contain
    /// it. Reads the disk. With `make` the mailbox gets an index where it has none.
    pub fn without_text(&self, key: MailboxKey, wanted: &[Vec<u32>], make: bool) -> Vec<Without> {
        let shared = self.shared();
        let nothing = || vec![Without::default(); wanted.len()];
        if !shared.full_text.on || wanted.iter().all(Vec::is_empty) {
            return nothing();
        }
        let mut found = shared.find_without(key, wanted, make);
        if matches!(&found, Err(SegmentError::Io(e)) if e.kind() == io::ErrorKind::NotFound) {
            // Some were made one meanwhile.
            found = shared.find_without(key, wanted, make);
        }
        let found = found.unwrap_or_else(|error| {
            shared.telemetry.store.text_index_failed(&error.to_string());
            // What can't be read for now may be good.
            let lost = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
            match error {
                SegmentError::Io(e) if !lost(&e) => {}
                _ => shared.full_text.give_up(key),
            }
            nothing()
        });
        let narrowed = found.iter().any(|without| !without.is_empty());
        shared.telemetry.store.text_searched(narrowed);
        found
    }
}
