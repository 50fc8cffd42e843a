//! Address lists (RFC 5322, 3.4 and 4.4), tolerantly: something sensible comes out of anything.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariants: linear, no recursion (comments nest by a counter), at most `max` items.

use super::bytes::is_space;
use super::content::{quoted, skip_comment};
use super::header::unfold;

/// Quoting is undone; encoded words are left as they are (RFC 9051, 7.5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressItem {
    Mailbox {
        name: Option<Vec<u8>>,
        /// The obsolete source route, `@a,@b`.
        route: Option<Vec<u8>>,
        local: Vec<u8>,
        /// Empty where it is missing.
        domain: Vec<u8>,
    },
    GroupStart(Vec<u8>),
    GroupEnd,
}

/// The items of one field. A group that is not closed is closed at the end.
pub fn parse_addresses(value: &[u8], max: usize) -> Vec<AddressItem> {
    let value = unfold(value);
    let mut parser = Parser {
        data: &value,
        pos: 0,
    };
    let mut items = Vec::new();
    let mut in_group = false;
    while items.len() < max {
        parser.skip_separators();
        match parser.peek() {
            None => break,
            Some(b';') => {
                parser.pos += 1;
                if in_group {
                    items.push(AddressItem::GroupEnd);
                    in_group = false;
                }
            }
            Some(_) => match parser.item(in_group) {
                Some(AddressItem::GroupStart(name)) => {
                    in_group = true;
                    items.push(AddressItem::GroupStart(name));
                }
                Some(item) => items.push(item),
                None => {}
            },
        }
    }
    if in_group {
        items.push(AddressItem::GroupEnd);
    }
    items
}

struct Parser<'a> {
    data: &'a [u8],
    pos: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.data.get(self.pos).copied()
    }

    fn skip_separators(&mut self) {
        while let Some(b) = self.peek() {
            match b {
                b',' => self.pos += 1,
                b if is_space(b) => self.pos += 1,
                b'(' => self.pos = skip_comment(self.data, self.pos),
                _ => break,
            }
        }
    }

    /// Up to `,` or `;`, or up to the `:` that starts a group.
    fn item(&mut self, in_group: bool) -> Option<AddressItem> {
        let mut phrase = Phrase::default();
        let mut comment = None;
        while let Some(b) = self.peek() {
            match b {
                b',' | b';' => break,
                b':' if !in_group && phrase.at.is_none() => {
                    self.pos += 1;
                    return Some(AddressItem::GroupStart(phrase.text));
                }
                b'<' => {
                    self.pos += 1;
                    let name = (!phrase.text.is_empty()).then_some(phrase.text);
                    let item = self.angle(name);
                    self.skip_to_separator();
                    return Some(item);
                }
                b'(' => {
                    let start = self.pos;
                    self.pos = skip_comment(self.data, start);
                    comment = Some(start..self.pos);
                    phrase.gap = true;
                }
                _ => self.word(b, &mut phrase),
            }
        }
        let name = comment.and_then(|range| comment_text(&self.data[range]));
        if phrase.text.is_empty() {
            return None;
        }
        let (local, domain) = phrase.split();
        Some(AddressItem::Mailbox {
            name,
            route: None,
            local,
            domain,
        })
    }

    /// One step of a phrase or address: blanks, a quoted string, a literal, or one byte.
    fn word(&mut self, b: u8, phrase: &mut Phrase) {
        match b {
            b'"' => {
                let (text, next) = quoted(self.data, self.pos);
                self.pos = next;
                phrase.push(&text);
            }
            b'[' => {
                let rest = &self.data[self.pos..];
                let len = rest
                    .iter()
                    .position(|b| matches!(b, b']' | b',' | b'>'))
                    .map_or(rest.len(), |i| i + usize::from(rest[i] == b']'));
                phrase.push(&rest[..len]);
                self.pos += len;
            }
            b'@' => {
                phrase.gap = false;
                phrase.at = Some(phrase.text.len());
                phrase.text.push(b'@');
                self.pos += 1;
            }
            b if is_space(b) => {
                phrase.gap = true;
                self.pos += 1;
            }
            _ => {
                phrase.push(&[b]);
                self.pos += 1;
            }
        }
    }

    /// After `<`, up to and with `>`.
    fn angle(&mut self, name: Option<Vec<u8>>) -> AddressItem {
        let mut phrase = Phrase::default();
        let route = self.route();
        while let Some(b) = self.peek() {
            match b {
                b'>' => {
                    self.pos += 1;
                    break;
                }
                b',' => break,
                b'(' => self.pos = skip_comment(self.data, self.pos),
                _ => self.word(b, &mut phrase),
            }
        }
        let (local, domain) = phrase.split();
        AddressItem::Mailbox {
            name,
            route,
            local,
            domain,
        }
    }

    /// `@a,@b:` (RFC 5322, 4.4).
    fn route(&mut self) -> Option<Vec<u8>> {
        let rest = &self.data[self.pos..];
        let blanks = rest.iter().take_while(|b| is_space(**b)).count();
        if rest.get(blanks) != Some(&b'@') {
            return None;
        }
        let colon = rest
            .iter()
            .position(|b| matches!(b, b':' | b'>' | b'"' | b'<'))?;
        if rest[colon] != b':' {
            return None;
        }
        self.pos += colon + 1;
        let route = rest[..colon].iter().copied().filter(|b| !is_space(*b));
        Some(route.collect())
    }

    fn skip_to_separator(&mut self) {
        while let Some(b) = self.peek() {
            match b {
                b',' | b';' => break,
                b'(' => self.pos = skip_comment(self.data, self.pos),
                b'"' => self.pos = quoted(self.data, self.pos).1,
                _ => self.pos += 1,
            }
        }
    }
}

/// Words with single blanks between them; the last `@` parts local part and domain.
#[derive(Default)]
struct Phrase {
    text: Vec<u8>,
    at: Option<usize>,
    /// Blanks or a comment came after the last word.
    gap: bool,
}

impl Phrase {
    fn push(&mut self, word: &[u8]) {
        if self.gap && !self.text.is_empty() && self.text.last() != Some(&b'@') {
            self.text.push(b' ');
        }
        self.gap = false;
        self.text.extend_from_slice(word);
    }

    fn split(self) -> (Vec<u8>, Vec<u8>) {
        match self.at {
            Some(at) => (
                close_dots(&self.text[..at]),
                close_dots(&self.text[at + 1..]),
            ),
            None => (close_dots(&self.text), Vec::new()),
        }
    }
}

/// `a . b` is `a.b` (obs-local-part, obs-domain).
fn close_dots(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    for (i, &b) in text.iter().enumerate() {
        if b == b' ' && (out.last() == Some(&b'.') || text.get(i + 1) == Some(&b'.')) {
            continue;
        }
        out.push(b);
    }
    out
}

/// The name in `user@host (Name)`, an old habit.
fn comment_text(comment: &[u8]) -> Option<Vec<u8>> {
    let inner = comment.strip_prefix(b"(")?;
    let inner = inner.strip_suffix(b")").unwrap_or(inner).trim_ascii();
    let mut text = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for &b in inner {
        if b == b'\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(b);
        }
    }
    (!text.is_empty()).then_some(text)
}
