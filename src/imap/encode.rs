//! Pieces of answers (RFC 9051, 9).
//!
//! Machine: no IO, no clock, no randomness.

use super::command::{Section, SectionLabel, SectionText};
use crate::types::{MailboxKey, utf7};

/// A quoted string where the text allows it, else a literal.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |b: &u8| (b' '..=b'~').contains(b);
    if text.len() <= 1000 && text.iter().all(plain) {
        out.push(b'"');
        for b in text {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*b);
        }
        out.push(b'"');
    } else {
        literal(out, text);
    }
}

pub fn literal(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
    out.extend_from_slice(text);
}

/// An atom where the text is one, else as [`string`] has it.
pub fn astring(out: &mut Vec<u8>, text: &[u8]) {
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"-_./@+".contains(&b);
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"NIL") && text.iter().all(|b| atom(*b)) {
        out.extend_from_slice(text);
    } else {
        string(out, text);
    }
}

/// A string of any bytes: literal8 where there is NUL in it (RFC 9051, 9).
pub fn string8(out: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&0) {
        out.push(b'~');
        literal(out, text);
    } else {
        string(out, text);
    }
}

/// A mailbox name: UTF-8 in quotes where the client said that it speaks IMAP4rev2, else
/// modified UTF-7.
pub fn mailbox(out: &mut Vec<u8>, name: &str, utf8: bool) {
    let wire = if utf8 {
        name.to_owned()
    } else {
        utf7::encode(name)
    };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let nil = wire.eq_ignore_ascii_case("NIL");
    if !wire.is_empty() && !nil && wire.bytes().all(atom) {
        out.extend_from_slice(wire.as_bytes());
        return;
    }
    out.push(b'"');
    for c in wire.chars() {
        if matches!(c, '"' | '\\') {
            out.push(b'\\');
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.push(b'"');
}

/// What names a mailbox whatever it is called (RFC 8474, 4): numbers of accounts and mailboxes are
/// never given twice.
pub fn mailbox_id(key: MailboxKey) -> String {
    format!("F{:x}-{:x}", key.account.0, key.mailbox.0)
}

/// `"17-Jul-1996 02:44:25 -0700"`.
pub fn internal_date(out: &mut Vec<u8>, millis: i64, zone_minutes: i16) {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let offset = jiff::tz::Offset::from_seconds(i32::from(zone_minutes) * 60)
        .unwrap_or(jiff::tz::Offset::UTC);
    let local = offset.to_datetime(time);
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = months[usize::try_from(local.month() - 1).unwrap_or(0) % 12];
    let (sign, zone) = if zone_minutes < 0 {
        ('-', -zone_minutes)
    } else {
        ('+', zone_minutes)
    };
    out.extend_from_slice(
        format!(
            "\"{:2}-{month}-{:04} {:02}:{:02}:{:02} {sign}{:02}{:02}\"",
            local.day(),
            local.year(),
            local.hour(),
            local.minute(),
            local.second(),
            zone / 60,
            zone % 60
        )
        .as_bytes(),
    );
}

/// `BINARY[1.2]<0>`, `BINARY.SIZE[1.2]`.
pub fn binary_label(out: &mut Vec<u8>, name: &str, part: &[u32], partial: Option<(u64, u64)>) {
    let part: Vec<String> = part.iter().map(u32::to_string).collect();
    out.extend_from_slice(format!("{name}[{}]", part.join(".")).as_bytes());
    if let Some((from, _)) = partial {
        out.extend_from_slice(format!("<{from}>").as_bytes());
    }
}

/// `BODY[1.HEADER.FIELDS (A "B c")]<0>`.
pub fn section_label(out: &mut Vec<u8>, section: &Section) {
    let fixed: &[u8] = match section.label {
        SectionLabel::Body => b"BODY[",
        SectionLabel::Rfc822 => return out.extend_from_slice(b"RFC822"),
        SectionLabel::Rfc822Header => return out.extend_from_slice(b"RFC822.HEADER"),
        SectionLabel::Rfc822Text => return out.extend_from_slice(b"RFC822.TEXT"),
    };
    out.extend_from_slice(fixed);
    let part: Vec<String> = section.part.iter().map(u32::to_string).collect();
    out.extend_from_slice(part.join(".").as_bytes());
    let (name, fields) = match &section.text {
        SectionText::Whole => ("", None),
        SectionText::Header => ("HEADER", None),
        SectionText::Text => ("TEXT", None),
        SectionText::Mime => ("MIME", None),
        SectionText::HeaderFields(fields) => ("HEADER.FIELDS", Some(fields)),
        SectionText::HeaderFieldsNot(fields) => ("HEADER.FIELDS.NOT", Some(fields)),
    };
    if !part.is_empty() && !name.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(name.as_bytes());
    if let Some(fields) = fields {
        out.extend_from_slice(b" (");
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                out.push(b' ');
            }
            if field
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !field.is_empty()
            {
                out.extend_from_slice(field.as_bytes());
            } else {
                string(out, field.as_bytes());
            }
        }
        out.push(b')');
    }
    out.push(b']');
    if let Some((from, _)) = section.partial {
        out.extend_from_slice(format!("<{from}>").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn pieces() {
        assert_eq!(text(|o| string(o, b"a\"b\\")), "\"a\\\"b\\\\\"");
        assert_eq!(text(|o| string(o, "ü".as_bytes())), "{2}\r\nü");
        assert_eq!(text(|o| mailbox(o, "INBOX", false)), "INBOX");
        assert_eq!(text(|o| mailbox(o, "Entwürfe", false)), "\"Entw&APw-rfe\"");
        assert_eq!(text(|o| mailbox(o, "Entwürfe", true)), "\"Entwürfe\"");
        assert_eq!(text(|o| mailbox(o, "", true)), "\"\"");
        assert_eq!(
            text(|o| internal_date(o, 837_596_665_000, -420)),
            "\"17-Jul-1996 02:44:25 -0700\""
        );
        assert_eq!(
            text(|o| internal_date(o, 0, 0)),
            "\" 1-Jan-1970 00:00:00 +0000\""
        );
        let section = Section {
            part: vec![1, 2],
            text: SectionText::HeaderFields(vec!["From".into(), "x y".into()]),
            partial: Some((5, 9)),
            peek: true,
            label: SectionLabel::Body,
        };
        assert_eq!(
            text(|o| section_label(o, &section)),
            "BODY[1.2.HEADER.FIELDS (From \"x y\")]<5>"
        );
    }
}
