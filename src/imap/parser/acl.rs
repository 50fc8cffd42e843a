//! SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314, 7).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use crate::imap::command::{AclChange, Command};
use crate::types::Rights;

/// The command of this name, if it is one of these.
pub(super) fn command(c: &mut Cursor<'_>, name: &str) -> Parsed<Option<Command>> {
    if !["SETACL", "DELETEACL", "GETACL", "LISTRIGHTS", "MYRIGHTS"].contains(&name) {
        return Ok(None);
    }
    c.space()?;
    let mailbox = c.mailbox()?;
    Ok(Some(match name {
        "GETACL" => Command::GetAcl(mailbox),
        "MYRIGHTS" => Command::MyRights(mailbox),
        "LISTRIGHTS" => Command::ListRights {
            mailbox,
            identifier: identifier(c)?,
        },
        "DELETEACL" => Command::DeleteAcl {
            mailbox,
            identifier: identifier(c)?,
        },
        _ => {
            let identifier = identifier(c)?;
            c.space()?;
            let (change, rights) = rights(&c.astring()?)?;
            Command::SetAcl {
                mailbox,
                identifier,
                change,
                rights,
            }
        }
    }))
}

fn identifier(c: &mut Cursor<'_>) -> Parsed<String> {
    c.space()?;
    let identifier = c.astring_text()?;
    // RFC 4314, 3
    if identifier.is_empty() || identifier.chars().any(char::is_control) {
        return bad("The identifier is empty or has control characters");
    }
    Ok(identifier)
}

/// mod-rights
fn rights(text: &[u8]) -> Parsed<(AclChange, Rights)> {
    let (change, letters) = match text.split_first() {
        Some((b'+', letters)) => (AclChange::Add, letters),
        Some((b'-', letters)) => (AclChange::Remove, letters),
        _ => (AclChange::Replace, text),
    };
    match Rights::parse(letters) {
        Some(rights) => Ok((change, rights)),
        // RFC 4314, 3.1: never ignored.
        None => bad("One of these is no right: known are lrswipkxtea, c and d"),
    }
}
