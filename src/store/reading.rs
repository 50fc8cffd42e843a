//! The store's face, continued: messages as they are read. Who misses something that should be
//! there says so: the index is then built anew.
//!
//! May import: types.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;

use super::beside::beside;
use super::error::StoreError;
use super::handle::Store;
use super::keys;
use super::log::{BlobPlace, LogError};
use super::model::{MessageRecord, variant};
use super::packed::{Sketch, Unpacking, WrittenKept};
use super::quarantine::Damaged;
use super::shared::Shared;
use crate::types::{BlobId, MailboxKey, Uid, UnixMillis};

/// Fewer records than this are read where the caller is.
const SHORT_SCAN: u32 = 64;

/// What a message's record begins with.
#[derive(Clone, Copy, Debug)]
pub struct MessageHead {
    pub size: u64,
    pub blob: BlobId,
    /// See [`MessageRecord::variant`].
    pub variant: u32,
    pub internal_date: UnixMillis,
    pub internal_zone: i16,
    pub saved: UnixMillis,
}

/// [`MessageRecord`] up to its summary, as it is written.
#[derive(Deserialize)]
struct WrittenHead<'a> {
    size: u64,
    blob: BlobId,
    #[serde(borrow)]
    prefix: &'a [u8],
    internal_date: UnixMillis,
    internal_zone: i16,
    saved: UnixMillis,
}

/// All of [`MessageRecord`], as it is written.
#[derive(Deserialize)]
struct WrittenRecord<'a> {
    #[serde(borrow)]
    head: WrittenHead<'a>,
    summary: WrittenKept<'a>,
}

impl WrittenHead<'_> {
    fn read(&self) -> MessageHead {
        MessageHead {
            size: self.size,
            blob: self.blob,
            variant: variant(self.prefix),
            internal_date: self.internal_date,
            internal_zone: self.internal_zone,
            saved: self.saved,
        }
    }
}

/// Called with the written record; false ends the scan.
type EachRaw<'a> = &'a mut dyn FnMut(Uid, &[u8]) -> Result<bool, StoreError>;

