//! ENVELOPE, BODY and BODYSTRUCTURE as IMAP writes them (RFC 9051, 7.5.2 and section 9).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariants: always grammatical and balanced, never a raw NUL, CR or LF outside a literal's
//! head, no recursion. A message can't make it larger than [`BUDGET`] and a fixed part each.

use std::ops::Range;

use super::address::{AddressItem, parse_addresses};
use super::bytes::trim;
use super::content::{Disposition, Param, token_list};
use super::downgrade::{
    INVALID_DOMAIN, INVALID_LOCAL, ascii_domain, beyond_ascii, encoded_words, extended_value,
};
use super::header::{fields_within_limit, unfold};
use super::structure::{Headers, Kind, Node, Structure};

/// The longest string; a longer one is cut.
const MAX_STRING: usize = 8 * 1024;
/// Addresses of one list; the budget ends it before.
const MAX_ADDRESSES: usize = 50_000;
/// Of one field name, in one header.
const MAX_FIELDS: usize = 16;
/// All that a sender chooses freely, in one envelope or structure. What comes after is NIL.
const BUDGET: usize = 256 * 1024;

/// ENVELOPE of a message or of the header of one.
pub fn envelope_wire(raw: &[u8]) -> Vec<u8> {
    let mut wire = Wire::new(false);
    wire.envelope(raw);
    wire.out
}

/// The same for clients that read ASCII only: what is UTF-8 is encoded, and an address that
/// can't be is replaced (RFC 6858). Other 8-bit texts stay as they are.
pub fn envelope_wire_ascii(raw: &[u8]) -> Vec<u8> {
    let mut wire = Wire::new(true);
    wire.envelope(raw);
    wire.out
}

/// BODYSTRUCTURE: with extension data.
pub fn body_structure_wire(raw: &[u8]) -> Vec<u8> {
    structure_wire(Source::Raw(raw), &Structure::parse(raw), true, false)
}

/// BODYSTRUCTURE, or BODY where not `extended`, as [`envelope_wire_ascii`].
pub fn body_structure_wire_ascii(raw: &[u8], extended: bool) -> Vec<u8> {
    structure_wire(Source::Raw(raw), &Structure::parse(raw), extended, true)
}

/// BODY: without extension data.
pub fn body_wire(raw: &[u8]) -> Vec<u8> {
    structure_wire(Source::Raw(raw), &Structure::parse(raw), false, false)
}

/// BODYSTRUCTURE, or BODY where not `extended`, of a message that is not here itself.
pub fn structure_wire_of(
    structure: &Structure,
    headers: &Headers,
    extended: bool,
    ascii: bool,
) -> Vec<u8> {
    structure_wire(Source::Headers(headers), structure, extended, ascii)
}

/// Where headers are read.
#[derive(Clone, Copy)]
enum Source<'a> {
    Raw(&'a [u8]),
    Headers(&'a Headers),
}

impl<'a> Source<'a> {
    fn get(self, range: Range<usize>) -> &'a [u8] {
        match self {
            Self::Raw(raw) => raw.get(range).unwrap_or_default(),
            Self::Headers(headers) => headers.get(range),
        }
    }
}

enum Step {
    Begin(usize),
    EndMultipart(usize),
    EndMessage(usize),
}

