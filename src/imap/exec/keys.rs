//! Keys of messages, read where they are not known yet.
//!
//! May import: store, mail, types.

use std::sync::Arc;

use super::helper::Helper;
use crate::imap::keys::{Block, Facts, KeyCache, Kind, Links, SPAN, Texts};
use crate::mail::{Envelope, References, Traits, envelope_wire};
use crate::store::{BodyPlace, MessageHead, Sketch, Snapshot, Store, StoreError, step_back};
use crate::types::{BlobId, MailboxKey, Uid};

/// Bytes of bodies whose headers are read together.
const TOGETHER: u64 = 1024 * 1024;
/// What is read of a larger one: no header is looked at any further.
const TOP: u64 = 256 * 1024;

/// Keys of one mailbox's messages, for one command. Who asks for them in order has every other
/// block read by another thread meanwhile.
pub(super) struct Keys {
    reader: Reader,
    facts: Lane<Facts>,
    texts: Lane<Texts>,
    links: Lane<Links>,
}

/// Keys of one kind.
struct Lane<T> {
    /// The block that was asked last.
    at: At<T>,
    /// The block that was read last.
    read: Option<u32>,
    /// The next one, which is read beside.
    next: Option<(u32, Helper<Found<T>>)>,
}

type At<T> = Option<(u32, Arc<Block<T>>)>;
type Found<T> = Result<Arc<Block<T>>, StoreError>;

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            at: None,
            read: None,
            next: None,
        }
    }
}

/// The turn to read what nobody has asked for.
struct Preparing(Arc<KeyCache>);

impl Preparing {
    fn begin(cache: &Arc<KeyCache>) -> Option<Self> {
        cache.begin_preparing().then(|| Self(cache.clone()))
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.0.end_preparing();
    }
}

/// Reads what is missing.
#[derive(Clone)]
pub(super) struct Reader {
    pub store: Store,
    pub cache: Arc<KeyCache>,
    pub limit: usize,
    pub mailbox: MailboxKey,
    pub current: Arc<Snapshot>,
}

/// How keys of a kind are read.
trait Read: Kind + Send + Sync + 'static {
    fn read(reader: &Reader, missing: &[u32]) -> Result<Vec<(u32, Self)>, StoreError>;
}

impl Read for Facts {
    fn read(reader: &Reader, missing: &[u32]) -> Result<Vec<(u32, Self)>, StoreError> {
        reader.read_facts(missing)
    }
}

impl Read for Texts {
    fn read(reader: &Reader, missing: &[u32]) -> Result<Vec<(u32, Self)>, StoreError> {
        reader.read_texts(missing)
    }
}

impl Read for Links {
    fn read(reader: &Reader, missing: &[u32]) -> Result<Vec<(u32, Self)>, StoreError> {
        reader.read_links(missing)
    }
}

impl Keys {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            facts: Lane::default(),
            texts: Lane::default(),
            links: Lane::default(),
        }
    }

    /// None: expunged meanwhile.
    pub(super) fn facts(&mut self, uid: Uid) -> Result<Option<&Facts>, StoreError> {
        self.facts.find(&self.reader, uid)
    }

    /// Reads facts as well: who needs both asks for texts first.
    pub(super) fn texts(&mut self, uid: Uid) -> Result<Option<&Texts>, StoreError> {
        self.texts.find(&self.reader, uid)
    }

    pub(super) fn links(&mut self, uid: Uid) -> Result<Option<&Links>, StoreError> {
        self.links.find(&self.reader, uid)
    }
}

impl<T: Read> Lane<T> {
    fn find(&mut self, reader: &Reader, uid: Uid) -> Result<Option<&T>, StoreError> {
        if known(self.at.as_ref(), uid).is_none() {
            self.look(reader, uid)?;
        }
        Ok(known(self.at.as_ref(), uid))
    }

