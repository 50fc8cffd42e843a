//! FETCH items (RFC 9051, 6.4.5).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use crate::imap::command::{FetchItem, Section, SectionLabel, SectionText};

pub(super) fn items(c: &mut Cursor<'_>) -> Parsed<Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    if c.peek() == Some(b'(') {
        let items = c.list(item)?;
        return if items.is_empty() {
            bad("FETCH needs an item")
        } else {
            Ok(items)
        };
    }
    if c.eat_word("ALL") {
        return Ok(vec![Flags, InternalDate, Rfc822Size, Envelope]);
    }
    if c.eat_word("FAST") {
        return Ok(vec![Flags, InternalDate, Rfc822Size]);
    }
    if c.eat_word("FULL") {
        return Ok(vec![Flags, InternalDate, Rfc822Size, Envelope, Body]);
    }
    Ok(vec![item(c)?])
}

fn whole(text: SectionText, label: SectionLabel, peek: bool) -> FetchItem {
    FetchItem::Section(Section {
        part: vec![],
        text,
        partial: None,
        peek,
        label,
    })
}

fn item(c: &mut Cursor<'_>) -> Parsed<FetchItem> {
    let name = c
        .take_while(|b| b.is_ascii_alphanumeric() || b == b'.')
        .to_ascii_uppercase();
    Ok(match name.as_slice() {
        b"ENVELOPE" => FetchItem::Envelope,
        b"FLAGS" => FetchItem::Flags,
        b"INTERNALDATE" => FetchItem::InternalDate,
        b"RFC822.SIZE" => FetchItem::Rfc822Size,
        b"UID" => FetchItem::Uid,
        b"MODSEQ" => FetchItem::ModSeq,
        b"BODYSTRUCTURE" => FetchItem::BodyStructure,
        b"RFC822" => whole(SectionText::Whole, SectionLabel::Rfc822, false),
        b"RFC822.HEADER" => whole(SectionText::Header, SectionLabel::Rfc822Header, true),
        b"RFC822.TEXT" => whole(SectionText::Text, SectionLabel::Rfc822Text, false),
        b"BODY" if c.peek() == Some(b'[') => FetchItem::Section(section(c, false)?),
        b"BODY" => FetchItem::Body,
        b"BODY.PEEK" => FetchItem::Section(section(c, true)?),
        b"EMAILID" => FetchItem::EmailId,
        b"THREADID" => FetchItem::ThreadId,
        b"SAVEDATE" => FetchItem::SaveDate,
        b"PREVIEW" => FetchItem::Preview { lazy: lazy(c)? },
        b"BINARY" => binary(c, false)?,
        b"BINARY.PEEK" => binary(c, true)?,
        b"BINARY.SIZE" => {
            c.expect(b'[')?;
            let part = part_numbers(c)?;
            c.expect(b']')?;
            FetchItem::BinarySize(part)
        }
        _ => return bad("Unknown FETCH item"),
    })
}

/// `PREVIEW (LAZY)`; without the list, a blank belongs to the next item.
fn lazy(c: &mut Cursor<'_>) -> Parsed<bool> {
    if !c.comes(b" (") {
        return Ok(false);
    }
    c.space()?;
    let modifiers = c.list(|c| match c.eat_word("LAZY") {
        true => Ok(()),
        false => bad("PREVIEW knows only LAZY"),
    })?;
    match modifiers.is_empty() {
        true => bad("A modifier of PREVIEW is missing"),
        false => Ok(true),
    }
}

fn binary(c: &mut Cursor<'_>, peek: bool) -> Parsed<FetchItem> {
    c.expect(b'[')?;
    let part = part_numbers(c)?;
    c.expect(b']')?;
    Ok(FetchItem::Binary {
        part,
        partial: partial(c)?,
        peek,
    })
}

/// `1.2`, and the dot behind it where a word follows.
fn part_numbers(c: &mut Cursor<'_>) -> Parsed<Vec<u32>> {
    let mut part = Vec::new();
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        match c.number32()? {
            0 => return bad("Part numbers start at 1"),
            n => part.push(n),
        }
        if part.len() > 100 {
            return bad("Too many part numbers");
        }
        if !c.eat(b'.') {
            break;
        }
        if !c.peek().is_some_and(|b| b.is_ascii_alphanumeric()) {
            return bad("Something must follow the dot");
        }
    }
    Ok(part)
}

fn partial(c: &mut Cursor<'_>) -> Parsed<Option<(u64, u64)>> {
    if !c.eat(b'<') {
        return Ok(None);
    }
    let from = c.number()?;
    c.expect(b'.')?;
    let length = c.number()?;
    if length == 0 {
        return bad("A partial length of 0");
    }
    c.expect(b'>')?;
    Ok(Some((from, length)))
}

fn section(c: &mut Cursor<'_>, peek: bool) -> Parsed<Section> {
    c.expect(b'[')?;
    let part = part_numbers(c)?;
    let text = if c.peek() == Some(b']') {
        SectionText::Whole
    } else {
        if !part.is_empty() && !c.after(b'.') {
            return bad("A dot is missing behind the part number");
        }
        section_text(c, !part.is_empty())?
    };
    c.expect(b']')?;
    let partial = partial(c)?;
    Ok(Section {
        part,
        text,
        partial,
        peek,
        label: SectionLabel::Body,
    })
}

fn section_text(c: &mut Cursor<'_>, in_part: bool) -> Parsed<SectionText> {
    let name = c
        .take_while(|b| b.is_ascii_alphanumeric() || b == b'.')
        .to_ascii_uppercase();
    Ok(match name.as_slice() {
        b"HEADER" => SectionText::Header,
        b"TEXT" => SectionText::Text,
        b"MIME" if in_part => SectionText::Mime,
        b"HEADER.FIELDS" => SectionText::HeaderFields(field_names(c)?),
        b"HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(field_names(c)?),
        _ => return bad("Unknown section"),
    })
}

fn field_names(c: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    c.space()?;
    let names = c.list(Cursor::astring_text)?;
    match names.len() {
        0 => bad("Header names are missing"),
        1..=200 => Ok(names),
        _ => bad("Too many header names"),
    }
}
