//! From bytes to lines, messages and chunks, one at a time.
//!
//! Machine: no IO, no clock, no randomness.

use bytes::{Buf, BytesMut};

use super::{Output, Phase, Role, Session, Work};
use crate::smtp::parser::parse;
use crate::smtp::reply::Reply;
use crate::telemetry::SmtpRefusal;

/// Longest line of a SASL exchange, and of an AUTH that begins with a response (RFC 4954, 4).
const MAX_SASL_LINE: usize = 12_288;

/// What is kept of a line that is too long.
const VERB: usize = 5;
const AUTH: &[u8] = b"AUTH ";
/// Verbs that no mail client says.
const HTTP: [&str; 6] = ["GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT "];

impl Session {
    pub(super) fn advance(&mut self) {
        loop {
            if self.stopping && self.is_between() {
                self.stop_now();
            }
            if !self.step() {
                break;
            }
        }
        self.flush_before_work();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Replies leave before the work that comes after them.
    fn flush_before_work(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        // Who is there is known at once: those replies wait for the others of the group.
        if matches!(
            self.output.back(),
            Some(Output::Work(Work::Resolve(..) | Work::Admit { .. }))
        ) {
            return;
        }
        let write = Output::Write(std::mem::take(&mut self.replies));
        match self.output.back() {
            Some(Output::Work(_) | Output::StartTls) => {
                let at = self.output.len() - 1;
                self.output.insert(at, write);
            }
            _ => self.output.push_back(write),
        }
    }

    /// Takes one thing from the input; false where more is needed.
    fn step(&mut self) -> bool {
        match &mut self.phase {
            Phase::Waiting(_) | Phase::StartingTls | Phase::Closed => false,
            Phase::Command | Phase::Sasl(_) => self.line(),
            Phase::Data(reader) => {
                if self.input.is_empty() {
                    return false;
                }
                let mut text = Vec::new();
                let end = reader.feed(&self.input, &mut text);
                let faults = reader.faults();
                match end {
                    Some(used) => self.input.advance(used),
                    None => self.input.clear(),
                }
                self.keep(text);
                if end.is_some() {
                    self.came(self.now);
                    self.received(faults);
                }
                end.is_some()
            }
            Phase::Chunk {
                left,
                last,
                refused,
            } => {
                if self.input.is_empty() && *left > 0 {
                    return false;
                }
                let take = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(self.input.len());
                *left -= take as u64;
                let (done, last, refused) = (
                    *left == 0,
                    *last,
                    if *left == 0 { refused.take() } else { None },
                );
                let swallow = matches!(
                    &self.phase,
                    Phase::Chunk {
                        refused: Some(_),
                        ..
                    }
                ) || refused.is_some();
                let piece = self.input.split_to(take);
                if !swallow {
                    self.chunk(&piece);
                }
                if done {
                    self.came(self.now);
                    self.phase = Phase::Command;
                    match refused {
                        Some(reply) => self.turn_away(SmtpRefusal::Sequence, &reply),
                        None => self.chunk_ends(last),
                    }
                }
                true
            }
        }
    }

    fn line(&mut self) -> bool {
        let sasl = matches!(self.phase, Phase::Sasl(_));
        let begins = self.settings.role == Role::Submission
            && self.input.len() >= AUTH.len()
            && self.input[..AUTH.len()].eq_ignore_ascii_case(AUTH);
        let most = match self.settings.limits.max_line_bytes {
            _ if sasl => MAX_SASL_LINE,
            most if begins => most.max(MAX_SASL_LINE),
            most => most,
        };
        let Some(end) = self.input.iter().position(|b| *b == b'\n') else {
            if self.input.len() > most {
                self.swallowing = true;
            }
            if self.swallowing {
                self.input.truncate(VERB);
            }
            return false;
        };
        self.came(self.now);
        let mut line = self.input.split_to(end + 1).to_vec();
        line.pop();
        let whole = line.pop_if(|b| *b == b'\r').is_some();
        let reply = if std::mem::take(&mut self.swallowing) || line.len() > most {
            // RFC 4954, 6
            let enhanced = if sasl || begins { "5.5.6" } else { "5.5.2" };
            Reply::new(500, enhanced, "Line too long")
        } else if !whole {
            Reply::new(500, "5.5.2", "Lines end in CR LF")
        } else if sasl {
            self.sasl(&line);
            return true;
        } else {
            match parse(&line) {
                Ok(command) => {
                    self.command(command);
                    return true;
                }
                Err(reply) => reply,
            }
        };
        self.phase = Phase::Command;
        let starts = |word: &str| {
            let start = line.get(..word.len()).unwrap_or_default();
            !sasl && start.eq_ignore_ascii_case(word.as_bytes())
        };
        if starts("BDAT") {
            // A chunk follows, who knows how long: nothing of it may become a command.
            self.end(&reply);
        } else if HTTP.into_iter().any(starts) {
            // A browser that was led here: the next lines would be commands that a page chose.
            self.end(&Reply::new(421, "4.7.0", "This is not HTTP"));
        } else if sasl {
            self.refuse(&reply);
        } else {
            self.turn_away(SmtpRefusal::Syntax, &reply);
        }
        true
    }
}
