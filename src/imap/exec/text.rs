//! The texts that FETCH asks for: where they lie in a message, and how they are written.
//!
//! May import: store, mail, telemetry, types.
//!
//! Invariant: a large message is in memory whole only while its structure is looked at, and
//! few at a time; what goes out is read again piece by piece, so a client that reads slowly
//! holds one piece, however much it asked for.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Gone, Out, aside};
use crate::imap::command::{FetchItem, Section, SectionText};
use crate::imap::object_id;
use crate::mail::{self, Decoder, SectionRef, Structure};
use crate::store::{BodyPlace, MessageRecord, Store, StoreError, Turn, Whose};
use crate::types::{MailboxKey, Uid};

/// Messages above this are read and cut up beside the runtime's work, and not kept.
const LARGE: u64 = 256 * 1024;
/// What is read at a time of a large message; the store's bodies are made of such pieces.
const STEP: u64 = 256 * 1024;

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
    /// A part in this encoding; so long when it is decoded.
    Encoded(Range<u64>, String, u64),
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
    memory: Option<Bytes>,
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
        self.fits(&summary.body_structure)
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
        let top = self.record.prefix.len() as u64 + STEP;
        let top = self.read(0..self.record.size.min(top))?;
        Ok(object_id::thread_id(&top, self.record.blob))
    }

    fn read(self, range: Range<u64>) -> Result<Bytes, StoreError> {
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

    /// Its beginning with the whole header; all of it where the header is longer than usual.
    fn top(self) -> Result<Bytes, StoreError> {
        match self.short_top()? {
            Some(top) => Ok(top),
            None => self.whole(),
        }
    }

    /// Its beginning, where the whole header is in it.
    pub(super) fn short_top(self) -> Result<Option<Bytes>, StoreError> {
        let size = self.record.size;
        if size <= STEP {
            return self.whole().map(Some);
        }
        let top = self.read(0..size.min(self.record.prefix.len() as u64 + STEP))?;
        Ok((mail::header_len(&top) < top.len()).then_some(top))
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

/// Looks at one message for all items of a FETCH; reads and parses no more than they need, and
/// that once.
struct Finder<'a> {
    message: Message<'a>,
    whole: OnceCell<Option<Bytes>>,
    top: OnceCell<Option<Bytes>>,
    structure: OnceCell<Option<Structure>>,
    sound: OnceCell<bool>,
    gone: Cell<bool>,
}

impl<'a> Finder<'a> {
    fn new(message: Message<'a>) -> Self {
        Self {
            message,
            whole: OnceCell::new(),
            top: OnceCell::new(),
            structure: OnceCell::new(),
            sound: OnceCell::new(),
            gone: Cell::new(false),
        }
    }

    fn is_large(&self) -> bool {
        self.message.is_large()
    }

    /// Damage is no reason to leave a message out; that it is gone is one.
    fn read<T>(&self, read: Result<T, StoreError>) -> Option<T> {
        if matches!(read, Err(StoreError::Expunged)) {
            self.gone.set(true);
        }
        read.ok()
    }

    fn whole(&self) -> Option<&[u8]> {
        self.whole
            .get_or_init(|| self.read(self.message.whole()))
            .as_deref()
    }

    fn top(&self) -> Option<&[u8]> {
        if !self.is_large() {
            return self.whole();
        }
        let top = || self.read(self.message.top());
        self.top.get_or_init(top).as_deref()
    }

    fn structure(&self) -> Option<&Structure> {
        self.structure
            .get_or_init(|| self.whole().map(Structure::parse))
            .as_ref()
    }

    /// Once announced, a literal can't turn out to be damaged: a text that is written without
    /// having been read for its place is read through first.
    fn is_sound(&self) -> bool {
        let size = self.message.record.size;
        let sound = |at| {
            let piece = self.message.read(at..(at + STEP).min(size));
            self.read(piece).is_some()
        };
        if !self.is_large() {
            return self.whole().is_some();
        }
        *self
            .sound
            .get_or_init(|| (0..size).step_by(STEP as usize).all(sound))
    }

    fn find(self, items: &[FetchItem]) -> Texts {
        let mut decoded = HashMap::new();
        let utf8 = self.message.utf8;
        let place = |item: &FetchItem| match item {
            // A damaged body is described as an empty one.
            FetchItem::Envelope if self.message.kept_envelope().is_none() => {
                let top = self.top().unwrap_or_default();
                Place::Wire(match utf8 {
                    true => mail::envelope_wire(top),
                    false => mail::envelope_wire_ascii(top),
                })
            }
            FetchItem::BodyStructure if self.message.kept_structure().is_none() => {
                self.structure_wire(true)
            }
            FetchItem::Body => self.structure_wire(false),
            FetchItem::Section(section) => self.section(section).unwrap_or(Place::Nil),
            FetchItem::Binary { part, .. } => self.binary(part, &mut decoded),
            FetchItem::BinarySize(part) => match self.binary(part, &mut decoded) {
                Place::Nil => Place::Size(0),
                Place::Text(range) => Place::Size(range.end - range.start),
                Place::Encoded(_, _, size) => Place::Size(size),
                other => other,
            },
            _ => Place::Nil,
        };
        let places = items.iter().map(place).collect();
        let damaged = matches!(self.whole.get(), Some(None))
            || matches!(self.top.get(), Some(None))
            || self.sound.get() == Some(&false);
        let memory = (!self.is_large()).then(|| self.whole.into_inner().flatten());
        Texts {
            places,
            gone: self.gone.get(),
            damaged,
            memory: memory.flatten(),
        }
    }

    fn structure_wire(&self, extended: bool) -> Place {
        let whole = self.whole().unwrap_or_default();
        Place::Wire(match (self.message.utf8, extended) {
            (true, true) => mail::body_structure_wire(whole),
            (true, false) => mail::body_wire(whole),
            (false, extended) => mail::body_structure_wire_ascii(whole, extended),
        })
    }

    fn section(&self, section: &Section) -> Option<Place> {
        let range = if section.part.is_empty() {
            // No structure is needed.
            let size = self.message.record.size;
            let head = || Some(mail::header_len(self.top()?) as u64);
            match &section.text {
                SectionText::Whole => 0..size,
                SectionText::Text => head()?..size,
                SectionText::Mime => return None,
                _ => 0..head()?,
            }
        } else {
            let structure = self.structure()?;
            let range = structure.range(&section.part, &wanted(section))?;
            range.start as u64..range.end as u64
        };
        match section.text {
            SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
                Some(Place::Fields(range))
            }
            _ => self.is_sound().then_some(Place::Text(range)),
        }
    }

    /// BINARY is of leaves (RFC 9051, 6.4.5); what has parts of its own is given as it is.
    fn binary(&self, part: &[u32], decoded: &mut HashMap<Range<usize>, u64>) -> Place {
        if part.is_empty() {
            let all = 0..self.message.record.size;
            return if self.is_sound() {
                Place::Text(all)
            } else {
                Place::Nil
            };
        }
        let Some((raw, node)) = self
            .structure()
            .and_then(|structure| Some((self.whole()?, structure.part(part)?)))
        else {
            return Place::Nil;
        };
        let range = node.body.start as u64..node.body.end as u64;
        let encoding = node
            .encoding
            .as_deref()
            .filter(|_| node.children.is_empty());
        let Some(decoder) = Decoder::new(encoding) else {
            return Place::UnknownEncoding;
        };
        if decoder.is_identity() {
            return Place::Text(range);
        }
        let body = raw.get(node.body.clone()).unwrap_or_default();
        let length = *decoded
            .entry(node.body.clone())
            .or_insert_with(|| decoded_length(decoder, body));
        Place::Encoded(range, encoding.unwrap_or_default().to_owned(), length)
    }
}

