//! Cuts the byte stream of a client into commands, before anything is parsed.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: types, `command`, `parser`. RFC 9051, 2.2.1 and 4.3; RFC 7888.
//!
//! Invariants: bytes of a literal, taken or refused, are never read as a command; only the
//! current command is buffered, within `Limits`; messages of APPEND pass through in pieces;
//! what is swallowed after an error is bounded, beyond that the connection must be closed.
//! How the stream is split into reads changes nothing but the pieces of `AppendData`.

mod swallow;

use std::ops::Range;

use crate::imap::bytes::{Announced, CommandBytes, Literal, announcement};
use crate::imap::command::AppendPiece;
use crate::imap::parser::{APPEND_FORM, AppendLine, AppendParser};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A command without its literals.
    pub max_line: usize,
    /// One literal that is not a message.
    pub max_literal: usize,
    /// One of those that comes unasked (RFC 7888).
    pub max_non_sync: usize,
    /// All literals of a command that are not a message.
    pub max_literals_total: usize,
    /// A message in APPEND. A non-synchronising literal much larger than this is fatal, so set 0
    /// before login.
    pub max_append: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Tagged `BAD` (untagged without a tag).
    Bad,
    /// Tagged `NO [TOOBIG]` (RFC 7889, 4): a literal over a limit.
    TooBig,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    NeedInput,
    /// A synchronising literal within the limits: call `continue_literal` and write `+`. Until then `next` says `NeedInput`.
    LiteralRequested {
        tag: Option<String>,
        size: u64,
    },
    Command(CommandBytes),
    /// APPEND up to its next data (within the limits), or to its end. Call `accept_append` (and
    /// write `+` where the data is `sync`) or `refuse_append`. Until then `next` says
    /// `NeedInput`. Of one command there may be many.
    Append(Box<AppendPiece>),
    /// Never empty.
    AppendData(Vec<u8>),
    /// All messages and the end of the last line came: now store them. An `Error` instead of
    /// this means: throw them away. Not after an `Append` without data: that was the end.
    AppendEnd,
    /// The bad command was swallowed to its end. `fatal`: answer, then close; nothing more comes.
    Error {
        tag: Option<String>,
        kind: ErrorKind,
        fatal: bool,
        text: &'static str,
    },
    /// After `expect_line`: one line without its CRLF.
    Line(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a line, or between commands.
    Line,
    Literal {
        left: u64,
    },
    /// The session has to decide about a literal or a message.
    LiteralAsked {
        size: u64,
    },
    /// None: the command is over.
    AppendAsked {
        data: Option<(u64, bool)>,
    },
    Message {
        left: u64,
    },
    SkipLine,
    SkipLiteral {
        left: u64,
    },
    Dead,
}

pub struct Fragmenter {
    limits: Limits,
    utf8: bool,
    raw: bool,
    state: State,
    input: Vec<u8>,
    pos: usize,
    command: CommandBytes,
    /// Of an APPEND that is under way.
    append: Option<Box<AppendParser>>,
    /// Where the current line piece starts in `command`.
    piece: usize,
    line_len: usize,
    literals_len: u64,
    /// What to say when a bad command was swallowed; None: it was answered.
    pending: Option<(ErrorKind, &'static str)>,
    skip_left: u64,
}

impl Fragmenter {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            utf8: false,
            raw: false,
            state: State::Line,
            input: Vec::new(),
            pos: 0,
            command: CommandBytes::default(),
            append: None,
            piece: 0,
            line_len: 0,
            literals_len: 0,
            pending: None,
            skip_left: 0,
        }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether APPEND's mailbox names are UTF-8 as they are (IMAP4rev2 enabled), not UTF-7.
    pub fn set_utf8(&mut self, utf8: bool) {
        self.utf8 = utf8;
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if self.state == State::Dead {
            return;
        }
        if self.pos > 0 {
            self.input.drain(..self.pos);
            self.pos = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Nothing of a next command has come yet.
    pub fn is_between(&self) -> bool {
        self.state == State::Line && self.pos == self.input.len() && self.command.bytes.is_empty()
    }

    /// What came next. Call until it says `NeedInput`.
    #[allow(clippy::should_implement_trait)] // it is not an iterator: it goes on after NeedInput
    pub fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.step() {
                if event == Event::NeedInput && self.pos == self.input.len() {
                    self.input = Vec::new();
                    self.pos = 0;
                }
                return event;
            }
        }
    }

