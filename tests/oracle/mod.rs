//! Our parser of commands beside imap-codec's, the oracle: what both know, both read alike, and
//! neither takes what the other refuses, but for the differences that are named here.
//!
//! The property test, the corpus test and the fuzz target `imap_oracle` share this.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]
// Each of those that share this uses a part of it.
#![allow(dead_code)]

mod beyond;
mod meaning;

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use posthorn::imap::Pattern;
use posthorn::imap::command::Command;
use posthorn::imap::reading::{Reading, read_first};

use self::meaning::Meaning;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both understood the same.
    Same,
    /// Neither understood it.
    Refused,
    /// They differ, for this reason.
    Differ(&'static str),
}

/// For the fuzzer and its corpus.
pub fn fuzz(data: &[u8]) {
    for utf8 in [false, true] {
        if let Err(difference) = compare(data, utf8) {
            panic!(
                "{:?} (utf8: {utf8}): {difference}",
                String::from_utf8_lossy(data)
            );
        }
    }
}

/// The error is a difference for which no reason is known.
pub fn compare(data: &[u8], utf8: bool) -> Result<Outcome, String> {
    let written = Written::of(data);
    let (ours, rest) = read_first(data, utf8);
    let (behind, command) = match CommandCodec::default().decode(data) {
        Ok(read) => read,
        Err(_) if !accepted(&ours) => return Ok(Outcome::Refused),
        Err(error) => {
            return match beyond::reason(&ours, &written) {
                Some(reason) => Ok(Outcome::Differ(reason)),
                None => Err(format!("only we take it, as {ours:?}; {error:?}")),
            };
        }
    };
    match meaning::of(&command, utf8) {
        Err(reason) if accepted(&ours) => Err(format!("we take it as {ours:?}, but: {reason}")),
        Err(reason) => Ok(Outcome::Differ(reason)),
        Ok(_) if !accepted(&ours) => match written.why_refused() {
            Some(reason) => Ok(Outcome::Differ(reason)),
            None => Err(format!("only we refuse it: {ours:?}; {command:?}")),
        },
        Ok(meaning) => {
            let shown = format!("we read {ours:?}, it is {meaning:?}");
            if !is_the_same(ours, command.tag.as_ref(), &meaning) {
                return Err(shown);
            }
            match rest == behind.len() {
                true => Ok(Outcome::Same),
                false => Err(format!("{rest} bytes behind it, not {}", behind.len())),
            }
        }
    }
}

fn accepted(reading: &Reading) -> bool {
    matches!(reading, Reading::Command(_) | Reading::Append(..))
}

fn is_the_same(ours: Reading, tag: &str, meaning: &Meaning) -> bool {
    match (ours, meaning) {
        (Reading::Command(mut ours), Meaning::Command(theirs)) => {
            // The oracle forgets how a reference writes INBOX.
            if let Command::List(list) = &mut ours.command {
                forget_case(&mut list.reference);
            }
            if let Command::Lsub { reference, .. } = &mut ours.command {
                forget_case(reference);
            }
            ours.tag == tag && ours.command == **theirs
        }
        (Reading::Append(pieces, message), Meaning::Append(begin, step, binary, theirs)) => {
            let [piece] = &pieces[..] else {
                return false;
            };
            let Some(data) = piece.data else {
                return false;
            };
            piece.tag == tag
                && piece.begin.as_ref() == Some(begin)
                && piece.steps == [step.clone()]
                && (data.size, data.binary, data.utf8) == (theirs.len() as u64, *binary, false)
                && message == *theirs
        }
        _ => false,
    }
}

fn forget_case(reference: &mut Pattern) {
    if reference.as_str().eq_ignore_ascii_case("INBOX") {
        *reference = Pattern::new("INBOX".into(), true);
    }
}

/// How the first command is written.
pub struct Written {
    /// Its lines without their ends, in upper case; each literal's content is `LITERAL`.
    text: Vec<u8>,
    /// The content of its literals.
    literals: Vec<Vec<u8>>,
    bare_lf: bool,
    /// A literal is announced as `{n-}`.
    minus: bool,
}

/// What stands for a literal's content in `Written::text`; no line holds it.
const LITERAL: u8 = 0;

impl Written {
    fn of(data: &[u8]) -> Self {
        let mut written = Self {
            text: Vec::new(),
            literals: Vec::new(),
            bare_lf: false,
            minus: false,
        };
        let mut rest = data;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            let line = line.strip_suffix(b"\r").unwrap_or_else(|| {
                written.bare_lf = true;
                line
            });
            written.text.extend(line.to_ascii_uppercase());
            let Some((size, minus)) = announced(line).filter(|(size, _)| *size <= after.len())
            else {
                break;
            };
            written.minus |= minus;
            written.text.push(LITERAL);
            written.literals.push(after[..size].to_vec());
            rest = &after[size..];
        }
        written
    }

    fn has(&self, text: &str) -> bool {
        let mut windows = self.text.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    }

    fn begins(&self, command: &str) -> bool {
        let mut words = self.text.splitn(2, |b| *b == b' ').skip(1);
        words
            .next()
            .is_some_and(|text| text.starts_with(command.as_bytes()))
    }

    /// Why we alone may refuse it; what the oracle's command does not show.
    fn why_refused(&self) -> Option<&'static str> {
        let zone = |w: &[u8]| match w {
            [b'+' | b'-', h, k, m, n, b'"'] => {
                [h, k, m, n].into_iter().all(u8::is_ascii_digit) && *m > b'5'
            }
            _ => false,
        };
        if self.text.windows(6).any(zone) {
            return Some("a zone of more than 59 minutes (RFC 9051, 9: zone is hhmm)");
        }
        None
    }
}

/// The size of the literal that a line announces, and whether as `{n-}`.
fn announced(line: &[u8]) -> Option<(usize, bool)> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    let digits = std::str::from_utf8(&inner[open + 1..]).ok()?;
    let minus = digits.ends_with('-');
    let digits = digits.strip_suffix(['+', '-']).unwrap_or(digits);
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    let size = digits.parse().ok().filter(|_| all_digits)?;
    Some((size, minus))
}
