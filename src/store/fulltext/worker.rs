//! The thread that makes and removes segments.
//!
//! May import: the parent, the rest of the store, mail, types.
//!
//! It takes what others leave of one processor, and pauses, for whoever counts what it uses; it
//! has one message and the numbers of one segment in memory.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use super::segment::{self, Segment, SegmentError, Span, UNFINISHED, Writing, merge};
use super::{BATCH, Indexed, Part, State, Task};
use crate::mail::Trigrams;
use crate::store::ballast;
use crate::store::beside::step_back;
use crate::store::error::StoreError;
use crate::store::keys::{self, MailboxRecord};
use crate::store::reading::BodyPlace;
use crate::store::shared::Shared;
use crate::store::snapshot::Snapshot;
use crate::types::{MailboxKey, Uid};

/// Work between two pauses.
const TURN: Duration = Duration::from_millis(10);
/// A pause is so many times shorter than the work before it.
const PAUSE: u32 = 8;
/// After something failed.
const AGAIN: Duration = Duration::from_secs(60);
/// A message with more is not in the index: it says nearly everything.
const MOST: usize = 256 * 1024;
/// A segment that is not so many times smaller than the one before becomes one with it.
const RATIO: u64 = 4;
/// An index that was not used for so long may go where there is no room for another.
const UNUSED: Duration = Duration::from_secs(24 * 3600);
/// Numbers between two looks at the time.
const LOOK: usize = 1024;

/// The thread's own.
pub(in crate::store) struct Indexer {
    shared: Arc<Shared>,
    /// None of what is there is to be trusted.
    anew: bool,
    began: Instant,
}

/// What ends a piece of work early.
enum Stop {
    /// The store stops.
    Closed,
    /// It is tried again later.
    Failed(String),
    /// What there is of the mailbox has to go.
    Bad(String),
}

impl From<SegmentError> for Stop {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io(error) => Self::Failed(error.to_string()),
            SegmentError::Bad(error) => Self::Bad(error.to_string()),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Indexer {
    pub(in crate::store) fn new(shared: Arc<Shared>, anew: bool) -> Self {
        let began = Instant::now();
        Self {
            shared,
            anew,
            began,
        }
    }

    /// Runs until told to stop.
    pub(in crate::store) fn run(mut self) {
        step_back();
        self.load();
        let mut last = None;
        while let Some((key, task)) = self.next(last) {
            last = Some(key);
            self.began = Instant::now();
            let done = match task {
                Task::Discard => Err(Stop::Bad(String::new())),
                Task::Index => self.index(key),
            };
            match done {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Bad(reason)) => {
                    if !reason.is_empty() {
                        self.shared.telemetry.store.text_index_failed(&reason);
                    }
                    self.discard(key);
                }
                Err(Stop::Failed(reason)) => {
                    self.shared.telemetry.store.text_index_failed(&reason);
                    self.wait(AGAIN);
                }
            }
            self.tell();
        }
    }

    /// Each in turn. None: the end.
    fn next(&self, last: Option<MailboxKey>) -> Option<(MailboxKey, Task)> {
        let text = &self.shared.full_text;
        let mut state = text.state.lock();
        loop {
            if state.stop {
                return None;
            }
            let after = last.map_or(Bound::Unbounded, Bound::Excluded);
            let behind = state.tasks.range((after, Bound::Unbounded)).next();
            let found = behind.or_else(|| state.tasks.iter().next());
            if let Some(key) = found.map(|(key, _)| *key) {
                return state.tasks.remove(&key).map(|task| (key, task));
            }
            text.changed.wait(&mut state);
        }
    }