    fn look(&mut self, reader: &Reader, uid: Uid) -> Result<(), StoreError> {
        let base = uid.0 / SPAN;
        let old = match self.at.take() {
            Some((other, block)) if other == base => Some(block),
            _ => reader.cache.get::<T>(reader.mailbox, base),
        };
        if old.as_ref().is_some_and(|block| block.get(uid.0).is_some()) {
            self.at = old.map(|block| (base, block));
            return Ok(());
        }
        let block = match self.next.take() {
            Some((next, helper)) if next == base => helper.done(),
            _ => {
                // Who has asked for two in a row goes on.
                if base > 0 && self.read == Some(base - 1) {
                    self.next = reader.read_beside(base + 1);
                }
                None
            }
        };
        let block = block.unwrap_or_else(|| reader.block(base, old.as_deref()))?;
        self.read = Some(base);
        self.at = Some((base, block));
        Ok(())
    }
}

impl Reader {
    /// A block with all that is there, kept.
    fn block<T: Read>(&self, base: u32, old: Option<&Block<T>>) -> Found<T> {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for (_, message) in self.current.range(span(base)) {
            let uid = message.uid.0;
            match old.and_then(|block| block.get(uid)) {
                Some(keys) => all.push((uid, keys.clone())),
                None => missing.push(uid),
            }
        }
        all.append(&mut T::read(self, &missing)?);
        all.sort_unstable_by_key(|(uid, _)| *uid);
        Ok(self.keep(base, all))
    }

    fn keep<T: Kind>(&self, base: u32, all: Vec<(u32, T)>) -> Arc<Block<T>> {
        let block = Arc::new(Block::new(all));
        self.cache
            .put(self.limit, self.mailbox, base, block.clone());
        block
    }

    /// None: there is nothing to be read.
    fn read_beside<T: Read>(&self, base: u32) -> Option<(u32, Helper<Found<T>>)> {
        let there = self.current.range(span(base)).next().is_some();
        if !there || self.cache.get::<T>(self.mailbox, base).is_some() {
            return None;
        }
        let reader = self.clone();
        Some((base, Helper::start(move || reader.block(base, None))))
    }