/// Called with what a record begins with, and what is searched by.
type EachSketch<'a> = &'a mut dyn FnMut(Uid, MessageHead, Option<Sketch<'_>>);

/// Where a body lay when it was first read. Who keeps it reads on though the message is
/// expunged: what was begun can be finished until compaction takes the bytes away.
#[derive(Debug, Default)]
pub struct BodyPlace(OnceLock<BlobPlace>);

impl Store {
    /// One message's record. None: expunged meanwhile.
    pub fn message(
        &self,
        mailbox: MailboxKey,
        uid: Uid,
    ) -> Result<Option<MessageRecord>, StoreError> {
        let record = self.shared().get(&keys::message(mailbox, uid))?;
        if record.is_none() {
            self.shared().missing(mailbox, uid)?;
        }
        Ok(record)
    }

    /// Records of the UIDs in the range, in order, until `each` says false.
    pub fn scan_messages(
        &self,
        mailbox: MailboxKey,
        range: std::ops::RangeInclusive<u32>,
        each: &mut dyn FnMut(Uid, MessageRecord) -> bool,
    ) -> Result<(), StoreError> {
        if range.end().saturating_sub(*range.start()) < SHORT_SCAN {
            return self.scan_records(mailbox, range, each);
        }
        beside(|| self.scan_records(mailbox, range, each))
    }

    fn scan_records(
        &self,
        mailbox: MailboxKey,
        range: std::ops::RangeInclusive<u32>,
        each: &mut dyn FnMut(Uid, MessageRecord) -> bool,
    ) -> Result<(), StoreError> {
        self.scan_raw(mailbox, range, &mut |uid, value| {
            Ok(each(uid, keys::decode(value)?))
        })
    }

    /// As `scan_messages`, without what is long of a record.
    pub fn scan_heads(
        &self,
        mailbox: MailboxKey,
        range: std::ops::RangeInclusive<u32>,
        each: &mut dyn FnMut(Uid, MessageHead),
    ) -> Result<(), StoreError> {
        let mut scan = || {
            self.scan_raw(mailbox, range.clone(), &mut |uid, value| {
                let head: WrittenHead<'_> = keys::decode_start(value)?;
                each(uid, head.read());
                Ok(true)
            })
        };
        if range.end().saturating_sub(*range.start()) < SHORT_SCAN {
            return scan();
        }
        beside(scan)
    }

    /// As `scan_heads`, with the ENVELOPE. None: it was not kept.
    pub fn scan_sketches(
        &self,
        mailbox: MailboxKey,
        range: std::ops::RangeInclusive<u32>,
        each: EachSketch<'_>,
    ) -> Result<(), StoreError> {
        let mut unpacking = Unpacking::default();
        let mut scan = || {
            self.scan_raw(mailbox, range.clone(), &mut |uid, value| {
                let record: WrittenRecord<'_> = keys::decode_start(value)?;
                let head = record.head.read();
                each(uid, head, unpacking.sketch(record.summary));
                Ok(true)
            })
        };
        if range.end().saturating_sub(*range.start()) < SHORT_SCAN {
            return scan();
        }
        beside(scan)
    }

    fn scan_raw(
        &self,
        mailbox: MailboxKey,
        range: std::ops::RangeInclusive<u32>,
        each: EachRaw<'_>,
    ) -> Result<(), StoreError> {
        let shared = self.shared();
        let from = keys::message(mailbox, Uid(*range.start()));
        let prefix = keys::mailbox(b'm', mailbox);
        // What the snapshot has, the index must have.
        let opened = shared.mailboxes.lock().get(&mailbox).cloned();
        let snapshot = opened.map(|mailbox| mailbox.snapshot());
        let mut expected = snapshot
            .iter()
            .flat_map(|s| s.range(range.clone()))
            .map(|(_, m)| m.uid)
            .peekable();
        let mut missing = Vec::new();
        let mut whole = true;
        shared.scan_from(&prefix, Some(&from), &mut |key, value| {
            let uid = Uid(keys::tail(key));
            if uid.0 > *range.end() {
                return Ok(false);
            }
            while let Some(earlier) = expected.next_if(|e| *e <= uid) {
                if earlier < uid {
                    missing.push(earlier);
                }
            }
            whole = each(uid, value)?;
            Ok(whole)
        })?;
        if whole {
            missing.extend(expected);
        }
        for uid in missing {
            shared.missing(mailbox, uid)?;
        }
        Ok(())
    }

    /// Part of the body of a message, checked and decompressed, without the record's prefix; a
    /// large one is not read whole. Reads the disk. Expunged: the message is gone, and its bytes
    /// with it.
    pub fn body_range(
        &self,
        mailbox: MailboxKey,
        uid: Uid,
        blob: BlobId,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.body_range_at(mailbox, uid, blob, &BodyPlace::default(), range)
    }

    /// As `body_range`, of a message whose body is read in several pieces.
    pub fn body_range_at(
        &self,
        mailbox: MailboxKey,
        uid: Uid,
        blob: BlobId,
        known: &BodyPlace,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.shared()
            .body_range_at(mailbox, uid, blob, known, range)
    }

    /// Bodies of messages, whole, as far as they are at hand: those that lie side by side on the
    /// disk are read together. Who misses one reads it alone, and hears why it is not here.
    /// All of them are in memory at once.
    pub fn bodies(&self, wanted: &[BlobId]) -> Vec<Option<Bytes>> {
        let shared = self.shared();
        let mut found = vec![None; wanted.len()];
        let (mut at, mut places) = (Vec::new(), Vec::new());
        for (n, blob) in wanted.iter().enumerate() {
            if let Ok(Some(record)) = shared.blob(*blob) {
                at.push(n);
                places.push((*blob, record.place));
            }
        }
        for (n, body) in at.into_iter().zip(shared.blobs.get_many(&places)) {
            found[n] = body;
        }
        found
    }
}

impl Shared {
    /// See [`Store::body_range_at`].
    pub(super) fn body_range_at(
        &self,
        mailbox: MailboxKey,
        uid: Uid,
        blob: BlobId,
        known: &BodyPlace,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let damaged = |file: u64, reason: &str| {
            self.telemetry.store.damaged_body(blob, reason);
            self.quarantine.met(blob, Damaged::new(file, reason));
            self.telemetry.store.quarantined(self.quarantine.len());
            StoreError::DamagedBody
        };
        let mut looked = None;
        loop {
            let found = self.body(mailbox, uid, blob)?.map(|record| record.place);
            let gone = found.is_none();
            let Some(place) = found.or_else(|| known.0.get().copied()) else {
                return Err(StoreError::Expunged);
            };
            match self.blobs.get(&blob, &place, range.clone()) {
                Err(LogError::Io { path, source }) => {
                    let error = LogError::Io { path, source };
                    return Err(StoreError::Write(error.to_string()));
                }
                // Compaction may have moved it, and removed the file that it lay in.
                Err(LogError::Missing(_)) if !gone && looked != Some(place) => {
                    looked = Some(place);
                }
                Err(_) if gone => return Err(StoreError::Expunged),
                Err(other) => return Err(damaged(place.segment, &other.to_string())),
                Ok(bytes) => {
                    let _ = known.0.set(place);
                    return Ok(bytes);
                }
            }
        }
    }
}
