//! ENVELOPE as it is kept, read again (RFC 9051, 7.5.2).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use super::words::decode_words;

/// An address structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeAddress {
    pub name: Option<Vec<u8>>,
    /// addr-mailbox; NIL at the end of a group.
    pub mailbox: Option<Vec<u8>>,
    /// addr-host; NIL where a group begins.
    pub host: Option<Vec<u8>>,
}

/// What is searched and sorted of it. Strings are as they were in the header, unfolded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub date: Option<Vec<u8>>,
    pub subject: Option<Vec<u8>>,
    pub from: Vec<EnvelopeAddress>,
    pub to: Vec<EnvelopeAddress>,
    pub cc: Vec<EnvelopeAddress>,
    pub bcc: Vec<EnvelopeAddress>,
    pub in_reply_to: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
}

impl EnvelopeAddress {
    /// Decoded, written `name <mailbox@host>`; a group is its name (RFC 9051, 6.4.4 leaves
    /// open how they are put together).
    pub fn written(&self) -> String {
        let decoded =
            |part: &Option<Vec<u8>>| part.as_deref().map(decode_words).unwrap_or_default();
        let Some(host) = &self.host else {
            return decoded(&self.mailbox);
        };
        let mut text = decoded(&self.name);
        text.push_str(if text.is_empty() { "<" } else { " <" });
        text.push_str(&decoded(&self.mailbox));
        if !host.is_empty() {
            text.push('@');
            text.push_str(&decode_words(host));
        }
        text.push('>');
        text
    }

    /// By which DISPLAYFROM and DISPLAYTO sort (RFC 5957, 3).
    pub fn display(&self) -> String {
        let name = self.name.as_deref().map(decode_words).unwrap_or_default();
        if !name.is_empty() {
            return name;
        }
        let mut text = self.mailbox();
        if let (Some(_), Some(host)) = (&self.mailbox, &self.host)
            && !host.is_empty()
        {
            text.push('@');
            text.push_str(&decode_words(host));
        }
        text
    }

    /// By which FROM, TO and CC sort (RFC 5256, 3).
    pub fn mailbox(&self) -> String {
        let mailbox = self.mailbox.as_deref();
        mailbox.map(decode_words).unwrap_or_default()
    }
}

impl Envelope {
    /// None: not what `envelope_wire` writes.
    pub fn read(wire: &[u8]) -> Option<Self> {
        let mut c = Wire(wire);
        c.expect(b'(')?;
        let date = c.nstring()?;
        let subject = c.after_blank(Wire::nstring)?;
        let from = c.after_blank(Wire::addresses)?;
        // Sender and Reply-To.
        c.after_blank(Wire::addresses)?;
        c.after_blank(Wire::addresses)?;
        Some(Self {
            date,
            subject,
            from,
            to: c.after_blank(Wire::addresses)?,
            cc: c.after_blank(Wire::addresses)?,
            bcc: c.after_blank(Wire::addresses)?,
            in_reply_to: c.after_blank(Wire::nstring)?,
            message_id: c.after_blank(Wire::nstring)?,
        })
    }
}

struct Wire<'a>(&'a [u8]);

impl Wire<'_> {
    fn eat(&mut self, word: &[u8]) -> bool {
        match self.0.strip_prefix(word) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(&[byte]).then_some(())
    }

    fn after_blank<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.expect(b' ')?;
        read(self)
    }

    /// The outer Option is None where there is no string.
    #[allow(clippy::option_option)]
    fn nstring(&mut self) -> Option<Option<Vec<u8>>> {
        if self.eat(b"NIL") {
            return Some(None);
        }
        if self.eat(b"{") {
            let end = self.0.iter().position(|b| *b == b'}')?;
            let size: usize = std::str::from_utf8(&self.0[..end]).ok()?.parse().ok()?;
            self.0 = self.0[end..].strip_prefix(b"}\r\n")?;
            let (text, rest) = self.0.split_at_checked(size)?;
            self.0 = rest;
            return Some(Some(text.to_vec()));
        }
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let stop = self.0.iter().position(|b| matches!(b, b'"' | b'\\'))?;
            text.extend_from_slice(&self.0[..stop]);
            let quote = self.0[stop] == b'"';
            self.0 = &self.0[stop + 1..];
            if quote {
                return Some(Some(text));
            }
            text.push(*self.0.first()?);
            self.0 = &self.0[1..];
        }
    }

    fn addresses(&mut self) -> Option<Vec<EnvelopeAddress>> {
        let mut all = Vec::new();
        if self.eat(b"NIL") {
            return Some(all);
        }
        self.expect(b'(')?;
        while !self.eat(b")") {
            self.expect(b'(')?;
            let name = self.nstring()?;
            self.after_blank(Self::nstring)?;
            let mailbox = self.after_blank(Self::nstring)?;
            let host = self.after_blank(Self::nstring)?;
            self.expect(b')')?;
            all.push(EnvelopeAddress {
                name,
                mailbox,
                host,
            });
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope_wire;

    fn read(header: &str) -> Envelope {
        Envelope::read(&envelope_wire(header.as_bytes())).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let envelope = read(
            "Date: Mon, 2 Mar 2026 10:00:00 +0100\r\nSubject: a \"b\" \\c\r\n\
             From: \"Doe, J\" <j@x.test>, two@x.test\r\nTo: team: a@x.test;\r\nCc: alone\r\n\
             Bcc: =?utf-8?q?J=C3=BCrgen?= <k@x.test>\r\nMessage-ID: <1@x>\r\n\
             In-Reply-To: <0@x>\r\n\r\n",
        );
        assert_eq!(envelope.subject.as_deref(), Some(&b"a \"b\" \\c"[..]));
        assert_eq!(envelope.message_id.as_deref(), Some(&b"<1@x>"[..]));
        assert_eq!(envelope.in_reply_to.as_deref(), Some(&b"<0@x>"[..]));
        let written =
            |all: &[EnvelopeAddress]| all.iter().map(EnvelopeAddress::written).collect::<Vec<_>>();
        assert_eq!(
            written(&envelope.from),
            ["Doe, J <j@x.test>", "<two@x.test>"]
        );
        assert_eq!(written(&envelope.to), ["team", "<a@x.test>", ""]);
        assert_eq!(written(&envelope.cc), ["<alone>"]);
        assert_eq!(written(&envelope.bcc), ["Jürgen <k@x.test>"]);
        assert_eq!(envelope.from[0].display(), "Doe, J");
        assert_eq!(envelope.from[1].display(), "two@x.test");
        assert_eq!(envelope.to[0].display(), "team");
        assert_eq!(envelope.to[0].mailbox(), "team");
        assert_eq!(envelope.cc[0].display(), "alone");
        assert_eq!(read("\r\n"), Envelope::default());
        let bytes = read("Subject: \u{e4}\r\n\r\n");
        assert_eq!(bytes.subject.as_deref(), Some("\u{e4}".as_bytes()));
    }

    #[test]
    fn rubbish_is_none() {
        let wire = envelope_wire(b"From: a <b@c>\r\nSubject: \xff\r\n\r\n");
        for end in 0..wire.len() - 1 {
            assert_eq!(Envelope::read(&wire[..end]), None, "{end}");
        }
    }
}
