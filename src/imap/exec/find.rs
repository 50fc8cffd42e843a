//! Where the texts lie that FETCH asks for.
//!
//! May import: store, mail.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::text::{Message, Place, Texts, cut};
use crate::imap::command::{FetchItem, Section, SectionText};
use crate::mail::{self, Decoder, SectionRef, Structure};
use crate::store::{Outline, StoreError, step};

/// Looks at one message for all items of a FETCH; reads and parses no more than they need, and
/// that once.
pub(super) struct Finder<'a> {
    message: Message<'a>,
    whole: OnceCell<Option<Bytes>>,
    top: OnceCell<Option<Bytes>>,
    outline: OnceCell<Option<Arc<Outline>>>,
    /// What was read in this moment.
    sound: RefCell<Vec<Range<u64>>>,
    damaged: Cell<bool>,
    gone: Cell<bool>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(message: Message<'a>) -> Self {
        Self {
            message,
            whole: OnceCell::new(),
            top: OnceCell::new(),
            outline: OnceCell::new(),
            sound: RefCell::default(),
            damaged: Cell::new(false),
            gone: Cell::new(false),
        }
    }

    fn is_large(&self) -> bool {
        self.message.is_large()
    }

    /// Damage is no reason to leave a message out; that it is gone is one.
    fn read<T>(&self, read: Result<T, StoreError>) -> Option<T> {
        match &read {
            Ok(_) => {}
            Err(StoreError::Expunged) => self.gone.set(true),
            Err(_) => self.damaged.set(true),
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

    fn outline(&self) -> Option<&Outline> {
        let outline = || {
            if !self.is_large() {
                return Some(Arc::new(Outline::new(Structure::parse(self.whole()?))));
            }
            let Message { record, store, .. } = self.message;
            let key = (self.message.mailbox, self.message.uid, record.blob);
            let mut read = |range| self.message.read(range);
            let found = store.outline(key, record.size, self.message.own(), &mut read);
            let (outline, was_read) = self.read(found)?;
            if was_read {
                self.sound.borrow_mut().push(0..record.size);
            }
            Some(outline)
        };
        self.outline.get_or_init(outline).as_deref()
    }

    /// Once announced, a literal can't turn out to be damaged: a text that is written without
    /// having been read for its place is read through first.
    fn is_sound(&self, range: Range<u64>) -> bool {
        if !self.is_large() {
            return self.whole().is_some();
        }
        let within = |sound: &Range<u64>| sound.start <= range.start && range.end <= sound.end;
        if range.is_empty() || self.sound.borrow().iter().any(within) {
            return true;
        }
        let mut at = range.start;
        while at < range.end {
            let end = step(at, self.message.own(), range.end);
            if self.read(self.message.read(at..end)).is_none() {
                return false;
            }
            at = end;
        }
        self.sound.borrow_mut().push(range);
        true
    }

    pub(super) fn find(self, items: &[FetchItem]) -> Texts {
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
            FetchItem::Binary { part, partial, .. } => self.sound_binary(part, *partial),
            FetchItem::BinarySize(part) => match self.binary(part) {
                Place::Nil => Place::Size(0),
                Place::Text(range) => Place::Size(range.end - range.start),
                Place::Encoded(_, decoded) => Place::Size(decoded.len),
                other => other,
            },
            _ => Place::Nil,
        };
        let places = items.iter().map(place).collect();
        let memory = (!self.is_large()).then(|| self.whole.into_inner().flatten());
        Texts {
            places,
            gone: self.gone.get(),
            damaged: self.damaged.get(),
            memory: memory.flatten(),
        }
    }

    fn structure_wire(&self, extended: bool) -> Place {
        if self.is_large() {
            match self.read(self.message.structure_wire(extended)) {
                Some(Some(wire)) => return Place::Wire(wire),
                Some(None) => {}
                // A damaged body is described as an empty one.
                None => return Place::Wire(mail::body_structure_wire_ascii(b"", extended)),
            }
        }
        let whole = self.whole().unwrap_or_default();
        Place::Wire(match (self.message.utf8, extended) {
            (true, true) => mail::body_structure_wire(whole),
            (true, false) => mail::body_wire(whole),
            (false, extended) => mail::body_structure_wire_ascii(whole, extended),
        })
    }

    fn header_len(&self) -> Option<u64> {
        let top = self.top()?;
        let (len, size) = (mail::header_len(top), self.message.record.size);
        if len < top.len() || top.len() as u64 == size {
            return Some(len as u64);
        }
        Some(self.outline()?.structure.root().header.end as u64)
    }

    fn section(&self, section: &Section) -> Option<Place> {
        let range = if section.part.is_empty() {
            // No structure is needed.
            let size = self.message.record.size;
            match &section.text {
                SectionText::Whole => 0..size,
                SectionText::Text => self.header_len()?..size,
                SectionText::Mime => return None,
                _ => 0..self.header_len()?,
            }
        } else {
            let structure = &self.outline()?.structure;
            let range = structure.range(&section.part, &wanted(section))?;
            range.start as u64..range.end as u64
        };
        let (place, read) = match section.text {
            SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
                (Place::Fields(range.clone()), range)
            }
            _ => (Place::Text(range.clone()), cut(range, section.partial)),
        };
        self.is_sound(read).then_some(place)
    }

    /// BINARY is of leaves (RFC 9051, 6.4.5); what has parts of its own is given as it is.
    fn binary(&self, part: &[u32]) -> Place {
        if part.is_empty() {
            return Place::Text(0..self.message.record.size);
        }
        let Some(outline) = self.outline() else {
            return Place::Nil;
        };
        let Some(node) = outline.structure.part(part) else {
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
        let mut read = |range: Range<u64>| match self.whole.get() {
            Some(Some(whole)) => Ok(whole.slice(range.start as usize..range.end as usize)),
            _ => self.message.read(range),
        };
        let own = self.message.own();
        let decoded = outline.decoded(range.clone(), own, decoder, &mut read);
        let Some((decoded, was_read)) = self.read(decoded) else {
            return Place::Nil;
        };
        if was_read {
            self.sound.borrow_mut().push(range.clone());
        }
        Place::Encoded(range, decoded)
    }

    /// The same, where what is wanted of it can be read.
    fn sound_binary(&self, part: &[u32], partial: Option<(u64, u64)>) -> Place {
        let place = self.binary(part);
        let read = match &place {
            Place::Text(range) => cut(range.clone(), partial),
            Place::Encoded(range, decoded) => {
                let wanted = cut(0..decoded.len, partial);
                let start = decoded
                    .begin(wanted.start)
                    .map_or(range.start, |(at, ..)| at);
                start
                    ..decoded
                        .end(wanted.end)
                        .map_or(range.end, |end| end.min(range.end))
            }
            _ => return place,
        };
        if self.is_sound(read) {
            place
        } else {
            Place::Nil
        }
    }
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
