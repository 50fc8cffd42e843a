//! Texts in UTF-8 for clients that read ASCII only (RFC 6855, 7; RFC 6858).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of text in an encoded word: with them it has at most 75 characters (RFC 2047, 2).
const WORD: usize = 45;

/// What stands for an address that can't be written (RFC 6858, 2.1).
pub(super) const INVALID_LOCAL: &[u8] = b"invalid";
pub(super) const INVALID_DOMAIN: &[u8] = b"internationalized-address.invalid";

/// The text, where it is more than ASCII, and UTF-8.
pub(super) fn beyond_ascii(value: &[u8]) -> Option<&str> {
    match value.is_ascii() {
        true => None,
        false => std::str::from_utf8(value).ok(),
    }
}

/// As encoded words (RFC 2047). A character is never cut in two.
pub(super) fn encoded_words(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, tail) = rest.split_at(end);
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(b"=?utf-8?B?");
        out.extend_from_slice(STANDARD.encode(word).as_bytes());
        out.extend_from_slice(b"?=");
        rest = tail;
    }
    out
}

/// A parameter's value in the extended form (RFC 2231, 4), for a name with `*`.
pub(super) fn extended_value(text: &str) -> Vec<u8> {
    let mut out = b"utf-8''".to_vec();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b);
        } else {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
    out
}

/// A domain with its labels in ASCII.
pub(super) fn ascii_domain(domain: &str) -> Option<Vec<u8>> {
    let ascii = idna::domain_to_ascii(domain).ok()?;
    (!ascii.is_empty()).then(|| ascii.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::decode_words;

    #[test]
    fn words_come_back() {
        for text in [
            "ü",
            "日本語のとても長い件名です。これは七十五文字より長くなります",
            "a ü",
        ] {
            let words = encoded_words(text);
            assert!(words.is_ascii());
            assert!(words.split(|b| *b == b' ').all(|word| word.len() <= 75));
            assert_eq!(decode_words(&words), text);
        }
        assert_eq!(extended_value("Ü 1.txt"), b"utf-8''%C3%9C%201.txt");
        assert_eq!(
            ascii_domain("bücher.example").as_deref(),
            Some(&b"xn--bcher-kva.example"[..])
        );
    }
}