    /// False where the store stops.
    fn wait(&self, pause: Duration) -> bool {
        let text = &self.shared.full_text;
        let until = Instant::now() + pause;
        let mut state = text.state.lock();
        while !state.stop {
            if text.changed.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }

    /// Pauses where it is time to. False where the store stops.
    fn pace(&mut self) -> bool {
        let worked = self.began.elapsed();
        if worked < TURN {
            return true;
        }
        let go_on = self.wait(worked.min(4 * TURN) / PAUSE);
        self.began = Instant::now();
        go_on
    }

    fn tell(&self) {
        let state = self.shared.full_text.state.lock();
        let bytes = state.mailboxes.values().map(Indexed::bytes).sum();
        let behind = state.mailboxes.values().map(Indexed::behind);
        let behind = behind.map(u64::from).sum();
        self.shared.telemetry.store.text_index(bytes, behind);
    }

    /// Finds what is there. What does not fit together, or is of nobody, goes.
    fn load(&self) {
        let shared = &self.shared;
        let dir = segment::directory(&shared.options.dir);
        let Ok(files) = shared.disk.list(&dir) else {
            // There is none.
            return;
        };
        let mut found: Vec<(MailboxKey, Span, u64)> = Vec::new();
        for file in &files {
            let Some(name) = file.name.to_str() else {
                continue;
            };
            match segment::parse_name(name) {
                Some((key, span)) if shared.full_text.on && !self.anew => {
                    found.push((key, span, file.len));
                }
                Some(_) => self.remove(name),
                None if name.ends_with(UNFINISHED) => self.remove(name),
                None => {}
            }
        }
        // Of those that begin with the same message the one that was made of the others is first.
        found.sort_by_key(|(key, (from, to), _)| (*key, *from, std::cmp::Reverse(*to)));
        let mut all: Vec<(MailboxKey, Indexed)> = Vec::new();
        let mut broken = std::collections::BTreeSet::new();
        for (key, span, bytes) in found {
            if all.last().is_none_or(|(other, _)| *other != key) {
                all.push((key, Indexed::default()));
            }
            let Some((_, indexed)) = all.last_mut() else {
                continue;
            };
            let looked_to = indexed.looked_to();
            if span.1 <= looked_to {
                self.remove(&segment::name(key, span));
                continue;
            }
            if span.0 != looked_to + 1 {
                broken.insert(key);
            }
            indexed.newest = span.1;
            indexed.parts.push(Part {
                span,
                bytes,
                open: None,
            });
        }
        for (key, indexed) in &mut all {
            let record = shared.get::<MailboxRecord>(&keys::mailbox(b'M', *key));
            indexed.bad = broken.contains(key) || matches!(record, Ok(None));
        }
        let mut state = shared.full_text.state.lock();
        for (key, indexed) in all {
            if indexed.bad {
                state.want(key, Task::Discard);
            }
            state.mailboxes.insert(key, indexed);
        }
        drop(state);
        self.look_for_any();
        self.tell();
    }

    fn look_for_any(&self) {
        let text = &self.shared.full_text;
        let any = !text.state.lock().mailboxes.is_empty();
        text.any.store(any, std::sync::atomic::Ordering::Relaxed);
    }

    fn remove(&self, name: &str) {
        let path = segment::directory(&self.shared.options.dir).join(name);
        if let Err(error) = self.shared.disk.remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a file of the full-text index could not be removed");
        }
    }

    /// All of a mailbox.
    fn discard(&self, key: MailboxKey) {
        let parts = {
            let mut state = self.shared.full_text.state.lock();
            state.tasks.remove(&key);
            state.mailboxes.remove(&key).map(|indexed| indexed.parts)
        };
        // The last first: what a crash leaves fits together.
        for part in parts.unwrap_or_default().iter().rev() {
            self.remove(&segment::name(key, part.span));
        }
        self.look_for_any();
    }

    fn spans(&self, key: MailboxKey) -> Vec<(Span, u64)> {
        let state = self.shared.full_text.state.lock();
        let parts = state.mailboxes.get(&key).map(|indexed| &indexed.parts);
        let parts = parts.into_iter().flatten();
        parts.map(|part| (part.span, part.bytes)).collect()
    }

