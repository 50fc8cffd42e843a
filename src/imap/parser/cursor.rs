//! A cursor over the bytes of a command: line pieces and literals.
//!
//! Machine: no IO, no clock, no randomness.

use super::super::bytes::{Announced, CommandBytes, Literal, announcement};
use super::super::list::Pattern;
use super::{Options, ParseError};

pub(super) struct Cursor<'a> {
    command: &'a CommandBytes,
    pos: usize,
    literal: usize,
    pub options: Options,
    depth: usize,
    keys: usize,
}

pub(super) type Parsed<T> = Result<T, ParseError>;

pub(super) fn bad<T>(text: impl Into<String>) -> Parsed<T> {
    Err(ParseError::new(text))
}

/// ATOM-CHAR (RFC 9051, 9).
pub(super) fn atom_char(b: u8) -> bool {
    b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b)
}

impl<'a> Cursor<'a> {
    pub(super) fn new(command: &'a CommandBytes, options: Options) -> Self {
        Self {
            command,
            pos: 0,
            literal: 0,
            options,
            depth: 0,
            keys: 0,
        }
    }

    /// Goes on behind what was read before.
    pub(super) fn at(command: &'a CommandBytes, options: Options, pos: usize) -> Self {
        let read = |literal: &Literal| literal.announced < pos;
        Self {
            pos,
            literal: command.literals().partition_point(read),
            ..Self::new(command, options)
        }
    }

    pub(super) fn position(&self) -> usize {
        self.pos
    }

