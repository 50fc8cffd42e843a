//! The texts that FETCH asks for: where they lie in a message, and how they are written.
//!
//! May import: store, mail, telemetry, types.
//!
//! Invariant: a large message is read piece by piece, also while its structure is looked at (it
//! is in memory whole only to describe one whose headers are beyond all measure, few at a time),
//! and again when it goes out: a client that reads slowly holds one piece, however much it asked
//! for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::find::Finder;
use super::{Gone, Out, aside};
use crate::imap::command::{FetchItem, Section, SectionText};
use crate::imap::object_id;
use crate::mail::{self, Envelope, References, StructureReader, Traits};
use crate::store::{BodyPlace, Decoded, MessageRecord, Store, StoreError, Turn, Whose, step};
use crate::types::{MailboxKey, Uid};

/// Messages above this are read and cut up beside the runtime's work, and not kept.
const LARGE: u64 = 256 * 1024;
/// What is read at a time of a large message; the store's bodies are made of such pieces.
const STEP: u64 = 256 * 1024;
/// Headers of its parts that are in memory at a time.
const HEADERS: usize = 1024 * 1024;

/// A message's bytes, as the client sees them: its own header lines and the shared body.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub store: &'a Store,
    pub mailbox: MailboxKey,
    pub uid: Uid,
    pub record: &'a MessageRecord,
    /// Where its body was found.
    pub place: &'a BodyPlace,
    /// Its body, where it was read ahead.
    pub ahead: Option<&'a Bytes>,
    /// The client reads UTF-8 in envelopes and structures.
    pub utf8: bool,
}

/// Where the answer to an item is.
pub(super) enum Place {
    /// There is no such part, or the body is damaged.
    Nil,
    /// BINARY of a part in an encoding that nobody knows.
    UnknownEncoding,
    Text(Range<u64>),
    /// The header that fields are picked from.
    Fields(Range<u64>),
    /// A part in an encoding, and its content.
    Encoded(Range<u64>, Arc<Decoded>),
    /// A structure or envelope, ready to be written.
    Wire(Vec<u8>),
    Size(u64),
}

/// What all items of a FETCH ask of one message, in their order.
pub(super) struct Texts {
    pub places: Vec<Place>,
    /// The message was expunged before all of it was read.
    pub gone: bool,
    /// Some of it could not be read.
    pub damaged: bool,
    /// The message, where it is small.
    pub(super) memory: Option<Bytes>,
}