    pub fn continue_literal(&mut self) {
        if let State::LiteralAsked { size } = self.state {
            self.begin_literal(size);
        }
    }

    pub fn accept_append(&mut self) {
        match self.state {
            State::AppendAsked {
                data: Some((left, _)),
            } => self.state = State::Message { left },
            State::AppendAsked { data: None } => self.reset(),
            _ => {}
        }
    }

    /// Also in the middle of the message (the store failed): the rest is swallowed without
    /// further events, as the session has answered.
    pub fn refuse_append(&mut self) {
        match self.state {
            State::AppendAsked {
                data: None | Some((_, true)),
            } => self.reset(),
            State::AppendAsked {
                data: Some((left, false)),
            }
            | State::Message { left } => {
                self.begin_skip(None);
                self.skip_left = self.skip_left.saturating_add(left);
                self.skip_literal(left);
            }
            _ => {}
        }
    }

    /// The next line is given raw as `Event::Line` (or an `Error` without a tag if it is too
    /// long); once for each call. For AUTHENTICATE's continuation and IDLE's DONE.
    pub fn expect_line(&mut self) {
        self.raw = true;
    }

    /// Gives up the bytes after the current command (to be discarded at STARTTLS).
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.command.bytes);
        rest.extend_from_slice(self.input.get(self.pos..).unwrap_or_default());
        self.input = Vec::new();
        self.pos = 0;
        if self.state != State::Dead {
            self.reset();
        }
        rest
    }

    fn reset(&mut self) {
        self.state = State::Line;
        self.command = CommandBytes::default();
        self.append = None;
        self.piece = 0;
        self.line_len = 0;
        self.literals_len = 0;
        self.pending = None;
    }

    fn step(&mut self) -> Option<Event> {
        match self.state {
            State::Line => self.step_line(),
            State::Literal { left } => {
                let chunk = self.take_input(left)?;
                let Some(chunk) = chunk else {
                    return Some(Event::NeedInput);
                };
                self.command
                    .bytes
                    .extend_from_slice(&self.input[chunk.clone()]);
                let left = left - chunk.len() as u64;
                self.state = State::Literal { left };
                if left == 0 {
                    self.end_literal();
                }
                None
            }
            State::Message { left: 0 } => {
                self.piece = self.command.bytes.len();
                self.state = State::Line;
                None
            }
            State::Message { left } => {
                let Some(chunk) = self.take_input(left)? else {
                    return Some(Event::NeedInput);
                };
                self.state = State::Message {
                    left: left - chunk.len() as u64,
                };
                // The usual read is wholly of the message: no copy then.
                if chunk == (0..self.input.len()) {
                    self.pos = 0;
                    return Some(Event::AppendData(std::mem::take(&mut self.input)));
                }
                Some(Event::AppendData(self.input[chunk].to_vec()))
            }
            State::SkipLiteral { left: 0 } => {
                self.piece = self.command.bytes.len();
                self.state = State::SkipLine;
                None
            }
            State::SkipLiteral { left } => {
                let Some(chunk) = self.take_input(left)? else {
                    return Some(Event::NeedInput);
                };
                self.state = State::SkipLiteral {
                    left: left - chunk.len() as u64,
                };
                None
            }
            State::SkipLine => self.step_skip_line(),
            State::LiteralAsked { .. } | State::AppendAsked { .. } | State::Dead => {
                Some(Event::NeedInput)
            }
        }
    }

    /// Up to `left` bytes of the input, as a range. `Some(None)`: there is none.
    #[allow(clippy::option_option)] // the outer one is for `?` in `step`
    fn take_input(&mut self, left: u64) -> Option<Option<Range<usize>>> {
        let there = self.input.len() - self.pos;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        if left > 0 && take == 0 {
            return Some(None);
        }
        let chunk = self.pos..self.pos + take;
        self.pos += take;
        Some(Some(chunk))
    }

    fn begin_literal(&mut self, size: u64) {
        self.literals_len += size;
        self.command.literals.push(Literal {
            announced: self.piece_announcement(),
            content: self.command.bytes.len()..self.command.bytes.len(),
        });
        self.state = State::Literal { left: size };
        if size == 0 {
            self.end_literal();
        }
    }

    /// Where `{` of the announcement stands that the current piece ends with.
    fn piece_announcement(&self) -> usize {
        let piece = self.command.bytes.get(self.piece..).unwrap_or_default();
        self.piece
            + piece
                .iter()
                .rposition(|b| *b == b'{')
                .unwrap_or(piece.len())
    }

    fn end_literal(&mut self) {
        let end = self.command.bytes.len();
        if let Some(literal) = self.command.literals.last_mut() {
            literal.content.end = end;
        }
        self.piece = end;
        self.state = State::Line;
    }

    /// Looks for the end of the line; None: one was taken and the loop goes on.
    fn step_line(&mut self) -> Option<Event> {
        let rest = self.input.get(self.pos..).unwrap_or_default();
        let Some(at) = rest.iter().position(|b| *b == b'\n') else {
            self.line_len += rest.len();
            self.command.bytes.extend_from_slice(rest);
            self.pos = self.input.len();
            if self.line_len > self.limits.max_line {
                return self.long_line();
            }
            return Some(Event::NeedInput);
        };
        self.command.bytes.extend_from_slice(&rest[..at]);
        self.line_len += at;
        self.pos += at + 1;
        if self.command.bytes.len() > self.piece && self.command.bytes.last() == Some(&b'\r') {
            self.command.bytes.pop();
        }
        if self.line_len > self.limits.max_line {
            return self.long_whole_line();
        }
        if std::mem::take(&mut self.raw) {
            let line = std::mem::take(&mut self.command.bytes);
            self.reset();
            return Some(Event::Line(line));
        }
        let piece = self.command.bytes.get(self.piece..).unwrap_or_default();
        if piece.contains(&0) {
            return Some(self.bad(ErrorKind::Bad, "NUL byte in a command"));
        }
        let announced = announcement(piece);
        if self.append.is_some() || self.command.is_append() {
            return self.append_line(announced);
        }
        match announced {
            None => {
                let command = std::mem::take(&mut self.command);
                self.reset();
                Some(Event::Command(command))
            }
            Some(announced) => self.literal(&announced),
        }
    }

    /// A line of APPEND is here.
    fn append_line(&mut self, announced: Option<Announced>) -> Option<Event> {
        let mut parser = self.append.take().unwrap_or_default();
        let line = parser.line(&self.command, self.utf8);
        self.append = Some(parser);
        let (size, sync) = announced.as_ref().map_or((0, true), |a| (a.size, a.sync));
        let piece = match line {
            AppendLine::Piece(piece) => piece,
            AppendLine::Name => return self.literal(&announced?),
            AppendLine::Bad => {
                return self.refuse_literal(ErrorKind::Bad, size, sync, APPEND_FORM);
            }
        };
        if size > self.limits.max_append {
            return self.too_big(size, sync, "The message is too big");
        }
        if piece.data.is_none() && piece.steps.is_empty() {
            self.reset();
            return Some(Event::AppendEnd);
        }
        let data = piece.data.map(|data| (data.size, data.sync));
        self.state = State::AppendAsked { data };
        Some(Event::Append(Box::new(piece)))
    }

    fn literal(&mut self, announced: &Announced) -> Option<Event> {
        let (size, sync) = (announced.size, announced.sync);
        if announced.binary && !self.command.is_set_metadata() {
            return self.refuse_literal(
                ErrorKind::Bad,
                size,
                sync,
                "A binary literal can't be taken here",
            );
        }
        let total = self.literals_len.saturating_add(size);
        let most = match sync {
            true => self.limits.max_literal,
            false => self.limits.max_literal.min(self.limits.max_non_sync),
        };
        let fits = size <= most as u64 && total <= self.limits.max_literals_total as u64;
        if !fits {
            return self.too_big(size, sync, "The literal is too big");
        }
        if sync {
            self.state = State::LiteralAsked { size };
            return Some(Event::LiteralRequested {
                tag: self.command.tag(),
                size,
            });
        }
        self.begin_literal(size);
        None
    }
}

#[cfg(test)]
mod tests;
