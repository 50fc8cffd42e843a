//! What whoever takes a message must know of its header, found while the bytes go by.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariants: a header of any length is seen to its end; memory is the same small for all.

use super::bytes::find;

/// What was seen of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderSeen {
    /// How many `Received:` fields: a message with too many is in a loop (RFC 5321, 6.3).
    pub received: usize,
    pub date: bool,
    pub message_id: bool,
    /// The first line is neither a field nor blank: all of the message is body, and without a
    /// blank line in front it would be taken for a part of whatever header is put there.
    pub missing: bool,
}

/// Longest name that is looked for.
const NAME: usize = "message-id".len();

/// Takes a message piece by piece, and looks at its header.
#[derive(Clone, Debug, Default)]
pub struct HeaderWatch {
    seen: HeaderSeen,
    at: At,
    /// Some line was a field, so there is a header.
    begun: bool,
    /// The first line is the `From ` of a mailbox file: the second tells whether there is a header.
    mailbox_line: bool,
    /// The first bytes of the name, and how long it is.
    name: [u8; NAME],
    len: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    LineStart,
    /// A CR that begins a line.
    Cr,
    Name,
    /// Behind a name, before the colon (RFC 5322, 4.5).
    Blank,
    Rest,
    Body,
}

impl HeaderWatch {
    pub fn push(&mut self, bytes: &[u8]) {
        let mut pos = 0;
        while let Some(byte) = bytes.get(pos).copied() {
            if self.at == At::Rest {
                let Some(end) = find(bytes, b'\n', pos) else {
                    return;
                };
                (self.at, pos) = (At::LineStart, end + 1);
                continue;
            }
            pos += 1;
            match (self.at, byte) {
                (At::Body, _) => return,
                (At::LineStart | At::Cr, b'\n') => self.end(),
                (At::LineStart, b'\r') => self.at = At::Cr,
                (At::LineStart, 33..=126) if byte != b':' => {
                    (self.at, self.len) = (At::Name, 0);
                    self.name_byte(byte);
                }
                (At::Name, 33..=126) if byte != b':' => self.name_byte(byte),
                (At::Name | At::Blank, b':') => self.field(),
                (At::Name | At::Blank, b' ' | b'\t') => self.at = At::Blank,
                // It goes on with the field above.
                (At::LineStart, b' ' | b'\t') if self.begun => self.at = At::Rest,
                _ => self.no_field(byte),
            }
        }
    }

    /// What was seen, once all has gone by.
    pub fn finish(&self) -> HeaderSeen {
        let mut seen = self.seen;
        let unfinished = self.mailbox_line || self.at != At::LineStart;
        seen.missing |= !self.begun && self.at != At::Body && unfinished;
        seen
    }

    fn name_byte(&mut self, byte: u8) {
        if let Some(place) = self.name.get_mut(self.len) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    fn name(&self) -> &[u8] {
        self.name.get(..self.len).unwrap_or_default()
    }

    fn field(&mut self) {
        (self.begun, self.at) = (true, At::Rest);
        let is = |name: &str| self.name().eq_ignore_ascii_case(name.as_bytes());
        if is("Received") {
            self.seen.received += 1;
        } else if is("Date") {
            self.seen.date = true;
        } else if is("Message-ID") {
            self.seen.message_id = true;
        }
    }

    /// The line is no field, as this byte shows.
    fn no_field(&mut self, byte: u8) {
        let mailbox = self.at == At::Blank && matches!(self.name(), b"From" | b">From");
        if self.begun {
            self.at = At::Rest;
        } else if mailbox && !self.mailbox_line {
            (self.mailbox_line, self.at) = (true, At::Rest);
        } else {
            (self.seen.missing, self.at) = (true, At::Body);
        }
        if byte == b'\n' && self.at == At::Rest {
            self.at = At::LineStart;
        }
    }

    /// The blank line.
    fn end(&mut self) {
        self.seen.missing = !self.begun && self.mailbox_line;
        self.at = At::Body;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn watch(pieces: &[&[u8]]) -> HeaderSeen {
        let mut watch = HeaderWatch::default();
        for piece in pieces {
            watch.push(piece);
        }
        watch.finish()
    }

    #[test]
    fn sees_fields_up_to_the_blank_line() {
        let seen = watch(&[
            b"Received: a\r\n\tReceived: folded\r\nX-Received: b\r\nRECEIVED : c\r\n\
            junk\r\nFrom x\r\nMessage-Id:\r\n\r\nReceived: d\r\nDate: e\r\n",
        ]);
        let expected = HeaderSeen {
            received: 2,
            date: false,
            message_id: true,
            missing: false,
        };
        assert_eq!(seen, expected);
        let long = [b"X: y\r\n".repeat(100_000), b"Received: z\r\n".to_vec()].concat();
        assert_eq!(watch(&[&long]).received, 1);
        let name = [b"R".repeat(1 << 20), b"eceived: z\r\n".to_vec()].concat();
        assert_eq!(watch(&[&name]), HeaderSeen::default());
    }

    #[test]
    fn sees_that_there_is_no_header() {
        for (text, missing) in [
            ("", false),
            ("\r\nx", false),
            ("\nx", false),
            ("Subject:", false),
            ("Subject", true),
            ("Subject\r\nDate: x\r\n", true),
            ("\r", true),
            ("\rx\r\n", true),
            (" x\r\n", true),
            (":\r\n", true),
            ("\u{e9}: x\r\n", true),
            ("From x\r\n", true),
            ("From x\r\n\r\n", true),
            ("From x\r\nFrom y\r\nDate: x\r\n", true),
            (">From x\r\nDate: x\r\n", false),
            ("From\r\nDate: x\r\n", true),
            ("From \r\nDate: x\r\n", false),
            ("From: x\r\n", false),
        ] {
            let seen = watch(&[text.as_bytes()]);
            assert_eq!(seen.missing, missing, "{text:?}");
            assert!(!missing || !seen.date, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_sees_the_same(text in "(Received|Date|From| |:|x|\r\n|\n|\r){0,12}", cut in 0..60usize) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(watch(&[a, b]), watch(&[bytes]));
        }

        #[test]
        fn it_sees_the_fields_that_readers_see(text in "X:y\r\n(Received|Date|Message-ID| |:|x|\r\n){0,20}") {
            let seen = watch(&[text.as_bytes()]);
            let count = |name: &str| crate::mail::fields(text.as_bytes()).filter(|f| f.is(name)).count();
            prop_assert_eq!(seen.received, count("Received"));
            prop_assert_eq!(seen.date, count("Date") > 0);
            prop_assert_eq!(seen.message_id, count("Message-ID") > 0);
        }
    }
}
