//! GETMETADATA and SETMETADATA (RFC 5464, 5).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use crate::imap::command::{Command, Depth, GetMetadata};

/// The command of this name, if it is one of these.
pub(super) fn command(c: &mut Cursor<'_>, name: &str) -> Parsed<Option<Command>> {
    Ok(Some(match name {
        "GETMETADATA" => {
            c.space()?;
            Command::GetMetadata(get(c)?)
        }
        "SETMETADATA" => {
            c.space()?;
            let mailbox = c.mailbox()?;
            c.space()?;
            let values = c.list(|c| {
                let entry = entry(c)?;
                c.space()?;
                Ok((entry, c.nstring8()?))
            })?;
            if values.is_empty() {
                return bad("SETMETADATA needs an entry");
            }
            Command::SetMetadata { mailbox, values }
        }
        _ => return Ok(None),
    }))
}

/// The options stand before the mailbox in the grammar and behind it in the examples: both are
/// taken.
fn get(c: &mut Cursor<'_>) -> Parsed<GetMetadata> {
    let mut get = GetMetadata::default();
    let mut told = false;
    if c.peek() == Some(b'(') {
        options(c, &mut get)?;
        c.space()?;
        told = true;
    }
    get.mailbox = c.mailbox()?;
    c.space()?;
    // An entry begins with a slash, an option does not.
    if !told && c.peek() == Some(b'(') && (c.follows(b"(MAXSIZE ") || c.follows(b"(DEPTH ")) {
        options(c, &mut get)?;
        c.space()?;
    }
    if c.peek() == Some(b'(') {
        get.entries = c.list(entry)?;
        if get.entries.is_empty() {
            return bad("GETMETADATA needs an entry");
        }
    } else {
        get.entries = vec![entry(c)?];
        // As the examples of 4.4.1 have it.
        while c.eat(b' ') {
            get.entries.push(entry(c)?);
        }
    }
    Ok(get)
}

fn options(c: &mut Cursor<'_>, get: &mut GetMetadata) -> Parsed<()> {
    let options = c.list(|c| {
        let name = c.atom()?.to_ascii_uppercase();
        c.space()?;
        match name.as_str() {
            "MAXSIZE" => get.max_size = Some(c.number32()?.into()),
            "DEPTH" => {
                get.depth = match c.atom()?.to_ascii_lowercase().as_str() {
                    "0" => Depth::Zero,
                    "1" => Depth::One,
                    "infinity" => Depth::Infinity,
                    _ => return bad("DEPTH is 0, 1 or infinity"),
                }
            }
            _ => return bad(format!("Unknown option {name}")),
        }
        Ok(())
    })?;
    match options.is_empty() {
        true => bad("An option is missing"),
        false => Ok(()),
    }
}

/// Longest name of an entry.
const MAX_ENTRY: usize = 512;

/// RFC 5464, 3.2: what an entry may be called.
pub(super) fn entry(c: &mut Cursor<'_>) -> Parsed<String> {
    let name = c.astring_text()?;
    let bad_char = |b: u8| !(0x20..0x7f).contains(&b) || matches!(b, b'*' | b'%');
    let lower = name.to_ascii_lowercase();
    let scope = ["/shared", "/private"]
        .iter()
        .find_map(|scope| lower.strip_prefix(scope));
    if name.len() > MAX_ENTRY || name.bytes().any(bad_char) {
        return bad("An entry's name is ASCII without % and *, and not too long");
    }
    match scope {
        Some("") => Ok(name),
        Some(rest) if rest.starts_with('/') => match rest[1..].split('/').any(str::is_empty) {
            true => bad("An entry's name has an empty part"),
            false => Ok(name),
        },
        _ => bad("An entry's name begins with /shared/ or /private/"),
    }
}
