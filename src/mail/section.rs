//! `BODY[section]` (RFC 9051, 6.4.5): which bytes a section names.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: byte for byte what came in; only HEADER.FIELDS copies.

use std::borrow::Cow;
use std::ops::Range;

use super::header::{fields, header_len};
use super::structure::{Kind, Node, Structure};

/// What of a message or part is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionRef {
    /// `BODY[]`, `BODY[1.2]`.
    Whole,
    Header,
    Text,
    Mime,
    HeaderFields(Vec<String>),
    HeaderFieldsNot(Vec<String>),
}

/// A section of the whole message without building its structure. `Mime` names nothing here.
pub fn header_section<'a>(raw: &'a [u8], text: &SectionRef) -> Option<Cow<'a, [u8]>> {
    match text {
        SectionRef::Whole => Some(Cow::Borrowed(raw)),
        SectionRef::Header => Some(Cow::Borrowed(&raw[..header_len(raw)])),
        SectionRef::Text => Some(Cow::Borrowed(&raw[header_len(raw)..])),
        SectionRef::Mime => None,
        SectionRef::HeaderFields(names) => Some(Cow::Owned(pick_fields(raw, names, true))),
        SectionRef::HeaderFieldsNot(names) => Some(Cow::Owned(pick_fields(raw, names, false))),
    }
}

impl Structure {
    /// None: there is no such part, or it has no such thing; FETCH says NIL.
    pub fn section<'a>(
        &self,
        raw: &'a [u8],
        part: &[u32],
        text: &SectionRef,
    ) -> Option<Cow<'a, [u8]>> {
        let range = self.range(part, text)?;
        let bytes = raw.get(range)?;
        Some(match text {
            SectionRef::HeaderFields(names) => Cow::Owned(pick_fields(bytes, names, true)),
            SectionRef::HeaderFieldsNot(names) => Cow::Owned(pick_fields(bytes, names, false)),
            _ => Cow::Borrowed(bytes),
        })
    }

    /// Where a section lies; for fields of a header, the header that they are picked from.
    pub fn range(&self, part: &[u32], text: &SectionRef) -> Option<Range<usize>> {
        let message = if part.is_empty() {
            self.root()
        } else {
            let node = self.part(part)?;
            match text {
                SectionRef::Whole => return Some(node.body.clone()),
                SectionRef::Mime => return Some(node.header.clone()),
                // All others are of the message inside.
                _ if node.kind == Kind::Message => &self.nodes()[*node.children.first()?],
                _ => return None,
            }
        };
        match text {
            SectionRef::Whole => Some(message.header.start..message.body.end),
            SectionRef::Text => Some(message.body.clone()),
            SectionRef::Mime => None,
            _ => Some(message.header.clone()),
        }
    }

    /// The part of that number. A message that is no multipart has itself as part 1.
    pub fn part(&self, part: &[u32]) -> Option<&Node> {
        let nodes = self.nodes();
        let mut at = self.root();
        let mut is_message = true;
        for &number in part {
            if !is_message && at.kind == Kind::Message {
                at = &nodes[*at.children.first()?];
                is_message = true;
            }
            at = match at.kind {
                Kind::Multipart => &nodes[*at.children.get(number.checked_sub(1)? as usize)?],
                _ if is_message && number == 1 => at,
                _ => return None,
            };
            is_message = false;
        }
        Some(at)
    }
}

/// The fields whose name is (or is not) among `names`, and the blank line if there is one.
pub fn pick_fields(raw: &[u8], names: &[String], wanted: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut iter = fields(raw);
    for field in iter.by_ref() {
        if names.iter().any(|name| field.is(name)) == wanted {
            out.extend_from_slice(&raw[field.range]);
        }
    }
    let blank = iter.position();
    out.extend_from_slice(&raw[blank..blank + header_len(&raw[blank..]).min(2)]);
    out
}