impl Message<'_> {
    /// All of it.
    pub(super) fn whole(self) -> Result<Bytes, StoreError> {
        self.read(0..self.record.size)
    }

    /// ENVELOPE, where it was kept as this client may have it.
    pub(super) fn kept_envelope(&self) -> Option<&[u8]> {
        let summary = self.record.summary.plain()?;
        self.fits(&summary.envelope)
    }

    /// BODYSTRUCTURE, likewise.
    pub(super) fn kept_structure(&self) -> Option<&[u8]> {
        let summary = self.record.summary.plain()?;
        let global = summary.traits.has(Traits::GLOBAL);
        let wire = self.fits(&summary.body_structure);
        wire.filter(|_| self.utf8 || !global)
    }

    /// RFC 6855, 3: no UTF-8 for who has not said that he reads it. Texts of other charsets stay
    /// as they are: nobody knows what they mean.
    fn fits<'b>(&self, wire: &'b [u8]) -> Option<&'b [u8]> {
        let fits = self.utf8 || wire.is_ascii() || std::str::from_utf8(wire).is_err();
        fits.then_some(wire)
    }

    /// Its first words (RFC 8970). No large message is read whole.
    pub(super) fn preview(self) -> Result<String, StoreError> {
        let top = self.record.prefix.len() as u64 + mail::PREVIEWED;
        let top = self.read(0..self.record.size.min(top))?;
        Ok(mail::preview(&top))
    }

    /// RFC 8474, 5.2.
    pub(super) fn thread_id(self) -> Result<String, StoreError> {
        let summary = self.record.summary.summary();
        let told = summary.filter(|summary| summary.traits.has(Traits::LINKS_TOLD));
        let envelope = told.as_ref().and_then(|s| Envelope::read(&s.envelope));
        let references = match envelope {
            Some(envelope) => References::told(&envelope),
            None => References::read(&self.top()?),
        };
        Ok(object_id::thread_id(&references, self.record.blob))
    }

    pub(super) fn read(self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let prefix = &self.record.prefix;
        let own = prefix.len() as u64;
        let body = if range.end > own {
            let range = range.start.saturating_sub(own)..range.end - own;
            let (key, uid, blob) = (self.mailbox, self.uid, self.record.blob);
            let ahead = self.ahead.map(|body| body.len() as u64);
            match self.ahead {
                Some(body) if ahead >= Some(range.end) => {
                    body.slice(range.start as usize..range.end as usize)
                }
                _ => self
                    .store
                    .body_range_at(key, uid, blob, self.place, range)?,
            }
        } else {
            Bytes::new()
        };
        if range.start >= own {
            return Ok(body);
        }
        let mut raw = Vec::with_capacity((range.end - range.start) as usize);
        let (start, end) = (range.start as usize, range.end.min(own) as usize);
        raw.extend_from_slice(prefix.get(start..end).unwrap_or_default());
        raw.extend_from_slice(&body);
        Ok(raw.into())
    }

    /// Its beginning, as far as headers are looked into.
    pub(super) fn top(self) -> Result<Bytes, StoreError> {
        self.read(0..self.record.size.min(self.own() + STEP))
    }

    /// Its beginning, where the whole header is in it.
    pub(super) fn short_top(self) -> Result<Option<Bytes>, StoreError> {
        let top = self.top()?;
        let short = top.len() as u64 == self.record.size || mail::header_len(&top) < top.len();
        Ok(short.then_some(top))
    }

    /// The length of its own header lines.
    pub(super) fn own(self) -> u64 {
        self.record.prefix.len() as u64
    }

    /// BODYSTRUCTURE, or BODY, of a large one. None: its headers are beyond all measure.
    pub(super) fn structure_wire(self, extended: bool) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut reader, mut at) = (StructureReader::new(HEADERS), 0);
        while at < self.record.size {
            let end = step(at, self.own(), self.record.size);
            reader.feed(&self.read(at..end)?);
            at = end;
        }
        let (structure, headers) = reader.finish();
        let wire = |headers| mail::structure_wire_of(&structure, &headers, extended, !self.utf8);
        Ok(headers.map(wire))
    }

    /// Whether it may be in memory whole only while it has a turn.
    pub(super) fn is_large(self) -> bool {
        self.record.size > LARGE
    }

    /// Waits until it may be in memory whole.
    pub(super) async fn turn(self) -> Turn {
        let whose = Whose::Account(self.mailbox.account);
        self.store.large_reads().turn(whose).await
    }

    /// Finds what the items ask for.
    pub(super) async fn texts(self, items: &[FetchItem]) -> Texts {
        let finder = || Finder::new(self).find(items);
        if self.is_large() {
            let _place = self.turn().await;
            let mut texts = aside(finder);
            texts.memory = None;
            return texts;
        }
        finder()
    }
}

/// The part of `range` that `partial` names.
pub(super) fn cut(range: Range<u64>, partial: Option<(u64, u64)>) -> Range<u64> {
    let Some((from, length)) = partial else {
        return range;
    };
    let start = range.start.saturating_add(from).min(range.end);
    start..start.saturating_add(length).min(range.end)
}

fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let range = range.start as usize..range.end as usize;
    bytes.get(range).unwrap_or_default()
}

