//! mbox: messages in one file, each behind a line that begins with `From ` and before an empty
//! one; in mboxrd a `>` is put before each line of a message that begins with `>`s and `From `,
//! so that every message comes back.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Exact: a message whose form with LF would not give it back (see [`Exact`]), or that does not
//! end with its last line, is written as it is, behind a `From ` line of the sender [`VERBATIM`].
//! Only in those the newline before the next `From ` belongs to the format even where it ends a
//! line of the message.

use super::lines::{Exact, ToFile};
use crate::mail::parse_date;
use crate::types::{Flag, SystemFlags};

const VERBATIM: &str = "verbatim@posthorn.invalid";

/// A line longer than this is none of the format's.
const MAX_FROM: usize = 1000;

/// The name in the `From ` lines of all others (RFC 4155 has it so where none is known).
const SENDER: &str = "MAILER-DAEMON";

/// One message as it stands in the file, unquoted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// From the `From ` line, milliseconds since 1970 and zone.
    pub date: Option<(i64, i16)>,
    pub bytes: Vec<u8>,
    /// It is the message itself: no line end is to be changed.
    pub verbatim: bool,
    /// There were more bytes than may be; `bytes` has none.
    pub too_large: bool,
}

/// Takes a file apart, piece by piece.
pub struct Reader {
    limit: usize,
    message: Option<Found>,
    /// The beginning of a line, as long as it may be a `From ` line, quoted or not.
    line: Vec<u8>,
    at_start: bool,
    /// Ends of lines that are the message's only if something comes after them.
    held: Vec<u8>,
    /// The line before was empty, or there was none.
    after_empty: bool,
    /// Bytes before the first `From ` line.
    pub stray: u64,
}

impl Reader {
    /// Of messages of more than `limit` bytes only their being there is told.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            message: None,
            line: Vec::new(),
            at_start: true,
            held: Vec::new(),
            after_empty: true,
            stray: 0,
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        let Some(message) = &mut self.message else {
            self.stray += bytes.len() as u64;
            return;
        };
        if message.too_large || message.bytes.len() + bytes.len() > self.limit {
            message.too_large = true;
            message.bytes = Vec::new();
        } else {
            message.bytes.extend_from_slice(bytes);
        }
    }

    /// What was held back belongs to the message after all.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.text(&held);
    }

    /// The line that is held can't be a `From ` line.
    fn line_is_text(&mut self) {
        self.release();
        let line = std::mem::take(&mut self.line);
        self.text(&line);
        self.at_start = false;
    }

    fn is_verbatim(&self) -> bool {
        self.message.as_ref().is_some_and(|m| m.verbatim)
    }

    /// Bytes of the file; `each` gets every message that is whole.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Found)) {
        while let Some(&first) = bytes.first() {
            if !self.at_start {
                let end = bytes.iter().position(|b| *b == b'\n');
                let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                self.text(text);
                bytes = rest;
                if !bytes.is_empty() {
                    bytes = &bytes[1..];
                    match self.is_verbatim() {
                        true => self.held.push(b'\n'),
                        false => self.text(b"\n"),
                    }
                    (self.at_start, self.after_empty) = (true, false);
                }
                continue;
            }
            bytes = &bytes[1..];
            self.line.push(first);
            let quotes = self.line.iter().take_while(|b| **b == b'>').count();
            let rest = &self.line[quotes..];
            if first == b'\n' && matches!(rest, b"\n" | b"\r\n") && quotes == 0 {
                // The second empty line shows that the first was the message's.
                self.release();
                self.held = std::mem::take(&mut self.line);
                if self.is_verbatim() && self.held.len() == 2 {
                    self.held.remove(0);
                    self.text(b"\r");
                }
                self.after_empty = true;
            } else if rest == b"\r" && quotes == 0 {
                // Perhaps an empty line.
            } else if rest.len() <= 5 && !b"From ".starts_with(rest) {
                self.line_is_text();
                if first == b'\n' {
                    // The end of the line is the message's, or may be.
                    if self.is_verbatim() {
                        if let Some(message) = &mut self.message {
                            message.bytes.pop();
                        }
                        self.held.push(b'\n');
                    }
                    (self.at_start, self.after_empty) = (true, false);
                }
            } else if rest.len() >= 5 && quotes > 0 {
                self.line.remove(0);
                self.line_is_text();
            } else if rest.len() > MAX_FROM || quotes > self.limit {
                self.line_is_text();
            } else if rest.len() > 5 && first == b'\n' {
                self.separator(each);
            }
        }
    }

    fn separator(&mut self, each: &mut dyn FnMut(Found)) {
        let text = self.line[5..].trim_ascii();
        let sender = text.iter().position(|b| *b == b' ').unwrap_or(text.len());
        let (sender, date) = text.split_at(sender);
        let date = parse_date(date).map(|date| (date.millis, date.zone_minutes));
        let begins = (self.after_empty || self.is_verbatim()) && date.is_some();
        if !begins {
            let verbatim = self.is_verbatim();
            self.line_is_text();
            (self.at_start, self.after_empty) = (true, false);
            if verbatim && let Some(message) = &mut self.message {
                message.bytes.pop();
                self.held.push(b'\n');
            }
            return;
        }
        let verbatim = sender == VERBATIM.as_bytes();
        self.end(each);
        self.message = Some(Found {
            date,
            verbatim,
            ..Found::default()
        });
        self.line.clear();
        (self.at_start, self.after_empty) = (true, false);
    }

    fn end(&mut self, each: &mut dyn FnMut(Found)) {
        self.held.clear();
        if let Some(message) = self.message.take() {
            each(message);
        }
    }

    /// The file has ended.
    pub fn finish(&mut self, each: &mut dyn FnMut(Found)) {
        if !self.line.is_empty() {
            self.line_is_text();
        }
        self.end(each);
    }
}

