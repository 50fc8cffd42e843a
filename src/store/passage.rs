//! The store's face, continued: parts of messages, for those who put new ones together from them
//! or hand them on (RFC 4468; RFC 4469). They are read piece by piece.
//!
//! May import: mail, types.
//!
//! Invariant: no large message is in memory whole.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::beside::beside;
use super::error::StoreError;
use super::handle::Store;
use super::model::MessageRecord;
use super::outline::{Outline, step};
use super::reading::BodyPlace;
use super::turns::Whose;
use crate::mail::{SectionRef, Structure, header_len, pick_fields};
use crate::types::{MailboxKey, Uid};

/// What is read at a time; bodies are made of such pieces.
const STEP: u64 = 256 * 1024;

/// A section of a message, or a part of it.
pub struct Passage {
    store: Store,
    mailbox: MailboxKey,
    uid: Uid,
    record: MessageRecord,
    place: BodyPlace,
    range: Range<u64>,
    /// Fields that were picked from a header.
    picked: Option<Vec<u8>>,
}

impl Store {
    /// None: there is no such message, or it has no such part. `partial` is an offset and a
    /// length, which may reach beyond the end.
    pub async fn passage(
        &self,
        mailbox: MailboxKey,
        uid: Uid,
        part: &[u32],
        text: &SectionRef,
        partial: Option<(u64, Option<u64>)>,
    ) -> Result<Option<Passage>, StoreError> {
        let Some(record) = self.message(mailbox, uid)? else {
            return Ok(None);
        };
        let mut passage = Passage {
            store: self.clone(),
            mailbox,
            uid,
            place: BodyPlace::default(),
            range: 0..record.size,
            record,
            picked: None,
        };
        let large = passage.record.size > STEP;
        let _turn = match large {
            true => Some(
                self.large_reads()
                    .turn(Whose::Account(mailbox.account))
                    .await,
            ),
            false => None,
        };
        match beside(|| passage.find(part, text)) {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Expunged) => return Ok(None),
            Err(error) => return Err(error),
        }
        if let Some((from, length)) = partial {
            let end = passage.range.end;
            let start = passage.range.start.saturating_add(from).min(end);
            passage.range = start..start.saturating_add(length.unwrap_or(u64::MAX)).min(end);
        }
        Ok(Some(passage))
    }
}

impl Passage {
    /// False: there is no such section.
    fn find(&mut self, part: &[u32], text: &SectionRef) -> Result<bool, StoreError> {
        let whole = 0..self.record.size;
        let range = match (part, text) {
            ([], SectionRef::Whole) => whole,
            ([], SectionRef::Mime) => return Ok(false),
            ([], _) => {
                let head = self.header_len()?;
                match text {
                    SectionRef::Text => head..whole.end,
                    _ => 0..head,
                }
            }
            _ => {
                let Some(range) = self.outline()?.structure.range(part, text) else {
                    return Ok(false);
                };
                range.start as u64..range.end as u64
            }
        };
        self.range = range;
        let (names, wanted) = match text {
            SectionRef::HeaderFields(names) => (names, true),
            SectionRef::HeaderFieldsNot(names) => (names, false),
            _ => return Ok(true),
        };
        let header = self.message(self.range.clone())?;
        let picked = pick_fields(&header, names, wanted);
        self.range = 0..picked.len() as u64;
        self.picked = Some(picked);
        Ok(true)
    }

    fn header_len(&self) -> Result<u64, StoreError> {
        let size = self.record.size;
        let top = self.message(0..size.min(self.record.prefix.len() as u64 + STEP))?;
        let len = header_len(&top) as u64;
        if len < top.len() as u64 || top.len() as u64 == size {
            return Ok(len);
        }
        Ok(self.outline()?.structure.root().header.end as u64)
    }

    fn outline(&self) -> Result<Arc<Outline>, StoreError> {
        let size = self.record.size;
        if size <= STEP {
            let structure = Structure::parse(&self.message(0..size)?);
            return Ok(Arc::new(Outline::new(structure)));
        }
        let key = (self.mailbox, self.uid, self.record.blob);
        let own = self.record.prefix.len() as u64;
        let mut read = |range| self.message(range);
        Ok(self.store.outline(key, size, own, &mut read)?.0)
    }

    /// Part of the message as its owner sees it: its own header lines, and the shared body.
    fn message(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let own = self.record.prefix.len() as u64;
        let body = if range.end > own {
            let range = range.start.saturating_sub(own)..range.end - own;
            let (key, uid, blob) = (self.mailbox, self.uid, self.record.blob);
            self.store
                .body_range_at(key, uid, blob, &self.place, range)?
        } else {
            Bytes::new()
        };
        if range.start >= own {
            return Ok(body);
        }
        let mut raw = Vec::with_capacity((range.end - range.start) as usize);
        let (start, end) = (range.start as usize, range.end.min(own) as usize);
        raw.extend_from_slice(self.record.prefix.get(start..end).unwrap_or_default());
        raw.extend_from_slice(&body);
        Ok(raw.into())
    }

    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The next piece; None at the end. Reads the disk.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.is_empty() {
            return Ok(None);
        }
        let own = match self.picked {
            Some(_) => 0,
            None => self.record.prefix.len() as u64,
        };
        let end = step(self.range.start, own, self.range.end);
        let range = std::mem::replace(&mut self.range.start, end)..end;
        if let Some(picked) = &self.picked {
            let piece = picked.get(range.start as usize..range.end as usize);
            return Ok(Some(Bytes::copy_from_slice(piece.unwrap_or_default())));
        }
        beside(|| self.message(range)).map(Some)
    }
}
