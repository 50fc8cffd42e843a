//! Modified UTF-7 of mailbox names (RFC 3501, 5.1.3).
//!
//! Machine: no IO, no clock, no randomness.

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::sync::LazyLock;

/// Base64 with `,` for `/` and without padding. Stray bits at the end are not allowed.
static ENGINE: LazyLock<Option<GeneralPurpose>> = LazyLock::new(|| {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    Alphabet::new(letters)
        .ok()
        .map(|alphabet| GeneralPurpose::new(&alphabet, config))
});

/// None: malformed.
pub fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (plain, run) = rest.split_at(at);
        out.push_str(plain);
        let (run, after) = run[1..].split_once('-')?;
        if run.is_empty() {
            out.push('&');
        } else {
            let bytes = ENGINE.as_ref()?.decode(run).ok()?;
            if bytes.len() % 2 != 0 {
                return None;
            }
            let units = bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| u16::from_be_bytes(*b));
            for c in char::decode_utf16(units) {
                out.push(c.ok()?);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out.bytes().all(|b| b != 0).then_some(out)
}

pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut run: Vec<u8> = Vec::new();
    let flush = |run: &mut Vec<u8>, out: &mut String| {
        if let (false, Some(engine)) = (run.is_empty(), ENGINE.as_ref()) {
            out.push('&');
            out.push_str(&engine.encode(&run));
            out.push('-');
            run.clear();
        }
    };
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            flush(&mut run, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                run.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        for (wire, name) in [
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("R&-D", "R&D"),
            ("&2D3eAA-", "😀"),
            ("plain", "plain"),
        ] {
            assert_eq!(decode(wire).as_deref(), Some(name));
            assert_eq!(encode(name), wire);
        }
        for bad in ["&", "&AA-", "&!-", "a&b", "&2D0-"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trips(name in "[^\0]{0,40}") {
            proptest::prop_assert_eq!(decode(&encode(&name)), Some(name));
        }
    }
}