fn structure_wire(raw: Source<'_>, structure: &Structure, extended: bool, ascii: bool) -> Vec<u8> {
    let nodes = structure.nodes();
    let mut wire = Wire::new(ascii);
    let mut steps = vec![Step::Begin(0)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Begin(index) => {
                let node = &nodes[index];
                wire.out.push(b'(');
                match node.kind {
                    Kind::Multipart => {
                        steps.push(Step::EndMultipart(index));
                        steps.extend(node.children.iter().rev().map(|c| Step::Begin(*c)));
                    }
                    // RFC 3501, 9, knows no message but message/rfc822: to who keeps to it, another
                    // is a part without parts.
                    Kind::Message if ascii && node.content_type.is("message", "global") => {
                        wire.basic(raw, node);
                        wire.end_part(raw, node, extended);
                    }
                    Kind::Message => {
                        wire.basic(raw, node);
                        wire.out.push(b' ');
                        let inside = node.children.first().map(|child| &nodes[*child]);
                        wire.envelope(inside.map_or(&[], |inside| raw.get(inside.header.clone())));
                        wire.out.push(b' ');
                        steps.push(Step::EndMessage(index));
                        steps.extend(node.children.iter().map(|c| Step::Begin(*c)));
                    }
                    Kind::Leaf => {
                        if wire.basic(raw, node) {
                            wire.number(node.lines);
                        }
                        wire.end_part(raw, node, extended);
                    }
                }
            }
            Step::EndMessage(index) => {
                wire.number(nodes[index].lines);
                wire.end_part(raw, &nodes[index], extended);
            }
            Step::EndMultipart(index) => {
                let node = &nodes[index];
                wire.out.push(b' ');
                wire.string(node.content_type.sub.as_bytes());
                if extended {
                    wire.out.push(b' ');
                    wire.params(&node.content_type.params);
                    wire.disposition_language_location(raw, node);
                }
                wire.out.push(b')');
            }
        }
    }
    wire.out
}

struct Wire {
    out: Vec<u8>,
    budget: usize,
    /// For who does not read UTF-8.
    ascii: bool,
}

impl Wire {
    fn new(ascii: bool) -> Wire {
        Wire {
            out: Vec::with_capacity(512),
            budget: BUDGET,
            ascii,
        }
    }

    /// Type, subtype, parameters, id, description, encoding, octets. True: it is text, so the
    /// lines have to follow.
    fn basic(&mut self, raw: Source<'_>, node: &Node) -> bool {
        let declared = &node.content_type;
        let opaque = node.opaque || !self.afford(declared.main.len() + declared.sub.len());
        if opaque && node.kind == Kind::Leaf {
            // Multiparts and messages have forms of their own, which we can't fill here.
            self.out
                .extend_from_slice(b"\"application\" \"octet-stream\" NIL");
        } else {
            self.string(declared.main.as_bytes());
            self.out.push(b' ');
            self.string(declared.sub.as_bytes());
            self.out.push(b' ');
            if declared.is("text", "plain") && declared.params.is_empty() {
                // RFC 2045, 5.2.
                self.out.extend_from_slice(b"(\"charset\" \"us-ascii\")");
            } else {
                self.params(&declared.params);
            }
        }
        self.out.push(b' ');
        self.field(raw, &node.id);
        self.out.push(b' ');
        self.field(raw, &node.description);
        self.out.push(b' ');
        match &node.encoding {
            Some(encoding) => self.string(encoding.as_bytes()),
            None => self.out.extend_from_slice(b"\"7bit\""),
        }
        self.number(node.body.len());
        !opaque && declared.main == "text"
    }

    fn end_part(&mut self, raw: Source<'_>, node: &Node, extended: bool) {
        if extended {
            self.out.push(b' ');
            self.field(raw, &node.md5);
            self.disposition_language_location(raw, node);
        }
        self.out.push(b')');
    }

    fn disposition_language_location(&mut self, raw: Source<'_>, node: &Node) {
        self.out.push(b' ');
        let disposition = node.disposition.clone();
        match disposition.and_then(|at| Disposition::parse(raw.get(at))) {
            Some(disposition) if self.afford(disposition.kind.len()) => {
                self.out.push(b'(');
                self.string(disposition.kind.as_bytes());
                self.out.push(b' ');
                self.params(&disposition.params);
                self.out.push(b')');
            }
            _ => self.nil(),
        }
        self.out.push(b' ');
        let languages = match &node.language {
            Some(at) => token_list(raw.get(at.clone()), 16),
            None => Vec::new(),
        };
        match languages.as_slice() {
            [] => self.nil(),
            [one] => self.nstring(Some(one.as_bytes())),
            many if self.afford(many.iter().map(|l| l.len() + 8).sum()) => {
                self.list(many, |wire, language| wire.string(language.as_bytes()));
            }
            _ => self.nil(),
        }
        self.out.push(b' ');
        self.field(raw, &node.location);
    }

