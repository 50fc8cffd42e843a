//! Keys of messages, read where they are not known yet.
//!
//! May import: store, mail, types.

use std::sync::Arc;

use crate::imap::keys::{Block, Facts, KeyCache, Kind, Links, SPAN, Texts};
use crate::mail::{Envelope, References, envelope_wire};
use crate::store::{BodyPlace, MessageRecord, Snapshot, Store, StoreError};
use crate::types::{BlobId, MailboxKey, Uid};

/// Bytes of bodies whose headers are read together.
const TOGETHER: u64 = 1024 * 1024;
/// What is read of a larger one: no header is looked at any further.
const TOP: u64 = 256 * 1024;

/// Keys of one mailbox's messages, for one command.
pub(super) struct Keys<'a> {
    store: &'a Store,
    cache: &'a KeyCache,
    limit: usize,
    mailbox: MailboxKey,
    current: Arc<Snapshot>,
    facts: At<Facts>,
    texts: At<Texts>,
    links: At<Links>,
}

/// The block that was asked last.
type At<T> = Option<(u32, Arc<Block<T>>)>;

impl<'a> Keys<'a> {
    pub(super) fn new(
        store: &'a Store,
        cache: &'a KeyCache,
        limit: usize,
        mailbox: MailboxKey,
        current: Arc<Snapshot>,
    ) -> Self {
        Self {
            store,
            cache,
            limit,
            mailbox,
            current,
            facts: None,
            texts: None,
            links: None,
        }
    }

    /// None: expunged meanwhile.
    pub(super) fn facts(&mut self, uid: Uid) -> Result<Option<&Facts>, StoreError> {
        let mut at = self.facts.take();
        let found = self.find(&mut at, uid, Self::read_facts);
        self.facts = at;
        found?;
        Ok(known(self.facts.as_ref(), uid))
    }

    pub(super) fn texts(&mut self, uid: Uid) -> Result<Option<&Texts>, StoreError> {
        let mut at = self.texts.take();
        let found = self.find(&mut at, uid, Self::read_texts);
        self.texts = at;
        found?;
        Ok(known(self.texts.as_ref(), uid))
    }

    pub(super) fn links(&mut self, uid: Uid) -> Result<Option<&Links>, StoreError> {
        let mut at = self.links.take();
        let found = self.find(&mut at, uid, Self::read_links);
        self.links = at;
        found?;
        Ok(known(self.links.as_ref(), uid))
    }

    fn find<T: Kind>(
        &self,
        at: &mut At<T>,
        uid: Uid,
        read: impl FnOnce(&Self, &[u32]) -> Result<Vec<(u32, T)>, StoreError>,
    ) -> Result<(), StoreError> {
        let base = uid.0 / SPAN;
        if known(at.as_ref(), uid).is_some() {
            return Ok(());
        }
        let old = match at.take() {
            Some((other, block)) if other == base => Some(block),
            _ => self.cache.get::<T>(self.mailbox, base),
        };
        if old.as_ref().is_some_and(|block| block.get(uid.0).is_some()) {
            *at = old.map(|block| (base, block));
            return Ok(());
        }
        let span = base * SPAN..=base * SPAN + (SPAN - 1);
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for (_, message) in self.current.range(span) {
            let uid = message.uid.0;
            match old.as_ref().and_then(|block| block.get(uid)) {
                Some(keys) => all.push((uid, keys.clone())),
                None => missing.push(uid),
            }
        }
        all.append(&mut read(self, &missing)?);
        all.sort_unstable_by_key(|(uid, _)| *uid);
        let block = Arc::new(Block::new(all));
        self.cache
            .put(self.limit, self.mailbox, base, block.clone());
        *at = Some((base, block));
        Ok(())
    }

    fn read_facts(&self, missing: &[u32]) -> Result<Vec<(u32, Facts)>, StoreError> {
        let mut read = Vec::with_capacity(missing.len());
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let range = *first..=*last;
            self.store
                .scan_heads(self.mailbox, range, &mut |uid, head| {
                    if missing.binary_search(&uid.0).is_ok() {
                        let facts = Facts {
                            internal: (head.internal_date.signed(), head.internal_zone),
                            saved: head.saved.signed(),
                            size: head.size,
                            blob: head.blob,
                            variant: head.variant,
                        };
                        read.push((uid.0, facts));
                    }
                })?;
        }
        Ok(read)
    }

    fn read_texts(&self, missing: &[u32]) -> Result<Vec<(u32, Texts)>, StoreError> {
        let mut read = Vec::with_capacity(missing.len());
        let mut without = Vec::new();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let range = *first..=*last;
            self.store
                .scan_messages(self.mailbox, range, &mut |uid, record| {
                    if missing.binary_search(&uid.0).is_ok() {
                        let MessageRecord { blob, summary, .. } = record;
                        let summary = summary.unpack();
                        match summary.plain().and_then(|s| Envelope::read(&s.envelope)) {
                            Some(envelope) => read.push((uid.0, Texts::of(&envelope))),
                            None => without.push((uid.0, blob)),
                        }
                    }
                    true
                })?;
        }
        for (uid, blob) in without {
            let top = self.top(uid, blob)?.unwrap_or_default();
            let envelope = Envelope::read(&envelope_wire(&top)).unwrap_or_default();
            read.push((uid, Texts::of(&envelope)));
        }
        Ok(read)
    }

    fn read_links(&self, missing: &[u32]) -> Result<Vec<(u32, Links)>, StoreError> {
        let mut at = None;
        let mut facts = Vec::with_capacity(missing.len());
        for uid in missing {
            self.find(&mut at, Uid(*uid), Self::read_facts)?;
            facts.extend(known(at.as_ref(), Uid(*uid)).map(|facts| (*uid, *facts)));
        }
        let mut read = Vec::with_capacity(missing.len());
        let mut next = facts.into_iter().peekable();
        while let Some((uid, first)) = next.next() {
            let mut group = vec![(uid, first.blob)];
            let mut bytes = first.size;
            while let Some((uid, facts)) = next.next_if(|(_, f)| bytes + f.size <= TOGETHER) {
                bytes += facts.size;
                group.push((uid, facts.blob));
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