    fn bytes(&self) -> &'a [u8] {
        self.command.bytes()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes().get(self.pos).copied()
    }

    /// The next bytes are these.
    pub(super) fn comes(&self, bytes: &[u8]) -> bool {
        let rest = self.bytes().get(self.pos..).unwrap_or_default();
        rest.starts_with(bytes)
    }

    /// This byte was the last.
    pub(super) fn after(&self, byte: u8) -> bool {
        let last = self.pos.checked_sub(1).and_then(|at| self.bytes().get(at));
        last == Some(&byte)
    }

    pub(super) fn peek_second(&self) -> Option<u8> {
        self.bytes().get(self.pos + 1).copied()
    }

    pub(super) fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.pos += usize::from(there);
        there
    }

    pub(super) fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.eat(byte) {
            return Ok(());
        }
        match byte {
            b' ' => bad("A blank is missing"),
            byte => bad(format!("{:?} is missing", char::from(byte))),
        }
    }

    pub(super) fn space(&mut self) -> Parsed<()> {
        self.expect(b' ')
    }

    pub(super) fn end(&self) -> Parsed<()> {
        if self.at_end() {
            Ok(())
        } else {
            bad("Too much after the command")
        }
    }

    /// Bytes while `fits`; may be none.
    pub(super) fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.bytes().get(self.pos..).unwrap_or_default();
        let end = rest.iter().position(|b| !fits(*b)).unwrap_or(rest.len());
        self.pos += end;
        &rest[..end]
    }

    /// Nothing is left but the announcement of a literal that has not come yet.
    pub(super) fn announced(&self) -> Option<Announced> {
        let rest = self.bytes().get(self.pos..).unwrap_or_default();
        let opened = rest.strip_prefix(b"~").unwrap_or(rest);
        let more = opened.strip_prefix(b"{")?;
        // An empty one has come, though nothing stands behind its announcement.
        let came = self.at_literal().is_some();
        announcement(rest).filter(|_| !came && !more.contains(&b'{'))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.take_while(|_| true)
    }

    /// An atom as text; fails on an empty one.
    pub(super) fn atom(&mut self) -> Parsed<&'a str> {
        let atom = self.take_while(atom_char);
        match std::str::from_utf8(atom) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => bad("A word is missing"),
        }
    }

    /// The next atom in upper case, without taking it.
    pub(super) fn looks_like(&self, word: &str) -> bool {
        let rest = self.bytes().get(self.pos..).unwrap_or_default();
        let head = rest.get(..word.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
            && !rest.get(word.len()).is_some_and(|b| atom_char(*b))
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let there = self.looks_like(word);
        self.pos += if there { word.len() } else { 0 };
        there
    }

    fn at_literal(&self) -> Option<(usize, &'a [u8])> {
        let literal = self.command.literals().get(self.literal)?;
        // `~{` of literal8 is announced one byte earlier.
        if literal.announced != self.pos {
            return None;
        }
        Some((
            literal.content.end,
            self.bytes().get(literal.content.clone())?,
        ))
    }

    fn literal(&mut self) -> Option<&'a [u8]> {
        let (end, content) = self.at_literal()?;
        self.pos = end;
        self.literal += 1;
        Some(content)
    }

    fn quoted(&mut self) -> Parsed<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.peek() {
                // A line ended here, so the string did not.
                Some(b'{') if self.at_literal().is_some() => {
                    return bad("A quoted string has no end");
                }
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.pos += 1;
                    match self.peek() {
                        Some(b @ (b'"' | b'\\')) => text.push(b),
                        _ => return bad("Only \\ and \" may follow \\ in a quoted string"),
                    }
                }
                Some(b'\r' | b'\n' | 0) | None => return bad("A quoted string has no end"),
                Some(b) => text.push(b),
            }
            self.pos += 1;
        }
    }

    /// string = quoted / literal
    pub(super) fn string(&mut self) -> Parsed<Vec<u8>> {
        if self.peek() == Some(b'{') {
            return match self.literal() {
                // RFC 9051, 9: CHAR8 has no NUL.
                Some(content) if content.contains(&0) => bad("NUL byte in a literal"),
                Some(content) => Ok(content.to_vec()),
                None => bad("A literal was expected"),
            };
        }
        if self.eat(b'"') {
            self.quoted()
        } else {
            bad("A string is missing")
        }
    }

    /// astring; atoms may hold `]`.
    pub(super) fn astring(&mut self) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => {
                let atom = self.take_while(|b| atom_char(b) || b == b']');
                if atom.is_empty() {
                    bad("A string is missing")
                } else {
                    Ok(atom.to_vec())
                }
            }
        }
    }

    /// list-mailbox: an astring that may hold wildcards.
    pub(super) fn pattern(&mut self) -> Parsed<Pattern> {
        let bytes = match self.peek() {
            Some(b'"' | b'{') => self.string()?,
            _ => {
                let atom = self.take_while(|b| atom_char(b) || b"]%*".contains(&b) || b >= 0x80);
                if atom.is_empty() {
                    return bad("A mailbox name is missing");
                }
                atom.to_vec()
            }
        };
        Ok(Pattern::new(self.text(bytes)?, self.options.utf8))
    }

    /// What LIST puts before its patterns.
    pub(super) fn reference(&mut self) -> Parsed<Pattern> {
        let text = self.astring_text()?;
        Ok(Pattern::new(text, self.options.utf8))
    }

    /// nstring: NIL is None.
    pub(super) fn nstring(&mut self) -> Parsed<Option<Vec<u8>>> {
        if self.eat_word("NIL") {
            Ok(None)
        } else {
            self.string().map(Some)
        }
    }

    /// nstring / literal8
    pub(super) fn nstring8(&mut self) -> Parsed<Option<Vec<u8>>> {
        if !self.follows(b"~{") {
            return self.nstring();
        }
        self.pos += 1;
        match self.literal() {
            Some(content) => Ok(Some(content.to_vec())),
            None => bad("A literal was expected"),
        }
    }

    /// These bytes come next, in any case.
    pub(super) fn follows(&self, head: &[u8]) -> bool {
        let rest = self.bytes().get(self.pos..).unwrap_or_default();
        let there = rest.get(..head.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(head))
    }

    pub(super) fn text(&mut self, bytes: Vec<u8>) -> Parsed<String> {
        String::from_utf8(bytes).or_else(|_| bad("A string is not valid UTF-8"))
    }

    pub(super) fn astring_text(&mut self) -> Parsed<String> {
        let bytes = self.astring()?;
        self.text(bytes)
    }

    pub(super) fn number(&mut self) -> Parsed<u64> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        let text = std::str::from_utf8(digits).unwrap_or_default();
        // RFC 9051, 9: number64 is below 2^63.
        match text.parse::<u64>() {
            Ok(n) if i64::try_from(n).is_ok() => Ok(n),
            _ => bad("A number is missing or too large"),
        }
    }

    pub(super) fn number32(&mut self) -> Parsed<u32> {
        u32::try_from(self.number()?).or_else(|_| bad("A number is too large"))
    }

    /// Mailbox name to UTF-8. What is not modified UTF-7 is taken as UTF-8 where it has other
    /// bytes than ASCII: clients that send it mean it so (RFC 9051, 5.1).
    fn mailbox_name(&mut self, bytes: Vec<u8>) -> Parsed<String> {
        let text = self.text(bytes)?;
        let name = if self.options.utf8 || !text.is_ascii() {
            text
        } else {
            // Each name is written in one way only: else it would come back as another than was
            // sent, and a hierarchy separator could hide in it (RFC 3501, 5.1.3).
            match crate::types::utf7::decode(&text) {
                Some(name) if !text.contains('&') || crate::types::utf7::encode(&name) == text => {
                    name
                }
                _ => return bad("The mailbox name is not valid modified UTF-7"),
            }
        };
        Ok(name)
    }

    /// INBOX in any case is INBOX, also as the first level of a name.
    pub(super) fn mailbox(&mut self) -> Parsed<String> {
        let bytes = self.astring()?;
        let name = self.mailbox_name(bytes)?;
        let (first, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
        Ok(if first.eq_ignore_ascii_case("INBOX") {
            format!("INBOX{rest}")
        } else {
            name
        })
    }

    /// `( item item ... )`; may be empty.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(b'(')?;
        let mut items = Vec::new();
        if self.eat(b')') {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(b')') {
                return Ok(items);
            }
            self.space()?;
        }
    }

    /// The key of an OR or NOT: the only way to write a long list of alternatives, so these
    /// may be deeper than parentheses.
    pub(super) fn nested_key<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        const MOST: usize = 128;
        if self.keys >= MOST {
            return bad("Too deeply nested");
        }
        self.keys += 1;
        let result = inner(self);
        self.keys -= 1;
        result
    }

    /// One level deeper; fails where the limit is.
    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= self.options.max_depth {
            return bad("Too deeply nested");
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }
}
