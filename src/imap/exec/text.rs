//! The texts that FETCH asks for: where they lie in a message, and how they are written.
//!
//! May import: store, mail, telemetry, types.
//!
//! Invariant: a large message is in memory whole only while its structure is looked at; what
//! goes out is read again piece by piece, so a client that reads slowly holds one piece.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Gone, Out, aside};
use crate::imap::command::{FetchItem, Section, SectionText};
use crate::mail::{self, SectionRef, Structure};
use crate::store::{MessageRecord, Store, StoreError};

/// Messages above this are read and cut up beside the runtime's work, and not kept.
const LARGE: u64 = 256 * 1024;
/// What is read at a time of a large message; the store's bodies are made of such pieces.
const STEP: u64 = 256 * 1024;

/// Large messages that are in memory whole at the same time.
static LARGE_AT_ONCE: Semaphore = Semaphore::const_new(4);

/// A message's bytes, as the client sees them: its own header lines and the shared body.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub store: &'a Store,
    pub record: &'a MessageRecord,
}

/// What an item asks for.
pub(super) enum Found {
    /// There is no such part, or the body is damaged.
    Nil,
    /// BINARY of a part in an encoding that nobody knows.
    UnknownEncoding,
    Range(Range<u64>),
    Bytes(Vec<u8>),
    Size(u64),
}

/// What all items of a FETCH ask of one message, in their order.
pub(super) struct Texts {
    pub found: Vec<Found>,
    /// The message, where it is small.
    memory: Option<Bytes>,
}

impl Message<'_> {
    /// All of it.
    pub(super) fn whole(self) -> Result<Bytes, StoreError> {
        self.read(0..self.record.size)
    }

    fn read(self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let prefix = &self.record.prefix;
        let own = prefix.len() as u64;
        let body = if range.end > own {
            let range = range.start.saturating_sub(own)..range.end - own;
            self.store.body_range(self.record.blob, range)?
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
    pub(super) fn top(self) -> Result<Bytes, StoreError> {
        let size = self.record.size;
        if size > STEP {
            let top = self.read(0..self.record.prefix.len() as u64 + STEP)?;
            if mail::header_len(&top) < top.len() {
                return Ok(top);
            }
        }
        self.whole()
    }

    /// Finds what the items ask for.
    pub(super) async fn texts(self, items: &[FetchItem]) -> Texts {
        if self.record.size > LARGE {
            let _place = LARGE_AT_ONCE.acquire().await;
            return Texts {
                found: aside(|| self.find(items).0),
                memory: None,
            };
        }
        let (found, memory) = self.find(items);
        Texts { found, memory }
    }

    fn find(self, items: &[FetchItem]) -> (Vec<Found>, Option<Bytes>) {
        let large = self.record.size > LARGE;
        let read: OnceCell<Option<Bytes>> = OnceCell::new();
        let whole = || read.get_or_init(|| self.whole().ok()).as_deref();
        let top = OnceCell::new();
        let top = || -> Option<&[u8]> {
            if large {
                top.get_or_init(|| self.top().ok()).as_deref()
            } else {
                whole()
            }
        };
        let mut structure = None;
        let bytes = |wire: Vec<u8>| Found::Bytes(wire);
        let found = items.iter().map(|item| match item {
            // A damaged body is described as an empty one.
            FetchItem::Envelope if self.record.summary.is_none() => {
                bytes(mail::envelope_wire(top().unwrap_or_default()))
            }
            FetchItem::BodyStructure if self.record.summary.is_none() => {
                bytes(mail::body_structure_wire(whole().unwrap_or_default()))
            }
            FetchItem::Body => bytes(mail::body_wire(whole().unwrap_or_default())),
            FetchItem::Section(section) if large && section.part.is_empty() => {
                self.find_at_top(section, &top)
            }
            FetchItem::Section(section) => whole().map_or(Found::Nil, |raw| {
                let text = section_text(section, raw, &mut structure);
                text.map_or(Found::Nil, |text| Found::of(raw, text))
            }),
            FetchItem::Binary { part, .. } => {
                whole().map_or(Found::Nil, |raw| decoded(part, raw, &mut structure))
            }
            FetchItem::BinarySize(part) => {
                match whole().map(|raw| decoded(part, raw, &mut structure)) {
                    None | Some(Found::Nil) => Found::Size(0),
                    Some(Found::Bytes(bytes)) => Found::Size(bytes.len() as u64),
                    Some(Found::Range(range)) => Found::Size(range.end - range.start),
                    Some(other) => other,
                }
            }
            _ => Found::Nil,
        });
        let found = found.collect();
        let memory = if large {
            None
        } else {
            Some(read.into_inner().flatten().unwrap_or_default())
        };
        (found, memory)
    }

    /// Sections of a large message itself: no structure is needed.
    fn find_at_top<'t>(self, section: &Section, top: &dyn Fn() -> Option<&'t [u8]>) -> Found {
        let all = 0..self.record.size;
        let range = match &section.text {
            SectionText::Whole => all,
            SectionText::Text => match top() {
                Some(top) => mail::header_len(top) as u64..all.end,
                None => return Found::Nil,
            },
            _ => {
                let text = top().and_then(|top| mail::header_section(top, &wanted(section)));
                return text.map_or(Found::Nil, |text| Found::Bytes(text.into_owned()));
            }
        };
        // Once announced, a literal can't turn out to be damaged.
        let sound = |at| self.read(at..(at + STEP).min(range.end)).is_ok();
        if (range.start..range.end).step_by(STEP as usize).all(sound) {
            Found::Range(range)
        } else {
            Found::Nil
        }
    }
}