    fn params(&mut self, params: &[Param]) {
        let cost = |p: &Param| p.name.len() + p.value.len().min(MAX_STRING) + 16;
        if params.is_empty() || !self.afford(params.iter().map(cost).sum()) {
            return self.nil();
        }
        self.list(params, |wire, param| match wire.foreign(&param.value) {
            Some(text) => {
                let star = if param.name.ends_with('*') { "" } else { "*" };
                let value = extended_value(text);
                wire.string(format!("{}{star}", param.name).as_bytes());
                wire.out.push(b' ');
                wire.string(&value);
            }
            None => {
                wire.string(param.name.as_bytes());
                wire.out.push(b' ');
                wire.string(&param.value);
            }
        });
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Wire, &T)) {
        self.out.push(b'(');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b' ');
            }
            write(self, item);
        }
        self.out.push(b')');
    }

    fn envelope(&mut self, raw: &[u8]) {
        let found = EnvelopeFields::read(raw);
        self.out.push(b'(');
        self.value(found.date);
        self.out.push(b' ');
        self.value(found.subject);
        // Sender and Reply-To are From where they are absent or empty (RFC 9051, 7.5.2).
        let from = addresses(&found.from);
        self.out.push(b' ');
        self.addresses(&from);
        for fields in [&found.sender, &found.reply_to] {
            let list = addresses(fields);
            self.out.push(b' ');
            self.addresses(if list.is_empty() { &from } else { &list });
        }
        for fields in [&found.to, &found.cc, &found.bcc] {
            self.out.push(b' ');
            self.addresses(&addresses(fields));
        }
        self.out.push(b' ');
        self.value(found.in_reply_to);
        self.out.push(b' ');
        self.value(found.message_id);
        self.out.push(b')');
    }

    /// No blanks between addresses: the grammar has `1*address`.
    fn addresses(&mut self, items: &[AddressItem]) {
        let start = self.out.len();
        self.out.push(b'(');
        for item in items {
            if !self.afford(cost(item)) {
                break;
            }
            self.out.push(b'(');
            match item {
                AddressItem::Mailbox {
                    name,
                    route,
                    local,
                    domain,
                } => {
                    self.mailbox(name.as_deref(), route.as_deref(), local, domain);
                }
                AddressItem::GroupStart(name) => {
                    self.out.extend_from_slice(b"NIL NIL ");
                    self.string(name);
                    self.out.extend_from_slice(b" NIL");
                }
                AddressItem::GroupEnd => self.out.extend_from_slice(b"NIL NIL NIL NIL"),
            }
            self.out.push(b')');
        }
        if self.out.len() == start + 1 {
            self.out.truncate(start);
            return self.nil();
        }
        self.out.push(b')');
    }

    fn mailbox(&mut self, name: Option<&[u8]>, route: Option<&[u8]>, local: &[u8], domain: &[u8]) {
        let converted = self.foreign(domain).map(ascii_domain);
        let whole = [local, b"@", domain].concat();
        let invalid = self.foreign(local).is_some() || converted == Some(None);
        // Of an address that can't be written, its name tells.
        let name = if invalid { name.or(Some(&whole)) } else { name };
        self.optional(name);
        self.out.push(b' ');
        self.optional(route);
        self.out.push(b' ');
        let (local, domain) = match converted {
            _ if invalid => (INVALID_LOCAL, INVALID_DOMAIN.to_vec()),
            Some(Some(domain)) => (local, domain),
            _ => (local, domain.to_vec()),
        };
        self.string(local);
        self.out.push(b' ');
        self.string(&domain);
    }

    /// What the reader can't read as it is.
    fn foreign<'a>(&self, value: &'a [u8]) -> Option<&'a str> {
        let value = &value[..value.len().min(MAX_STRING)];
        beyond_ascii(value).filter(|_| self.ascii)
    }

    fn field(&mut self, raw: Source<'_>, at: &Option<Range<usize>>) {
        self.value(at.clone().map(|at| raw.get(at)));
    }

    /// A field's value, unfolded; NIL where the field is absent.
    fn value(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.nstring(Some(&unfold(value))),
            None => self.nil(),
        }
    }

    fn nstring(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) if self.afford(value.len().min(MAX_STRING)) => self.string(value),
            _ => self.nil(),
        }
    }

    /// Already paid for.
    fn optional(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.string(value),
            None => self.nil(),
        }
    }

    /// Quoted where that can carry it, else a literal (RFC 9051, section 9: `string`).
    fn string(&mut self, value: &[u8]) {
        let words;
        let value = match self.foreign(value) {
            Some(text) => {
                words = encoded_words(text);
                &words
            }
            None => &value[..value.len().min(MAX_STRING)],
        };
        if value.iter().all(|b| matches!(b, b' '..=b'~' | b'\t')) {
            self.out.push(b'"');
            for &b in value {
                if matches!(b, b'"' | b'\\') {
                    self.out.push(b'\\');
                }
                self.out.push(b);
            }
            self.out.push(b'"');
            return;
        }
        let clean = |b: &&u8| !matches!(b, 0 | b'\r' | b'\n');
        let len = value.iter().filter(clean).count();
        self.out
            .extend_from_slice(format!("{{{len}}}\r\n").as_bytes());
        self.out.extend(value.iter().filter(clean));
    }

    fn nil(&mut self) {
        self.out.extend_from_slice(b"NIL");
    }

    fn number(&mut self, number: usize) {
        self.out.extend_from_slice(format!(" {number}").as_bytes());
    }

    fn afford(&mut self, bytes: usize) -> bool {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                true
            }
            None => false,
        }
    }
}

