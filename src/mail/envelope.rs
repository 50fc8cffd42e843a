//! ENVELOPE as it is kept, read again (RFC 9051, 7.5.2).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use std::borrow::Cow;

use super::words::decode_words;

/// A string of it, which mostly stands in the wire form as it is.
type Text<'a> = Option<Cow<'a, [u8]>>;

/// An address structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeAddress<'a> {
    pub name: Text<'a>,
    /// addr-mailbox; NIL at the end of a group.
    pub mailbox: Text<'a>,
    /// addr-host; NIL where a group begins.
    pub host: Text<'a>,
}

/// What is searched and sorted of it. Strings are as they were in the header, unfolded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub date: Text<'a>,
    pub subject: Text<'a>,
    pub from: Vec<EnvelopeAddress<'a>>,
    pub to: Vec<EnvelopeAddress<'a>>,
    pub cc: Vec<EnvelopeAddress<'a>>,
    pub bcc: Vec<EnvelopeAddress<'a>>,
    pub in_reply_to: Text<'a>,
    pub message_id: Text<'a>,
}

impl EnvelopeAddress<'_> {
    /// Decoded, written `name <mailbox@host>`; a group is its name (RFC 9051, 6.4.4 leaves
    /// open how they are put together).
    pub fn written(&self) -> String {
        let decoded = |part: &Text<'_>| part.as_deref().map(decode_words).unwrap_or_default();
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

impl<'a> Envelope<'a> {
    /// None: not what `envelope_wire` writes.
    pub fn read(wire: &'a [u8]) -> Option<Self> {
        let mut c = Wire(wire);
        c.expect(b'(')?;
        let date = c.nstring()?;
        let subject = c.after_blank(Wire::nstring)?;
        let from = c.after_blank(Wire::addresses)?;
        // Sender and Reply-To.
        c.after_blank(Wire::skip_addresses)?;
        c.after_blank(Wire::skip_addresses)?;
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

impl<'a> Wire<'a> {
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
    fn nstring(&mut self) -> Option<Text<'a>> {
        if self.eat(b"NIL") {
            return Some(None);
        }
        if self.eat(b"{") {
            let end = self.0.iter().position(|b| *b == b'}')?;
            let size: usize = std::str::from_utf8(&self.0[..end]).ok()?.parse().ok()?;
            self.0 = self.0[end..].strip_prefix(b"}\r\n")?;
            let (text, rest) = self.0.split_at_checked(size)?;
            self.0 = rest;
            return Some(Some(Cow::Borrowed(text)));
        }
        self.expect(b'"')?;
        let mut text = Cow::Borrowed(&b""[..]);
        loop {
            let stop = self.0.iter().position(|b| matches!(b, b'"' | b'\\'))?;
            let plain = &self.0[..stop];
            if text.is_empty() {
                text = Cow::Borrowed(plain);
            } else {
                text.to_mut().extend_from_slice(plain);
            }
            let quote = self.0[stop] == b'"';
            self.0 = &self.0[stop + 1..];
            if quote {
                return Some(Some(text));
            }
            text.to_mut().push(*self.0.first()?);
            self.0 = &self.0[1..];
        }
    }

    fn addresses(&mut self) -> Option<Vec<EnvelopeAddress<'a>>> {
        let mut all = Vec::new();
        self.each_address(&mut |address| all.push(address))?;
        Some(all)
    }

    fn skip_addresses(&mut self) -> Option<()> {
        self.each_address(&mut |_| {})
    }

    fn each_address(&mut self, each: &mut dyn FnMut(EnvelopeAddress<'a>)) -> Option<()> {
        if self.eat(b"NIL") {
            return Some(());
        }
        self.expect(b'(')?;
        while !self.eat(b")") {
            self.expect(b'(')?;
            let name = self.nstring()?;
            self.after_blank(Self::nstring)?;
            let mailbox = self.after_blank(Self::nstring)?;
            let host = self.after_blank(Self::nstring)?;
            self.expect(b')')?;
            each(EnvelopeAddress {
                name,
                mailbox,
                host,
            });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope_wire;

    #[test]
    fn what_was_written_is_read() {
        let wire = |header: &str| envelope_wire(header.as_bytes());
        let given = wire(
            "Date: Mon, 2 Mar 2026 10:00:00 +0100\r\nSubject: a \"b\" \\c\r\n\
             From: \"Doe, J\" <j@x.test>, two@x.test\r\nTo: team: a@x.test;\r\nCc: alone\r\n\
             Bcc: =?utf-8?q?J=C3=BCrgen?= <k@x.test>\r\nMessage-ID: <1@x>\r\n\
             In-Reply-To: <0@x>\r\n\r\n",
        );
        let envelope = Envelope::read(&given).unwrap();
        assert_eq!(envelope.subject.as_deref(), Some(&b"a \"b\" \\c"[..]));
        assert_eq!(envelope.message_id.as_deref(), Some(&b"<1@x>"[..]));
        assert_eq!(envelope.in_reply_to.as_deref(), Some(&b"<0@x>"[..]));
        let written = |all: &[EnvelopeAddress<'_>]| {
            all.iter().map(EnvelopeAddress::written).collect::<Vec<_>>()
        };
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
        assert_eq!(Envelope::read(&wire("\r\n")), Some(Envelope::default()));
        let bytes = wire("Subject: \u{e4}\r\n\r\n");
        let bytes = Envelope::read(&bytes).unwrap();
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