impl Found {
    /// `text` is of `raw`, or made from it.
    fn of(raw: &[u8], text: Cow<'_, [u8]>) -> Self {
        match text {
            Cow::Owned(bytes) => Self::Bytes(bytes),
            Cow::Borrowed(text) => {
                let start = (text.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
                match raw.get(start..start.saturating_add(text.len())) {
                    Some(_) => Self::Range(start as u64..(start + text.len()) as u64),
                    None => Self::Bytes(text.to_vec()),
                }
            }
        }
    }
}

impl Texts {
    /// Writes a text as NIL or a literal, cut as `partial` says; with `binary` as one that may
    /// hold NUL (RFC 9051, 4.3.1).
    pub(super) async fn write(
        &self,
        message: Option<Message<'_>>,
        found: &Found,
        partial: Option<(u64, u64)>,
        binary: bool,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let cut = |range: Range<u64>| match partial {
            None => range,
            Some((from, length)) => {
                let start = range.start.saturating_add(from).min(range.end);
                start..start.saturating_add(length).min(range.end)
            }
        };
        let in_memory = |bytes: &[u8], range: Range<u64>| -> Vec<u8> {
            let range = range.start as usize..range.end as usize;
            bytes.get(range).unwrap_or_default().to_vec()
        };
        let text = match (found, &self.memory) {
            (Found::Bytes(bytes), _) => in_memory(bytes, cut(0..bytes.len() as u64)),
            (Found::Range(range), Some(memory)) => in_memory(memory, cut(range.clone())),
            (Found::Range(range), None) => {
                let Some(message) = message else {
                    return Err(Gone { stalled: false });
                };
                return message.stream(cut(range.clone()), binary, out).await;
            }
            _ => {
                out.buf.extend_from_slice(b"NIL");
                return Ok(());
            }
        };
        let tilde = if binary && text.contains(&0) { "~" } else { "" };
        out.buf
            .extend_from_slice(format!("{tilde}{{{}}}\r\n", text.len()).as_bytes());
        out.put(&text).await
    }
}

impl Message<'_> {
    async fn stream(self, range: Range<u64>, binary: bool, out: &mut Out<'_>) -> Result<(), Gone> {
        // Whether there is a NUL is not known: only who asked for BINARY may get one.
        let tilde = if binary { "~" } else { "" };
        let len = range.end - range.start;
        out.buf
            .extend_from_slice(format!("{tilde}{{{len}}}\r\n").as_bytes());
        let mut at = range.start;
        while at < range.end {
            let end = (at + STEP).min(range.end);
            // It was read a moment ago; now there is no other way to say that it is gone.
            let piece = aside(|| self.read(at..end)).map_err(|_| Gone { stalled: false })?;
            out.put(&piece).await?;
            at = end;
        }
        Ok(())
    }
}

fn wanted(section: &Section) -> SectionRef {
    match &section.text {
        SectionText::Whole => SectionRef::Whole,
        SectionText::Header => SectionRef::Header,
        SectionText::Text => SectionRef::Text,
        SectionText::Mime => SectionRef::Mime,
        SectionText::HeaderFields(names) => SectionRef::HeaderFields(names.clone()),
        SectionText::HeaderFieldsNot(names) => SectionRef::HeaderFieldsNot(names.clone()),
    }
}

fn section_text<'a>(
    section: &Section,
    raw: &'a [u8],
    structure: &mut Option<Structure>,
) -> Option<Cow<'a, [u8]>> {
    if section.part.is_empty() {
        return mail::header_section(raw, &wanted(section));
    }
    structure
        .get_or_insert_with(|| Structure::parse(raw))
        .section(raw, &section.part, &wanted(section))
}

/// BINARY is of leaves (RFC 9051, 6.4.5); what has parts of its own is given as it is.
fn decoded(part: &[u32], raw: &[u8], structure: &mut Option<Structure>) -> Found {
    let structure = structure.get_or_insert_with(|| Structure::parse(raw));
    if part.is_empty() {
        return Found::Range(0..raw.len() as u64);
    }
    let Some(node) = structure.part(part) else {
        return Found::Nil;
    };
    let body = raw.get(node.body.clone()).unwrap_or_default();
    let encoding = node
        .encoding
        .as_deref()
        .filter(|_| node.children.is_empty());
    match mail::decode(body, encoding) {
        Some(text) => Found::of(raw, text),
        None => Found::UnknownEncoding,
    }
}