fn cost(item: &AddressItem) -> usize {
    let strings = match item {
        AddressItem::Mailbox {
            name,
            route,
            local,
            domain,
        } => [name.as_ref(), route.as_ref(), Some(local), Some(domain)],
        AddressItem::GroupStart(name) => [Some(name), None, None, None],
        AddressItem::GroupEnd => [None; 4],
    };
    16 + strings
        .iter()
        .flatten()
        .map(|s| s.len().min(MAX_STRING))
        .sum::<usize>()
}

fn addresses(fields: &[&[u8]]) -> Vec<AddressItem> {
    let mut items = Vec::new();
    for field in fields {
        items.extend(parse_addresses(
            field,
            MAX_ADDRESSES - items.len().min(MAX_ADDRESSES),
        ));
    }
    items
}

/// Raw values. Of lists that came in several fields all count, of others the first.
#[derive(Default)]
struct EnvelopeFields<'a> {
    date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    from: Vec<&'a [u8]>,
    sender: Vec<&'a [u8]>,
    reply_to: Vec<&'a [u8]>,
    to: Vec<&'a [u8]>,
    cc: Vec<&'a [u8]>,
    bcc: Vec<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
}

impl<'a> EnvelopeFields<'a> {
    fn read(raw: &'a [u8]) -> EnvelopeFields<'a> {
        let mut found = EnvelopeFields::default();
        for field in fields_within_limit(raw) {
            if field.name.len() > 11 {
                continue;
            }
            let list = match field.name.to_ascii_lowercase().as_slice() {
                b"date" => {
                    found.date.get_or_insert(field.value);
                    continue;
                }
                b"subject" => {
                    found.subject.get_or_insert(field.value);
                    continue;
                }
                b"in-reply-to" => {
                    found.in_reply_to.get_or_insert(field.value);
                    continue;
                }
                b"message-id" => {
                    found.message_id.get_or_insert(field.value);
                    continue;
                }
                b"from" => &mut found.from,
                b"sender" => &mut found.sender,
                b"reply-to" => &mut found.reply_to,
                b"to" => &mut found.to,
                b"cc" => &mut found.cc,
                b"bcc" => &mut found.bcc,
                _ => continue,
            };
            if list.len() < MAX_FIELDS && !trim(field.value).is_empty() {
                list.push(field.value);
            }
        }
        found
    }
}