fn decoded_length(mut decoder: Decoder, body: &[u8]) -> u64 {
    let (mut length, mut out) = (0, Vec::new());
    for piece in body.chunks(STEP as usize) {
        decoder.feed(piece, &mut out);
        length += out.len() as u64;
        out.clear();
    }
    decoder.finish(&mut out);
    length + out.len() as u64
}

/// The part of `range` that `partial` names.
fn cut(range: Range<u64>, partial: Option<(u64, u64)>) -> Range<u64> {
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
            Place::Encoded(range, encoding, length) => {
                let wanted = cut(0..*length, partial);
                announce(out, "~", wanted.end - wanted.start);
                self.decode(message, range.clone(), encoding, wanted, out)
                    .await
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
            let end = (at + STEP).min(range.end);
            let piece = again(message, at..end)?;
            out.put(&piece).await?;
            at = end;
        }
        Ok(())
    }

    /// Writes what `wanted` names of the decoded part that lies at `range`.
    async fn decode(
        &self,
        message: Message<'_>,
        range: Range<u64>,
        encoding: &str,
        wanted: Range<u64>,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let Some(mut decoder) = Decoder::new(Some(encoding)) else {
            return Err(Gone { stalled: false });
        };
        let (mut at, mut done) = (range.start, 0);
        let mut decoded = Vec::new();
        while done < wanted.end {
            decoded.clear();
            if at == range.end {
                decoder.finish(&mut decoded);
                if decoded.is_empty() {
                    return Err(Gone { stalled: false });
                }
            } else {
                let end = (at + STEP).min(range.end);
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

fn wanted(section: &Section) -> SectionRef {
    match &section.text {
        SectionText::Whole => SectionRef::Whole,
        SectionText::Header => SectionRef::Header,
        SectionText::Text => SectionRef::Text,
        SectionText::Mime => SectionRef::Mime,
        SectionText::HeaderFields(_) => SectionRef::HeaderFields(Vec::new()),
        SectionText::HeaderFieldsNot(_) => SectionRef::HeaderFieldsNot(Vec::new()),
    }
}
