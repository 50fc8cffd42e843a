//! `BODY[section]` (RFC 9051, 6.4.5): which bytes a section names.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: byte for byte what came in; only HEADER.FIELDS copies.

use std::borrow::Cow;

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
        if part.is_empty() {
            return header_section(raw, text);
        }
        let node = self.part(part)?;
        match text {
            SectionRef::Whole => raw.get(node.body.clone()).map(Cow::Borrowed),
            SectionRef::Mime => raw.get(node.header.clone()).map(Cow::Borrowed),
            // All others are of the message inside.
            _ if node.kind == Kind::Message => header_section(raw.get(node.body.clone())?, text),
            _ => None,
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
fn pick_fields(raw: &[u8], names: &[String], wanted: bool) -> Vec<u8> {
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