/// A message for the file, `From ` line and all. `date` is as asctime writes it.
pub fn write(message: &[u8], date: &str, out: &mut Vec<u8>) {
    let exact = Exact::of(message) && message.ends_with(b"\r\n");
    let sender = if exact { SENDER } else { VERBATIM };
    out.extend_from_slice(format!("From {sender} {date}\n").as_bytes());
    let mut file = Vec::with_capacity(message.len() + 64);
    let mut to = if exact {
        ToFile::plain()
    } else {
        ToFile::verbatim()
    };
    to.push(message, &mut file);
    to.finish(&mut file);
    for line in file.split_inclusive(|b| *b == b'\n') {
        let quotes = line.iter().take_while(|b| **b == b'>').count();
        if line[quotes..].starts_with(b"From ") {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    out.push(b'\n');
}

/// What UW's and Dovecot's servers keep in headers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub flags: Vec<Flag>,
    pub uid: Option<u32>,
    /// UIDVALIDITY and the last UID that was given: in the first message only.
    pub base: Option<(u32, u32)>,
    /// UW's place for the same, which is no message.
    pub internal: bool,
}

/// Headers in which such a server keeps what it knows, and which it hides from its clients.
const KEPT: [&[u8]; 7] = [
    b"status",
    b"x-status",
    b"x-keywords",
    b"x-uid",
    b"x-imapbase",
    b"x-imap",
    b"content-length",
];

/// Reads the status of a message, and gives the message without it. Whether that is what is to
/// be stored is the file's affair: see [`Status::base`].
pub fn status(message: &[u8]) -> (Status, Vec<u8>) {
    let mut status = Status::default();
    let mut rest = Vec::with_capacity(message.len());
    let (mut at, mut kept) = (0, false);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.trim_ascii_end().is_empty() {
            break;
        }
        at += line.len();
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            let colon = line.iter().position(|b| *b == b':').unwrap_or(0);
            let name = line[..colon].to_ascii_lowercase();
            kept = KEPT.contains(&&name[..]);
            if kept {
                let value = String::from_utf8_lossy(&line[colon + 1..]);
                status.take(&name, value.trim());
            }
        }
        if !kept {
            rest.extend_from_slice(line);
        }
    }
    rest.extend_from_slice(&message[at..]);
    (status, rest)
}

impl Status {
    fn add(&mut self, flag: Flag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    fn take(&mut self, name: &[u8], value: &str) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        match name {
            b"status" | b"x-status" => {
                for letter in value.bytes() {
                    let flag = match letter {
                        b'R' => SystemFlags::SEEN,
                        b'A' => SystemFlags::ANSWERED,
                        b'F' => SystemFlags::FLAGGED,
                        b'D' => SystemFlags::DELETED,
                        b'T' => SystemFlags::DRAFT,
                        _ => continue,
                    };
                    self.add(Flag::System(flag));
                }
            }
            b"x-keywords" => {
                for word in value.split_ascii_whitespace() {
                    if let Ok(flag @ Flag::Keyword(_)) = Flag::parse(word) {
                        self.add(flag);
                    }
                }
            }
            b"x-uid" => self.uid = number(Some(value)).filter(|uid| *uid > 0),
            b"x-imapbase" | b"x-imap" => {
                let mut words = value.split_ascii_whitespace();
                let pair = number(words.next()).zip(number(words.next()));
                self.base = pair.filter(|(validity, _)| *validity > 0);
                self.internal = name == b"x-imap";
            }
            _ => {}
        }
    }
}

