//! STORE (RFC 9051, 6.4.6; RFC 7162, 3.1.3).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use super::{flag, modseq};
use crate::imap::command::{SequenceSet, StoreAction, StoreFlags};

pub(super) fn store(c: &mut Cursor<'_>, set: SequenceSet, uid: bool) -> Parsed<StoreFlags> {
    let mut unchanged_since = None;
    if c.peek() == Some(b'(') {
        unchanged_since = modseq::store_modifiers(c)?;
        c.space()?;
    }
    let action = match c.peek() {
        Some(b'+') => StoreAction::Add,
        Some(b'-') => StoreAction::Remove,
        _ => StoreAction::Replace,
    };
    let _ = c.eat(b'+') || c.eat(b'-');
    let item = c.atom()?.to_ascii_uppercase();
    let silent = match item.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return bad("STORE knows FLAGS, +FLAGS, -FLAGS and .SILENT"),
    };
    c.space()?;
    let flags = if c.peek() == Some(b'(') {
        c.list(flag)?
    } else {
        let mut flags = vec![flag(c)?];
        while c.eat(b' ') {
            flags.push(flag(c)?);
        }
        flags
    };
    Ok(StoreFlags {
        set,
        uid,
        action,
        silent,
        flags,
        unchanged_since,
    })
}
