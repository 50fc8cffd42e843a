//! Content transfer encodings (RFC 2045, 6), decoded in a stream and tolerantly.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours.

/// Lines of quoted-printable that are longer are cut: they are none.
const MAX_LINE: usize = 64 * 1024;

/// Undoes a transfer encoding, piece by piece.
#[derive(Clone)]
pub struct Decoder(Encoding);

#[derive(Clone)]
enum Encoding {
    Identity,
    Base64(Base64),
    /// The line that has begun.
    QuotedPrintable(Vec<u8>),
}

impl Decoder {
    /// For a Content-Transfer-Encoding in lower case. None: an encoding that nobody knows.
    pub fn new(encoding: Option<&str>) -> Option<Self> {
        Some(Self(match encoding.unwrap_or("7bit") {
            "7bit" | "8bit" | "binary" => Encoding::Identity,
            "base64" => Encoding::Base64(Base64::default()),
            "quoted-printable" => Encoding::QuotedPrintable(Vec::new()),
            _ => return None,
        }))
    }

    /// True where the content is what it looks like.
    pub fn is_identity(&self) -> bool {
        matches!(self.0, Encoding::Identity)
    }

    /// Decodes what `data` completes.
    pub fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            Encoding::Identity => out.extend_from_slice(data),
            Encoding::Base64(base64) => base64.feed(data, out),
            Encoding::QuotedPrintable(line) => {
                for piece in data.split_inclusive(|b| *b == b'\n') {
                    line.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        quoted_printable_line(line, out);
                        line.clear();
                    } else if line.len() > MAX_LINE {
                        let rest = line.split_off(cut(line));
                        quoted_printable_line(line, out);
                        *line = rest;
                    }
                }
            }
        }
    }

    /// How many of the last bytes must come again for the decoder that is the second to go on.
    pub fn resume(&self) -> (usize, Self) {
        match &self.0 {
            Encoding::QuotedPrintable(line) => {
                let fresh = Encoding::QuotedPrintable(Vec::new());
                (line.len(), Self(fresh))
            }
            _ => (0, self.clone()),
        }
    }

    /// No more comes.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Encoding::QuotedPrintable(line) = &mut self.0 {
            quoted_printable_line(&std::mem::take(line), out);
        }
    }
}

/// Where a line can be cut: not in an escape, not before blanks that may have to go.
fn cut(line: &[u8]) -> usize {
    let fine = |at: &usize| {
        let before = &line[at.saturating_sub(3)..*at];
        !before.contains(&b'=') && !before.last().is_some_and(u8::is_ascii_whitespace)
    };
    let from = line.len() - line.len().min(1000);
    (from..=line.len())
        .rev()
        .find(fine)
        .unwrap_or(line.len())
        .max(1)
}

/// Bytes that are not of the alphabet are skipped (RFC 2045, 6.8); padding starts anew, so
/// that concatenated pieces come out whole.
#[derive(Clone, Default)]
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
fn quoted_printable_line(line: &[u8], out: &mut Vec<u8>) {
    let text = line.trim_ascii_end();
    let has_break = line.last() == Some(&b'\n');
    let (text, soft) = match text.strip_suffix(b"=") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| *b == b'=') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = match escape.get(1..3).and_then(hex) {
            Some(byte) => {
                out.push(byte);
                &escape[3..]
            }
            None => {
                out.push(b'=');
                &escape[1..]
            }
        };
    }
    out.extend_from_slice(rest);
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

    use proptest::prelude::*;

    fn decode(body: &[u8], encoding: Option<&str>, piece: usize) -> Option<Vec<u8>> {
        let mut decoder = Decoder::new(encoding)?;
        let mut out = Vec::new();
        body.chunks(piece).for_each(|p| decoder.feed(p, &mut out));
        decoder.finish(&mut out);
        Some(out)
    }

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
            assert_eq!(
                decode(body, encoding, 1000).as_deref(),
                expected,
                "{encoding:?}"
            );
        }
        let long = "=41b ".repeat(40_000);
        let decoded = "Ab ".repeat(40_000);
        let out = decode(long.as_bytes(), Some("quoted-printable"), 5000);
        assert_eq!(out.as_deref(), Some(decoded.trim_end().as_bytes()));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            body in proptest::collection::vec(
                prop::sample::select(b"=4aF \r\n\t.".to_vec()), 0..200),
            piece in 1..50usize,
            base64: bool,
        ) {
            let encoding = Some(if base64 { "base64" } else { "quoted-printable" });
            prop_assert_eq!(decode(&body, encoding, piece), decode(&body, encoding, 1000));
        }
    }
}
