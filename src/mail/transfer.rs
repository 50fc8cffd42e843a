//! Content transfer encodings (RFC 2045, 6), decoded in a stream and tolerantly.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours.

use std::borrow::Cow;

/// The content of a part, decoded (RFC 9051, 6.4.5: BINARY). None: an encoding that nobody
/// knows.
pub fn decode<'a>(body: &'a [u8], encoding: Option<&str>) -> Option<Cow<'a, [u8]>> {
    match encoding.unwrap_or("7bit") {
        "7bit" | "8bit" | "binary" => Some(Cow::Borrowed(body)),
        "base64" => {
            let mut out = Vec::with_capacity(body.len() / 4 * 3);
            Base64::default().feed(body, &mut out);
            Some(Cow::Owned(out))
        }
        "quoted-printable" => {
            let mut out = Vec::with_capacity(body.len());
            for line in body.split_inclusive(|b| *b == b'\n') {
                quoted_printable_line(line, &mut out);
            }
            Some(Cow::Owned(out))
        }
        _ => None,
    }
}

/// Bytes that are not of the alphabet are skipped (RFC 2045, 6.8); padding starts anew, so
/// that concatenated pieces come out whole.
#[derive(Default)]
pub(super) struct Base64 {
    bits: u32,
    count: u8,
}

impl Base64 {
    pub(super) fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) {
        for &b in data {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' => {
                    self.count = 0;
                    continue;
                }
                _ => continue,
            };
            self.bits = self.bits << 6 | u32::from(value);
            if self.count > 0 {
                // After the second, third and fourth digit another byte is complete.
                let shift = 6 - 2 * u32::from(self.count);
                out.push((self.bits >> shift) as u8);
            }
            self.count = (self.count + 1) % 4;
        }
    }
}

/// One line (with its line break) of quoted-printable; what is no escape stays as it is.
pub(super) fn quoted_printable_line(line: &[u8], out: &mut Vec<u8>) {
    let text = line.trim_ascii_end();
    let has_break = line.last() == Some(&b'\n');
    let (text, soft) = match text.strip_suffix(b"=") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        at += 1;
        match (b, text.get(at..at + 2).and_then(hex)) {
            (b'=', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            _ => out.push(b),
        }
    }
    if has_break && !soft {
        out.extend_from_slice(b"\r\n");
    }
}

/// Two hexadecimal digits.
pub(super) fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_knows() {
        for (body, encoding, expected) in [
            (&b"a=3D\r\n"[..], None, Some(&b"a=3D\r\n"[..])),
            (b"a\0\xff", Some("binary"), Some(b"a\0\xff")),
            (b"aGk=\r\nAP8\r\n", Some("base64"), Some(b"hi\0\xff")),
            (b"", Some("base64"), Some(b"")),
            (
                b"a=3Db =\r\nc  \r\n=00=FF",
                Some("quoted-printable"),
                Some(b"a=b c\r\n\0\xff"),
            ),
            (b"x", Some("x-uuencode"), None),
        ] {
            assert_eq!(decode(body, encoding).as_deref(), expected, "{encoding:?}");
        }
    }
}