    fn read_facts(&self, missing: &[u32]) -> Result<Vec<(u32, Facts)>, StoreError> {
        let mut read = Vec::with_capacity(missing.len());
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let range = *first..=*last;
            self.store
                .scan_heads(self.mailbox, range, &mut |uid, head| {
                    if missing.binary_search(&uid.0).is_ok() {
                        read.push((uid.0, facts_of(&head)));
                    }
                })?;
        }
        Ok(read)
    }

    fn read_texts(&self, missing: &[u32]) -> Result<Vec<(u32, Texts)>, StoreError> {
        let mut read = Vec::with_capacity(missing.len());
        let mut facts = Vec::with_capacity(missing.len());
        let mut without = Vec::new();
        let mut room = String::new();
        self.sketches(missing, &mut |uid, head, sketch| {
            facts.push((uid, facts_of(&head)));
            match sketch.and_then(|sketch| Envelope::read(sketch.envelope)) {
                Some(envelope) => read.push((uid, Texts::read(&envelope, &mut room))),
                None => without.push((uid, head.blob)),
            }
        })?;
        // They cost nothing more, and are mostly asked for next.
        if let Some(base) = missing.first().map(|first| first / SPAN)
            && self.cache.get::<Facts>(self.mailbox, base).is_none()
        {
            self.keep(base, facts);
        }
        for (uid, blob) in without {
            let top = self.top(uid, blob)?.unwrap_or_default();
            let wire = envelope_wire(&top);
            let envelope = Envelope::read(&wire).unwrap_or_default();
            read.push((uid, Texts::of(&envelope)));
        }
        Ok(read)
    }

    /// Of the missing ones that are there.
    fn sketches(
        &self,
        missing: &[u32],
        each: &mut dyn FnMut(u32, MessageHead, Option<Sketch<'_>>),
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else {
            return Ok(());
        };
        let scan = &mut |uid: Uid, head: MessageHead, sketch: Option<Sketch<'_>>| {
            if missing.binary_search(&uid.0).is_ok() {
                each(uid.0, head, sketch);
            }
        };
        self.store.scan_sketches(self.mailbox, *first..=*last, scan)
    }

    /// Bodies are read of those alone whose ENVELOPE does not tell it all.
    fn read_links(&self, missing: &[u32]) -> Result<Vec<(u32, Links)>, StoreError> {
        let mut read = Vec::with_capacity(missing.len());
        let mut rest = Vec::new();
        self.sketches(missing, &mut |uid, head, sketch| {
            let told = sketch.filter(|sketch| sketch.traits.has(Traits::LINKS_TOLD));
            match told.and_then(|sketch| Envelope::read(sketch.envelope)) {
                Some(envelope) => {
                    read.push((uid, Links::of(&References::told(&envelope), head.blob)));
                }
                None => rest.push((uid, head)),
            }
        })?;
        let mut next = rest.into_iter().peekable();
        while let Some((uid, first)) = next.next() {
            let mut group = vec![(uid, first.blob)];
            let mut bytes = first.size;
            while let Some((uid, head)) = next.next_if(|(_, head)| bytes + head.size <= TOGETHER) {
                bytes += head.size;
                group.push((uid, head.blob));
            }
            let blobs: Vec<BlobId> = group.iter().map(|(_, blob)| *blob).collect();
            let bodies = if bytes <= TOGETHER {
                self.store.bodies(&blobs)
            } else {
                Vec::new()
            };
            for (n, (uid, blob)) in group.into_iter().enumerate() {
                let body = match bodies.get(n).cloned().flatten() {
                    Some(body) => Some(body),
                    None => self.top(uid, blob)?,
                };
                let references = References::read(&body.unwrap_or_default());
                read.push((uid, Links::of(&references, blob)));
            }
        }
        Ok(read)
    }

    /// Reads texts on a thread that steps back for all others. One at a time does that, and only
    /// where there is room in plenty: nobody has asked for them yet.
    pub(super) fn prepare(self) {
        let Some(first) = self.unprepared(0) else {
            return;
        };
        let Some(turn) = Preparing::begin(&self.cache) else {
            return;
        };
        // Where no thread is to be had, it is done when it is asked for.
        let _ = std::thread::Builder::new()
            .name("keys".into())
            .stack_size(512 * 1024)
            .spawn(move || {
                step_back();
                let mut next = Some(first);
                while let Some(base) = next.filter(|_| self.cache.has_room(self.limit)) {
                    if self.block::<Texts>(base, None).is_err() {
                        break;
                    }
                    next = self.unprepared(base.saturating_add(1));
                }
                drop(turn);
            });
    }

    /// The first block with messages from here on of which no texts are kept.
    fn unprepared(&self, from: u32) -> Option<u32> {
        let mut base = from;
        loop {
            let start = base.checked_mul(SPAN)?;
            base = self.current.range(start..=u32::MAX).next()?.1.uid.0 / SPAN;
            if self.cache.get::<Texts>(self.mailbox, base).is_none() {
                return Some(base);
            }
            base += 1;
        }
    }

    /// A damaged body says nothing.
    fn top(&self, uid: u32, blob: BlobId) -> Result<Option<bytes::Bytes>, StoreError> {
        let place = BodyPlace::default();
        let top = self
            .store
            .body_range_at(self.mailbox, Uid(uid), blob, &place, 0..TOP);
        match top {
            Ok(top) => Ok(Some(top)),
            Err(StoreError::DamagedBody | StoreError::Expunged) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn known<T: Kind>(at: Option<&(u32, Arc<Block<T>>)>, uid: Uid) -> Option<&T> {
    let (base, block) = at?;
    if *base == uid.0 / SPAN {
        block.get(uid.0)
    } else {
        None
    }
}

fn span(base: u32) -> std::ops::RangeInclusive<u32> {
    let first = base.saturating_mul(SPAN);
    first..=first.saturating_add(SPAN - 1)
}

fn facts_of(head: &MessageHead) -> Facts {
    Facts {
        internal: (head.internal_date.signed(), head.internal_zone),
        saved: head.saved.signed(),
        size: head.size,
        blob: head.blob,
        variant: head.variant,
    }
}
