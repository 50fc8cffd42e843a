//! What is kept about a message so that most FETCHes need not open it.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use serde::{Deserialize, Serialize};

use super::address::{AddressItem, parse_addresses};
use super::bytes::{trim, truncate};
use super::date::parse_date;
use super::envelope::Envelope;
use super::header::fields_within_limit;
use super::message_id::References;
use super::structure::{Headers, Structure};
use super::wire::{body_structure_wire, envelope_wire, structure_wire_of};
use super::words::decode_words;

const MAX_FROM: usize = 128;
const MAX_SUBJECT: usize = 256;
/// Enough for [`MAX_SUBJECT`] in any encoding; the rest need not be decoded.
const MAX_ENCODED: usize = 4 * 1024;

/// Made once, when the message comes in. All of it is derived from the message's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// ENVELOPE in wire form with its parentheses (RFC 9051, 7.5.2).
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
    /// BODYSTRUCTURE in wire form, likewise.
    #[serde(with = "serde_bytes")]
    pub body_structure: Vec<u8>,
    /// Who wrote: display name, else address; decoded, at most 128 bytes.
    pub from: String,
    /// Decoded subject, at most 256 bytes.
    pub subject: String,
    /// The Date header as milliseconds since 1970, where it can be read.
    pub sent: Option<u64>,
    pub traits: Traits,
}

/// Hints for the notifier, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Traits(pub u8);

impl Traits {
    /// List-Id, List-Unsubscribe or Precedence: list.
    pub const LIST: u8 = 1;
    /// Auto-Submitted other than `no`.
    pub const AUTOMATIC: u8 = 2;
    /// Precedence: bulk or junk.
    pub const BULK: u8 = 4;
    /// Importance: high, Priority: urgent, or X-Priority 1 or 2.
    pub const IMPORTANT: u8 = 8;
    /// What the header says of its conversation is all in the ENVELOPE: `References::told` gives
    /// what `References::read` would.
    pub const LINKS_TOLD: u8 = 16;
    /// There is a message/global in the BODYSTRUCTURE, which RFC 3501 does not know.
    pub const GLOBAL: u8 = 32;

    /// All of these are set.
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// Never fails: what can't be parsed is described as what it is, opaque text.
pub fn summarize(raw: &[u8]) -> Summary {
    summary(raw, body_structure_wire(raw))
}

/// The same of a message that was read in pieces.
pub fn summarize_headers(structure: &Structure, headers: &Headers) -> Summary {
    let wire = structure_wire_of(structure, headers, true, false);
    summary(headers.get(structure.root().header.clone()), wire)
}

fn summary(header: &[u8], body_structure: Vec<u8>) -> Summary {
    let mut summary = Summary {
        envelope: envelope_wire(header),
        body_structure,
        ..Summary::default()
    };
    let mut pieces = summary.body_structure.windows(GLOBAL.len());
    if pieces.any(|piece| piece == GLOBAL) {
        summary.traits.0 |= Traits::GLOBAL;
    }
    let (mut from, mut subject, mut date) = (None, None, None);
    let (mut id, mut references, mut in_reply_to) = (None, None, None);
    for field in fields_within_limit(header) {
        if field.name.len() > 16 {
            continue;
        }
        match field.name.to_ascii_lowercase().as_slice() {
            b"from" => from = from.or(Some(field.value)),
            b"subject" => subject = subject.or(Some(field.value)),
            b"date" => date = date.or(Some(field.value)),
            b"message-id" => id = id.or(Some(field.value)),
            b"references" => references = references.or(Some(field.value)),
            b"in-reply-to" => in_reply_to = in_reply_to.or(Some(field.value)),
            name => summary.traits.0 |= traits_of(name, trim(field.value)),
        }
    }
    if references.is_none() {
        let told = Envelope::read(&summary.envelope).map(|e| References::told(&e));
        if told == Some(References::of(id, None, in_reply_to)) {
            summary.traits.0 |= Traits::LINKS_TOLD;
        }
    }
    summary.from = from.map(writer).unwrap_or_default();
    summary.subject = subject.map(|s| text(s, MAX_SUBJECT)).unwrap_or_default();
    summary.sent = date
        .and_then(parse_date)
        .and_then(|date| u64::try_from(date.millis).ok());
    summary
}

/// As it is written; no string in a BODYSTRUCTURE has bare quotes.
const GLOBAL: &[u8] = b"(\"message\" \"global\" ";

fn traits_of(name: &[u8], value: &[u8]) -> u8 {
    // Some add parameters or comments: the first word decides.
    let word = value
        .split(|b| b.is_ascii_whitespace() || matches!(b, b';' | b'(' | b','))
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match (name, word.as_slice()) {
        (b"list-id" | b"list-unsubscribe", _) | (b"precedence", b"list") => Traits::LIST,
        (b"precedence", b"bulk" | b"junk") => Traits::BULK,
        // RFC 3834, 5.
        (b"auto-submitted", word) if !matches!(word, b"no" | b"") => Traits::AUTOMATIC,
        (b"importance", b"high") | (b"priority", b"urgent") | (b"x-priority", b"1" | b"2") => {
            Traits::IMPORTANT
        }
        _ => 0,
    }
}

/// Display name of the first author, else the address.
fn writer(value: &[u8]) -> String {
    let value = &value[..value.len().min(MAX_ENCODED)];
    for item in parse_addresses(value, 4) {
        if let AddressItem::Mailbox {
            name,
            local,
            domain,
            ..
        } = item
        {
            let name = name.map(|n| text(&n, MAX_FROM)).unwrap_or_default();
            if !name.is_empty() {
                return name;
            }
            let address = [local.as_slice(), b"@", domain.as_slice()].concat();
            let address = if domain.is_empty() { &local } else { &address };
            return text(address, MAX_FROM);
        }
    }
    text(value, MAX_FROM)
}

/// Decoded, on one line, without control characters.
fn text(value: &[u8], max: usize) -> String {
    let decoded = decode_words(&value[..value.len().min(MAX_ENCODED)]);
    let mut clean: String = decoded
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    truncate(&mut clean, max);
    clean.trim().to_owned()
}
