//! A command's bytes with the literals in it (RFC 9051, 4.3; RFC 7888).
//!
//! Machine: no IO, no clock, no randomness.

use std::fmt;
use std::ops::Range;

/// A literal within [`CommandBytes`]: where its announcement starts, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) announced: usize,
    pub(crate) content: Range<usize>,
}

/// A command as it came, without its last CRLF: line pieces, literals and their announcements.
///
/// `Debug` shows only the length: there may be a password in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandBytes {
    pub(super) bytes: Vec<u8>,
    pub(super) literals: Vec<Literal>,
}

impl CommandBytes {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn literals(&self) -> &[Literal] {
        &self.literals
    }

    /// The tag, if the line starts with one.
    pub fn tag(&self) -> Option<String> {
        let end = self.bytes.iter().position(|b| *b == b' ')?;
        let tag = self.bytes.get(..end)?;
        let valid = |b: &u8| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(b);
        if tag.is_empty() || tag.len() > 128 || !tag.iter().all(valid) {
            return None;
        }
        String::from_utf8(tag.to_vec()).ok()
    }

    /// Its values may be literal8 (RFC 5464, 5).
    pub(super) fn is_set_metadata(&self) -> bool {
        let name = self.bytes.split(|b| *b == b' ').nth(1);
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"SETMETADATA"))
    }

    /// APPEND, REPLACE or UID REPLACE with something behind it: its literals are messages.
    pub(super) fn is_append(&self) -> bool {
        let mut words = self.bytes.splitn(4, |b| *b == b' ').skip(1);
        let mut next = || words.next().unwrap_or_default();
        let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
        match (next(), next()) {
            (_, []) => false,
            (name, _) if is(name, b"APPEND") || is(name, b"REPLACE") => true,
            (name, of) => is(name, b"UID") && is(of, b"REPLACE") && !next().is_empty(),
        }
    }
}

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandBytes({} bytes)", self.bytes.len())
    }
}

/// `{n}`, `{n+}`, `{n-}`, `~{n}` at the end of a line.
pub(super) struct Announced {
    pub size: u64,
    pub sync: bool,
    pub binary: bool,
}

pub(super) fn announcement(piece: &[u8]) -> Option<Announced> {
    let inner = piece.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    let digits = &inner[open + 1..];
    let (digits, sync) = match digits.split_last() {
        Some((b'+' | b'-', digits)) => (digits, false),
        _ => (digits, true),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0u64, |n, d| {
        n.saturating_mul(10).saturating_add(u64::from(d - b'0'))
    });
    Some(Announced {
        size,
        sync,
        binary: inner[..open].last() == Some(&b'~'),
    })
}