impl Texts {
    /// Writes the section as NIL or a literal.
    pub(super) async fn write_section(
        &self,
        message: Message<'_>,
        place: &Place,
        section: &Section,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        match place {
            Place::Text(range) => {
                let range = cut(range.clone(), section.partial);
                announce(out, "", range.end - range.start);
                self.copy(message, range, out).await
            }
            Place::Fields(range) => {
                let fields = self.fields(message, range.clone(), &section.text)?;
                let fields = slice(&fields, cut(0..fields.len() as u64, section.partial));
                announce(out, "", fields.len() as u64);
                out.put(fields).await
            }
            _ => {
                out.buf.extend_from_slice(b"NIL");
                Ok(())
            }
        }
    }

    /// Writes a part, decoded; as a literal8 unless it is known that there is no NUL in it
    /// (RFC 9051, 4.3.1).
    pub(super) async fn write_binary(
        &self,
        message: Message<'_>,
        place: &Place,
        partial: Option<(u64, u64)>,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        match place {
            Place::Text(range) => {
                let range = cut(range.clone(), partial);
                let text = self.memory.as_ref().map(|m| slice(m, range.clone()));
                let plain = text.is_some_and(|text| !text.contains(&0));
                announce(out, if plain { "" } else { "~" }, range.end - range.start);
                self.copy(message, range, out).await
            }
            Place::Encoded(range, decoded) => {
                let wanted = cut(0..decoded.len, partial);
                announce(out, "~", wanted.end - wanted.start);
                self.decode(message, range.end, decoded, wanted, out).await
            }
            _ => {
                out.buf.extend_from_slice(b"NIL");
                Ok(())
            }
        }
    }

    fn fields(
        &self,
        message: Message<'_>,
        range: Range<u64>,
        text: &SectionText,
    ) -> Result<Vec<u8>, Gone> {
        let pick = |header: &[u8]| match text {
            SectionText::HeaderFields(names) => mail::pick_fields(header, names, true),
            SectionText::HeaderFieldsNot(names) => mail::pick_fields(header, names, false),
            _ => Vec::new(),
        };
        match &self.memory {
            Some(memory) => Ok(pick(slice(memory, range))),
            // It could be read a moment ago: an empty header would be a lie.
            None => again(message, range).map(|header| pick(&header)),
        }
    }

    async fn copy(
        &self,
        message: Message<'_>,
        range: Range<u64>,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        if let Some(memory) = &self.memory {
            return out.put(slice(memory, range)).await;
        }
        let mut at = range.start;
        while at < range.end {
            let end = step(at, message.own(), range.end);
            let piece = again(message, at..end)?;
            out.put(&piece).await?;
            at = end;
        }
        Ok(())
    }

    /// Writes what `wanted` names of the content of a part that ends at `part_end`.
    async fn decode(
        &self,
        message: Message<'_>,
        part_end: u64,
        content: &Decoded,
        wanted: Range<u64>,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let Some((mut at, mut done, mut decoder)) = content.begin(wanted.start) else {
            return Err(Gone { stalled: false });
        };
        let mut decoded = Vec::new();
        while done < wanted.end {
            decoded.clear();
            if at == part_end {
                decoder.finish(&mut decoded);
                if decoded.is_empty() {
                    return Err(Gone { stalled: false });
                }
            } else {
                let end = step(at, message.own(), part_end);
                match &self.memory {
                    Some(memory) => decoder.feed(slice(memory, at..end), &mut decoded),
                    None => decoder.feed(&again(message, at..end)?, &mut decoded),
                }
                at = end;
            }
            let here = done..done + decoded.len() as u64;
            let (from, to) = (
                wanted.start.clamp(here.start, here.end),
                wanted.end.clamp(here.start, here.end),
            );
            out.put(slice(&decoded, from - done..to - done)).await?;
            done = here.end;
        }
        Ok(())
    }
}

fn announce(out: &mut Out<'_>, tilde: &str, length: u64) {
    out.buf
        .extend_from_slice(format!("{tilde}{{{length}}}\r\n").as_bytes());
}

/// Reads what was read a moment ago: now there is no other way to say that it is gone.
fn again(message: Message<'_>, range: Range<u64>) -> Result<Bytes, Gone> {
    aside(|| message.read(range)).map_err(|_| Gone { stalled: false })
}
