//! Content-Type, Content-Disposition and their parameters (RFC 2045, 5.1; RFC 2183; RFC 2231).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: at most [`MAX_PARAMS`] parameters, whatever was sent.

use super::bytes::{is_space, truncate};
use super::header::unfold;

const MAX_PARAMS: usize = 128;
/// No honest parameter is longer.
const MAX_VALUE: usize = 16 * 1024;
/// Types, encodings, languages, names of parameters (RFC 6838, 4.2).
const MAX_TOKEN: usize = 127;

/// Name in lower case; a value in the extended form keeps the `*` at the end of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    pub value: Vec<u8>,
}

/// Type and subtype in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    pub main: String,
    pub sub: String,
    pub params: Vec<Param>,
}

impl ContentType {
    pub(super) fn new(main: &str, sub: &str) -> ContentType {
        ContentType {
            main: main.to_owned(),
            sub: sub.to_owned(),
            params: Vec::new(),
        }
    }

    /// None: not of the form `type/subtype`, to be treated like a missing one (RFC 2045, 5.2).
    pub(super) fn parse(value: &[u8]) -> Option<ContentType> {
        let value = unfold(value);
        let mut cursor = Cursor::new(&value);
        let main = cursor.token()?;
        if !cursor.eat(b'/') {
            return None;
        }
        let sub = cursor.token()?;
        if main.len() > MAX_TOKEN || sub.len() > MAX_TOKEN {
            return None;
        }
        Some(ContentType {
            main,
            sub,
            params: cursor.params(),
        })
    }

    pub fn is(&self, main: &str, sub: &str) -> bool {
        self.main == main && self.sub == sub
    }

    pub fn param(&self, name: &str) -> Option<&[u8]> {
        find_param(&self.params, name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    pub kind: String,
    pub params: Vec<Param>,
}

impl Disposition {
    pub(super) fn parse(value: &[u8]) -> Option<Disposition> {
        let value = unfold(value);
        let mut cursor = Cursor::new(&value);
        let kind = cursor.token().filter(|kind| kind.len() <= MAX_TOKEN)?;
        Some(Disposition {
            kind,
            params: cursor.params(),
        })
    }
}

fn find_param<'a>(params: &'a [Param], name: &str) -> Option<&'a [u8]> {
    params
        .iter()
        .find(|p| p.name == name)
        .map(|p| p.value.as_slice())
}

/// The first token, as in Content-Transfer-Encoding; in lower case.
pub(super) fn first_token(value: &[u8]) -> Option<String> {
    let mut token = Cursor::new(&unfold(value)).token()?;
    truncate(&mut token, MAX_TOKEN);
    Some(token)
}

/// The tokens of a list with commas, as in Content-Language.
pub(super) fn token_list(value: &[u8], max: usize) -> Vec<String> {
    let value = unfold(value);
    let mut cursor = Cursor::new(&value);
    let mut tokens = Vec::new();
    while tokens.len() < max {
        match cursor.token() {
            Some(token) if token.len() <= MAX_TOKEN => tokens.push(token),
            Some(_) => {}
            None if !cursor.eat(b',') => break,
            None => {}
        }
    }
    tokens
}

struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    fn new(data: &'a [u8]) -> Cursor<'a> {
        Cursor { data, pos: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.pos).copied()
    }

    /// Blanks and comments (RFC 822 comments nest; a counter is enough).
    fn skip_cfws(&mut self) {
        while let Some(b) = self.peek() {
            if is_space(b) {
                self.pos += 1;
            } else if b == b'(' {
                self.pos = skip_comment(self.data, self.pos);
            } else {
                break;
            }
        }
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.skip_cfws();
        let found = self.peek() == Some(wanted);
        self.pos += usize::from(found);
        found
    }

    fn token(&mut self) -> Option<String> {
        self.skip_cfws();
        let start = self.pos;
        while self.peek().is_some_and(is_token) {
            self.pos += 1;
        }
        let token = &self.data[start..self.pos];
        (!token.is_empty()).then(|| String::from_utf8_lossy(token).to_ascii_lowercase())
    }

    /// `; name=value` until the end; what is not of that form is skipped up to the next `;`.
    fn params(&mut self) -> Vec<Param> {
        let mut raw: Vec<Param> = Vec::new();
        while raw.len() < MAX_PARAMS && self.pos < self.data.len() {
            if !self.eat(b';') {
                if self.pos >= self.data.len() {
                    break;
                }
                self.value(false);
                continue;
            }
            let Some(name) = self.token() else { continue };
            if !self.eat(b'=') {
                continue;
            }
            // What machines read has no parentheses of its own, so one begins a comment, also
            // without a blank before it (RFC 2045, 5.1); file names have them.
            let plain = matches!(name.as_str(), "charset" | "boundary");
            let mut value = self.value(plain);
            value.truncate(MAX_VALUE);
            if name.len() <= MAX_TOKEN && !raw.iter().any(|p| p.name == name) {
                raw.push(Param { name, value });
            }
        }
        join_continuations(raw)
    }

    /// A quoted string, or everything up to `;`: mailers forget quotes around file names.
    /// A comment begins at any `(` of a `plain` one, of others only behind a blank.
    fn value(&mut self, plain: bool) -> Vec<u8> {
        self.skip_cfws();
        if self.peek() == Some(b'"') {
            let (value, next) = quoted(self.data, self.pos);
            self.pos = next;
            return value;
        }
        let start = self.pos;
        let mut end = start;
        while let Some(b) = self.peek() {
            match b {
                b';' => break,
                b'(' if plain || end < self.pos => {
                    self.pos = skip_comment(self.data, self.pos);
                    continue;
                }
                b if is_space(b) => {}
                _ => end = self.pos + 1,
            }
            self.pos += 1;
        }
        self.data[start..end].to_vec()
    }
}

fn is_token(b: u8) -> bool {
    b > b' ' && b != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

/// The quoted string at `pos` (a `"`), unescaped, and where it ends.
pub(super) fn quoted(data: &[u8], pos: usize) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    let mut at = pos + 1;
    while let Some(&b) = data.get(at) {
        match b {
            b'"' => return (value, at + 1),
            b'\\' => {
                if let Some(&escaped) = data.get(at + 1) {
                    value.push(escaped);
                }
                at += 2;
            }
            _ => {
                value.push(b);
                at += 1;
            }
        }
    }
    (value, data.len())
}

/// Where the comment at `pos` (a `(`) ends.
pub(super) fn skip_comment(data: &[u8], pos: usize) -> usize {
    let mut depth = 0usize;
    let mut at = pos;
    while let Some(&b) = data.get(at) {
        at += 1;
        match b {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            b'\\' => at += 1,
            _ => {}
        }
    }
    data.len()
}

/// RFC 2231, 3 and 6: `name*0`, `name*1*` .. become one `name` or, with a charset, `name*`.
fn join_continuations(raw: Vec<Param>) -> Vec<Param> {
    if !raw.iter().any(|p| section_of(&p.name).is_some()) {
        return raw;
    }
    let mut joined: Vec<Param> = Vec::with_capacity(raw.len());
    for param in &raw {
        let Some((base, number, _)) = section_of(&param.name) else {
            joined.push(param.clone());
            continue;
        };
        if number != 0 {
            continue;
        }
        let mut pieces = Vec::new();
        for wanted in 0.. {
            let piece = raw.iter().find_map(|p| match section_of(&p.name) {
                Some((b, n, extended)) if b == base && n == wanted => Some((&p.value, extended)),
                _ => None,
            });
            match piece {
                Some(piece) => pieces.push(piece),
                None => break,
            }
        }
        let extended = pieces.iter().any(|(_, extended)| *extended);
        let first_extended = pieces.first().is_some_and(|(_, extended)| *extended);
        let mut value = Vec::new();
        if extended && !first_extended {
            value.extend_from_slice(b"''");
        }
        for (piece, piece_extended) in pieces {
            if extended && !piece_extended {
                percent_encode(piece, &mut value);
            } else {
                value.extend_from_slice(piece);
            }
        }
        value.truncate(MAX_VALUE);
        let name = if extended {
            format!("{base}*")
        } else {
            base.to_owned()
        };
        joined.push(Param { name, value });
    }
    joined
}

/// `name*12*` is (`name`, 12, true).
fn section_of(name: &str) -> Option<(&str, u16, bool)> {
    let (base, rest) = name.split_once('*')?;
    let (digits, extended) = match rest.strip_suffix('*') {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    if leading_zero || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((base, digits.parse().ok()?, extended))
}

fn percent_encode(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if is_token(b) && !matches!(b, b'%' | b'\'' | b'*') && b < 0x80 {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}