/// For the fuzzer: any bytes, in pieces; what is found is written and found again.
pub fn fuzz(input: &[u8]) {
    let (cut, input) = input.split_first().unwrap_or((&1, &[]));
    let mut all = Vec::new();
    let mut reader = Reader::new(10_000);
    for piece in input.chunks(usize::from(*cut).max(1)) {
        reader.push(piece, &mut |found| all.push(found));
    }
    reader.finish(&mut |found| all.push(found));
    let mut file = Vec::new();
    for found in &all {
        let _ = status(&found.bytes);
        write(&found.bytes, "Thu Jan  1 00:00:07 1970", &mut file);
    }
    let mut reader = Reader::new(file.len());
    let mut again = 0;
    reader.push(&file, &mut |_| again += 1);
    reader.finish(&mut |_| again += 1);
    assert_eq!(again, all.len(), "a message was lost or made");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::lines::ToCrlf;
    use proptest::prelude::*;

    const DATE: &str = "Thu Jan  1 00:00:07 1970";

    fn read(file: &[u8], cut: usize) -> Vec<Found> {
        let mut reader = Reader::new(10_000);
        let mut all = Vec::new();
        for piece in file.chunks(cut.max(1)) {
            reader.push(piece, &mut |found| all.push(found));
        }
        reader.finish(&mut |found| all.push(found));
        all
    }

    fn message(found: &Found) -> Vec<u8> {
        let mut out = Vec::new();
        match found.verbatim {
            true => out.extend_from_slice(&found.bytes),
            false => ToCrlf::default().push(&found.bytes, &mut out),
        }
        out
    }

    fn texts(file: &str, cut: usize) -> Vec<String> {
        let found = read(file.as_bytes(), cut);
        let texts = found.into_iter().map(|f| String::from_utf8(f.bytes));
        texts.map(|text| text.expect("utf-8")).collect()
    }

    #[test]
    fn files_of_others() {
        for (file, found) in [
            ("", &[][..]),
            ("stray\n", &[]),
            (
                "From a@b Thu Jan  1 00:00:07 1970\nA: b\n\nhi\n\n",
                &["A: b\n\nhi\n"],
            ),
            // No empty line at the end.
            (
                "From a Thu Jan  1 00:00:07 1970\nA: b\n\nhi\n",
                &["A: b\n\nhi\n"],
            ),
            (
                "From a Thu Jan  1 00:00:07 1970\nA: b\n\n>From x\n>>From y\n>Fro\n\n\n\n\
                 From a Thu Jan  1 00:00:07 1970 +0100\nB: c\n\n",
                &["A: b\n\nFrom x\n>From y\n>Fro\n\n\n", "B: c\n"],
            ),
            // Not quoted by its writer, and yet no beginning: no date, or no empty line before.
            (
                "From a Thu Jan  1 00:00:07 1970\nA: b\n\nFrom me to you\nFrom a Thu Jan  1 \
                 00:00:07 1970\nx\n\n",
                &["A: b\n\nFrom me to you\nFrom a Thu Jan  1 00:00:07 1970\nx\n"],
            ),
            (
                "From a Thu Jan  1 00:00:07 1970\r\nA: b\r\n\r\nhi\r\n\r\nFrom a Thu Jan  1 \
                 00:00:07 1970\r\nB: c\r\n\r\n",
                &["A: b\r\n\r\nhi\r\n", "B: c\r\n"],
            ),
        ] {
            for cut in [1, 2, 7, 10_000] {
                assert_eq!(texts(file, cut), found, "{file:?} {cut}");
            }
        }
        let found = read(format!("From a {DATE}\nx\n\n").as_bytes(), 9);
        assert_eq!(found[0].date, Some((7_000, 0)));
    }

    #[test]
    fn a_message_that_is_too_large_is_told_and_the_next_is_read() {
        let file = format!(
            "From a {DATE}\n{}\n\nFrom a {DATE}\nx\n\n",
            "y".repeat(20_000)
        );
        let found = read(file.as_bytes(), 999);
        assert!(found[0].too_large && found[0].bytes.is_empty());
        assert_eq!(found[1].bytes, b"x\n");
    }

    #[test]
    fn status_of_dovecot_and_uw() {
        let (got, rest) = status(
            b"X-IMAPbase: 1275660208 0000000123 Kw1\nSubject: s\nX-UID: 7\nStatus: RO\n\
              X-Status: AFDT\nX-Keywords: Kw1  $Junk\n  \nContent-Length: 3\n\nStatus: O\n",
        );
        assert_eq!((got.uid, got.base), (Some(7), Some((1_275_660_208, 123))));
        assert_eq!(got.flags.len(), 7);
        assert!(!got.internal);
        // What is not a header any more stays.
        assert_eq!(rest, b"Subject: s\n  \nContent-Length: 3\n\nStatus: O\n");
        let (got, _) =
            status(b"From: Mail System Internal Data\nX-IMAP: 77 9 Kw\n\nDON'T DELETE\n");
        assert!(got.internal);
        assert_eq!(got.base, Some((77, 9)));
        assert_eq!(status(b"A: b\n\nx").1, b"A: b\n\nx");
    }

    proptest! {
        #[test]
        fn every_message_comes_back(
            messages in proptest::collection::vec("(From |>|\r|\n|\r\n|a|From a Thu Jan  1 00:00:07 1970\r\n){0,12}", 0..4),
            cut in 1usize..40
        ) {
            let mut file = Vec::new();
            for message in &messages {
                write(message.as_bytes(), DATE, &mut file);
            }
            let back: Vec<_> = read(&file, cut).iter().map(message).collect();
            let sent: Vec<_> = messages.iter().map(|m| m.clone().into_bytes()).collect();
            prop_assert_eq!(back, sent);
        }
    }
}
