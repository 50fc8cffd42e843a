//! Header text for people: encoded words (RFC 2047), charsets, raw 8-bit.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`; mail-parser's charset tables.

use mail_parser::decoders::charsets::map::charset_decoder;

use super::header::unfold;
use super::transfer::{Base64, hex};

/// Decodes a field's value: unfolded, encoded words decoded, the rest as UTF-8 or else Latin-1.
/// Blanks between two encoded words vanish; words of one charset are decoded together, since
/// mailers cut characters in two.
pub fn decode_words(value: &[u8]) -> String {
    let value = unfold(value);
    let mut out = String::with_capacity(value.len());
    // Bytes of encoded words that wait for their charset's decoder.
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    let mut plain = 0;
    let mut at = 0;
    while let Some(found) = find_start(&value, at) {
        let Some(word) = EncodedWord::parse(&value[found..]) else {
            at = found + 2;
            continue;
        };
        let between = &value[plain..found];
        let adjacent = pending.is_some() && between.iter().all(u8::is_ascii_whitespace);
        if !adjacent {
            flush(&mut pending, &mut out);
            push_raw(between, &mut out);
        }
        match &mut pending {
            Some((charset, bytes)) if charset.eq_ignore_ascii_case(word.charset) => {
                word.decode(bytes);
            }
            _ => {
                flush(&mut pending, &mut out);
                let mut bytes = Vec::with_capacity(word.text.len());
                word.decode(&mut bytes);
                pending = Some((word.charset, bytes));
            }
        }
        at = found + word.len;
        plain = at;
    }
    flush(&mut pending, &mut out);
    push_raw(&value[plain..], &mut out);
    out
}

/// Text in a charset; an unknown one is read as UTF-8 or else Latin-1.
pub(super) fn decode_charset(charset: &[u8], bytes: &[u8]) -> String {
    let utf8 = matches!(
        charset.to_ascii_lowercase().as_slice(),
        b"utf-8" | b"utf8" | b"us-ascii" | b""
    );
    if !utf8
        && charset.len() <= 45
        && let Some(decode) = charset_decoder(charset)
    {
        return decode(bytes);
    }
    let mut out = String::new();
    push_raw(bytes, &mut out);
    out
}

fn push_raw(bytes: &[u8], out: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.extend(bytes.iter().map(|b| char::from(*b))),
    }
}

fn flush(pending: &mut Option<(&[u8], Vec<u8>)>, out: &mut String) {
    if let Some((charset, bytes)) = pending.take() {
        out.push_str(&decode_charset(charset, &bytes));
    }
}

fn find_start(value: &[u8], from: usize) -> Option<usize> {
    let rest = value.get(from..)?;
    rest.windows(2).position(|w| w == b"=?").map(|i| from + i)
}

struct EncodedWord<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
    len: usize,
}

impl<'a> EncodedWord<'a> {
    /// `=?charset*language?B?text?=`. Longer than the 75 bytes of RFC 2047 is common; longer
    /// than a line of mail is not, and would make this quadratic.
    fn parse(data: &'a [u8]) -> Option<EncodedWord<'a>> {
        let data = &data[..data.len().min(998)];
        let mut parts = data.get(2..)?.splitn(3, |b| *b == b'?');
        let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let base64 = match encoding {
            b"b" | b"B" => true,
            b"q" | b"Q" => false,
            _ => return None,
        };
        let end = rest.windows(2).position(|w| w == b"?=")?;
        let name = charset.split(|b| *b == b'*').next()?;
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        Some(EncodedWord {
            charset: name,
            base64,
            text: &rest[..end],
            len: 2 + charset.len() + 1 + encoding.len() + 1 + end + 2,
        })
    }

    fn decode(&self, out: &mut Vec<u8>) {
        if self.base64 {
            Base64::default().feed(self.text, out);
            return;
        }
        let mut at = 0;
        while let Some(&b) = self.text.get(at) {
            at += 1;
            match b {
                b'_' => out.push(b' '),
                b'=' => match self.text.get(at..at + 2).and_then(hex) {
                    Some(byte) => {
                        out.push(byte);
                        at += 2;
                    }
                    None => out.push(b'='),
                },
                _ => out.push(b),
            }
        }
    }
}