    /// Puts what comes after the last segment into a new one, as far as there is memory for it.
    fn index(&mut self, key: MailboxKey) -> Result<(), Stop> {
        let mailbox = match self.shared.mailbox(key) {
            Ok(mailbox) => mailbox,
            Err(StoreError::NoMailbox) => {
                self.discard(key);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let snapshot = mailbox.snapshot();
        let config = &self.shared.options.config;
        let memory = config.text_index_memory_bytes;
        let looked_to = {
            let mut state = self.shared.full_text.state.lock();
            let indexed = state.mailboxes.entry(key).or_default();
            indexed.newest = snapshot.uid_next().0.saturating_sub(1);
            indexed.looked_to()
        };
        self.look_for_any();
        let from = looked_to.saturating_add(1);
        let new = snapshot.range(from..=u32::MAX).take(BATCH as usize);
        if (new.count() as u32) < BATCH {
            return Ok(());
        }
        let began = Instant::now();
        let log = self.shared.ring.end();
        let capacity = memory / size_of::<u64>();
        // So that no segment is nearly empty.
        let most = MOST.min(capacity / 4);
        let mut trigrams = Trigrams::new(most);
        let mut pairs: Vec<u64> = Vec::new();
        let mut covered = RoaringBitmap::new();
        let (mut to, mut count) = (snapshot.uid_next().0.saturating_sub(1), 0);
        for (_, message) in snapshot.range(from..=u32::MAX) {
            let uid = message.uid;
            if !self.pace() {
                return Err(Stop::Closed);
            }
            if pairs.len() + most > capacity && count > 0 {
                // The next segment goes on from here.
                to = uid.0 - 1;
                break;
            }
            count += 1;
            let raw = self.raw(key, uid, memory)?;
            if let Some(numbers) = raw.as_deref().and_then(|raw| trigrams.of(raw)) {
                let pair = |number: &u32| u64::from(*number) << 32 | u64::from(uid.0);
                pairs.extend(numbers.iter().map(pair));
                covered.insert(uid.0);
            }
        }
        drop(trigrams);
        pairs.sort_unstable();
        if !ballast::leaves_room(&self.shared, 4 * pairs.len() as u64) {
            return Err(Stop::Failed("the disk is nearly full".into()));
        }
        let origin = self.shared.origin(key, snapshot.uid_validity());
        let dir = segment::directory(&self.shared.options.dir);
        let mut writing = Writing::begin(&self.shared.disk, &dir, origin, (from, to), log)?;
        for (n, of_one) in pairs.chunk_by(|a, b| a >> 32 == b >> 32).enumerate() {
            if n.is_multiple_of(LOOK) && !self.pace() {
                return Err(Stop::Closed);
            }
            let number = of_one.first().map_or(0, |pair| (pair >> 32) as u32);
            writing.put(number, of_one.iter().map(|pair| *pair as u32).collect())?;
        }
        drop(pairs);
        let bytes = writing.end(covered)?;
        self.shared
            .telemetry
            .store
            .text_indexed(count, began.elapsed());
        {
            let mut state = self.shared.full_text.state.lock();
            let indexed = state.mailboxes.entry(key).or_default();
            indexed.parts.push(Part {
                span: (from, to),
                bytes,
                open: None,
            });
            if indexed.is_due() {
                state.want(key, Task::Index);
            }
        }
        if mailbox.is_deleted() {
            // Nobody knew that there was anything to be removed.
            self.discard(key);
        } else if self.make_room(key) {
            self.tidy(key, &snapshot)?;
        }
        Ok(())
    }

    /// A message as SEARCH reads it. None: it can't be read, or is too large.
    fn raw(&self, key: MailboxKey, uid: Uid, most: usize) -> Result<Option<Vec<u8>>, Stop> {
        let record = self.shared.get(&keys::message(key, uid))?;
        let Some(record): Option<crate::store::model::MessageRecord> = record else {
            return Ok(None);
        };
        if record.size > most as u64 {
            return Ok(None);
        }
        let place = BodyPlace::default();
        let body = self
            .shared
            .body_range_at(key, uid, record.blob, &place, 0..u64::MAX);
        match body {
            Ok(body) => Ok(Some([&record.prefix[..], &body[..]].concat())),
            Err(StoreError::DamagedBody | StoreError::Expunged) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps to the limits. False where the newest segment had to go for that.
    fn make_room(&self, key: MailboxKey) -> bool {
        let config = &self.shared.options.config;
        loop {
            let mut state = self.shared.full_text.state.lock();
            let total: u64 = state.mailboxes.values().map(Indexed::bytes).sum();
            let own = state.mailboxes.get(&key).map_or(0, Indexed::bytes);
            let fits = own <= config.text_index_mailbox_bytes;
            if fits && total <= config.text_index_bytes {
                return true;
            }
            if fits && let Some(other) = unused(&state, key) {
                drop(state);
                self.discard(other);
                continue;
            }
            let indexed = state.mailboxes.get_mut(&key);
            let part = indexed.and_then(|indexed| {
                indexed.full = true;
                indexed.parts.pop()
            });
            drop(state);
            if let Some(part) = part {
                self.remove(&segment::name(key, part.span));
            }
            return false;
        }
    }

    /// Makes small segments one, and those smaller whose messages are gone.
    fn tidy(&mut self, key: MailboxKey, snapshot: &Snapshot) -> Result<(), Stop> {
        for (n, (span, _)) in self.spans(key).into_iter().enumerate() {
            let live = snapshot.range(span.0..=span.1).count() as u64;
            let covered = self.segment(key, snapshot, span)?.covered().len();
            if live * 2 < covered {
                self.merge(key, snapshot, n, 1)?;
            }
        }
        loop {
            let spans = self.spans(key);
            let at = spans
                .windows(2)
                .rposition(|two| two[1].1 * RATIO >= two[0].1);
            match at {
                Some(at) => self.merge(key, snapshot, at, 2)?,
                None => return Ok(()),
            }
        }
    }

    fn segment(
        &self,
        key: MailboxKey,
        snapshot: &Snapshot,
        span: Span,
    ) -> Result<Arc<Segment>, Stop> {
        let origin = self.shared.origin(key, snapshot.uid_validity());
        let opened = self.shared.open_segment(origin, snapshot.uid_next(), span);
        opened.map_err(|error| match error {
            // Nobody else removes any.
            SegmentError::Io(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Stop::Bad(e.to_string())
            }
            error => error.into(),
        })
    }

    /// One of `count` segments from the one at `at` on.
    fn merge(
        &mut self,
        key: MailboxKey,
        snapshot: &Snapshot,
        at: usize,
        count: usize,
    ) -> Result<(), Stop> {
        let spans: Vec<(Span, u64)> = self.spans(key).into_iter().skip(at).take(count).collect();
        let (Some(((from, _), _)), Some(((_, to), _))) = (spans.first(), spans.last()) else {
            return Ok(());
        };
        let (from, to) = (*from, *to);
        if !ballast::leaves_room(&self.shared, spans.iter().map(|(_, bytes)| bytes).sum()) {
            return Err(Stop::Failed("the disk is nearly full".into()));
        }
        let segments = spans
            .iter()
            .map(|(span, _)| self.segment(key, snapshot, *span));
        let segments = segments.collect::<Result<Vec<_>, _>>()?;
        let live: RoaringBitmap = snapshot.range(from..=to).map(|(_, m)| m.uid.0).collect();
        let log = segments.iter().map(|segment| segment.log()).max();
        let origin = self.shared.origin(key, snapshot.uid_validity());
        let dir = segment::directory(&self.shared.options.dir);
        let disk = self.shared.disk.clone();
        let into = Writing::begin(&disk, &dir, origin, (from, to), log.unwrap_or_default())?;
        let mut numbers = 0;
        let mut go_on = || {
            numbers += 1;
            !usize::is_multiple_of(numbers, LOOK) || self.pace()
        };
        let bytes = merge(&segments, &live, into, &mut go_on)?.ok_or(Stop::Closed)?;
        {
            let mut state = self.shared.full_text.state.lock();
            if let Some(indexed) = state.mailboxes.get_mut(&key) {
                let part = Part {
                    span: (from, to),
                    bytes,
                    open: None,
                };
                indexed.parts.splice(at..at + spans.len(), [part]);
            }
        }
        for (span, _) in spans.iter().filter(|(span, _)| *span != (from, to)) {
            self.remove(&segment::name(key, *span));
        }
        Ok(())
    }
}

/// Whose index was not used for long, the longest first.
fn unused(state: &State, but: MailboxKey) -> Option<MailboxKey> {
    let idle = |used: Instant| used.elapsed() >= UNUSED;
    let others = state.mailboxes.iter().filter(|(key, indexed)| {
        **key != but && !indexed.parts.is_empty() && indexed.used.is_none_or(idle)
    });
    let oldest = others.min_by_key(|(_, indexed)| indexed.used);
    oldest.map(|(key, _)| *key)
}
