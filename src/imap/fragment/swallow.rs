//! Commands that are refused: what belongs to them is swallowed, so that none of it is taken for
//! a command, and only so much of it.
//!
//! Machine: no IO, no clock, no randomness.

use super::{ErrorKind, Event, Fragmenter, State};
use crate::imap::bytes::announcement;

/// Longest end of a line that can be the announcement of a literal, with CR.
const TAIL: usize = 32;

impl Fragmenter {
    pub(super) fn bad(&mut self, kind: ErrorKind, text: &'static str) -> Event {
        let tag = self.command.tag();
        self.reset();
        Event::Error {
            tag,
            kind,
            fatal: false,
            text,
        }
    }

    pub(super) fn dead(&mut self, kind: ErrorKind, text: &'static str) -> Event {
        let tag = self.command.tag();
        self.reset();
        self.state = State::Dead;
        self.input = Vec::new();
        self.pos = 0;
        Event::Error {
            tag,
            kind,
            fatal: true,
            text,
        }
    }

    /// The rest of the command is swallowed, and then `what` is told.
    pub(super) fn begin_skip(&mut self, what: Option<(ErrorKind, &'static str)>) {
        self.pending = what;
        self.skip_left = self
            .limits
            .max_append
            .max(self.limits.max_literals_total as u64)
            * 2
            + self.limits.max_line as u64;
        self.piece = self.command.bytes.len();
        self.state = State::SkipLine;
    }

    pub(super) fn skip_literal(&mut self, left: u64) {
        self.state = State::SkipLiteral { left };
    }

    pub(super) fn long_line(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.raw) {
            return Some(self.dead(ErrorKind::Bad, "Line too long"));
        }
        self.begin_skip(Some((ErrorKind::Bad, "Line too long")));
        // An announcement may have begun already.
        self.piece = self.command.bytes.len().saturating_sub(TAIL);
        None
    }

    /// The same where the line's end is here already: it may announce a literal.
    pub(super) fn long_whole_line(&mut self) -> Option<Event> {
        if self.raw {
            return self.long_line();
        }
        let piece = self.command.bytes.get(self.piece..).unwrap_or_default();
        let announced = announcement(piece).filter(|a| !a.sync);
        let text = "Line too long";
        let Some(announced) = announced else {
            return Some(self.bad(ErrorKind::Bad, text));
        };
        self.begin_skip(Some((ErrorKind::Bad, text)));
        if announced.size > self.skip_left {
            return Some(self.dead(ErrorKind::Bad, text));
        }
        self.skip_left -= announced.size;
        self.skip_literal(announced.size);
        None
    }

    pub(super) fn too_big(&mut self, size: u64, sync: bool, text: &'static str) -> Option<Event> {
        self.refuse_literal(ErrorKind::TooBig, size, sync, text)
    }

    pub(super) fn refuse_literal(
        &mut self,
        kind: ErrorKind,
        size: u64,
        sync: bool,
        text: &'static str,
    ) -> Option<Event> {
        if sync {
            return Some(self.bad(kind, text));
        }
        self.begin_skip(Some((kind, text)));
        if size > self.skip_left {
            return Some(self.dead(kind, text));
        }
        self.skip_literal(size);
        None
    }

    /// Swallows a line of a bad command, and the literals that it announces.
    pub(super) fn step_skip_line(&mut self) -> Option<Event> {
        let rest = self.input.get(self.pos..).unwrap_or_default();
        let (line, whole) = match rest.iter().position(|b| *b == b'\n') {
            Some(at) => (&rest[..at], true),
            None => (rest, false),
        };
        // Only the end of the line matters: it may announce a literal.
        let keep = line.len().min(TAIL);
        let tail = line[line.len() - keep..].to_vec();
        let used = line.len() + usize::from(whole);
        self.pos += used;
        self.command.bytes.extend_from_slice(&tail);
        let over = (self.command.bytes.len() - self.piece).saturating_sub(TAIL);
        self.command.bytes.drain(self.piece..self.piece + over);
        if used as u64 > self.skip_left {
            let (kind, text) = self
                .pending
                .unwrap_or((ErrorKind::Bad, "Too much to swallow"));
            return Some(self.dead(kind, text));
        }
        self.skip_left -= used as u64;
        if !whole {
            return Some(Event::NeedInput);
        }
        let mut piece = self.command.bytes.split_off(self.piece);
        piece.pop_if(|b| *b == b'\r');
        if let Some(announced) = announcement(&piece)
            && !announced.sync
        {
            if announced.size > self.skip_left {
                let (kind, text) = self
                    .pending
                    .unwrap_or((ErrorKind::Bad, "Too much to swallow"));
                return Some(self.dead(kind, text));
            }
            self.skip_left -= announced.size;
            self.skip_literal(announced.size);
            return None;
        }
        match self.pending.take() {
            Some((kind, text)) => Some(self.bad(kind, text)),
            None => {
                self.reset();
                None
            }
        }
    }
}
