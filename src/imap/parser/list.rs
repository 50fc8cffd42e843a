//! LIST with its extensions, and STATUS items (RFC 5258, 5819, 6154, 8438, 8440, 9208, 9590).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use super::metadata;
use crate::imap::command::{List, StatusItem};

pub(super) fn list(c: &mut Cursor<'_>) -> Parsed<List> {
    let mut list = List::default();
    if c.peek() == Some(b'(') {
        list.extended = true;
        let options = c.list(|c| Ok(c.atom()?.to_ascii_uppercase()))?;
        for option in options {
            match option.as_str() {
                "SUBSCRIBED" => list.select_subscribed = true,
                "REMOTE" => list.select_remote = true,
                "RECURSIVEMATCH" => list.select_recursive_match = true,
                "SPECIAL-USE" => list.select_special_use = true,
                _ => return bad(format!("Unknown selection option {option}")),
            }
        }
        // RFC 5258, 3.1: it only changes what another option means.
        if list.select_recursive_match && !list.select_subscribed {
            return bad("RECURSIVEMATCH needs SUBSCRIBED");
        }
        c.space()?;
    }
    list.reference = c.reference()?;
    c.space()?;
    if c.peek() == Some(b'(') {
        list.extended = true;
        list.patterns = c.list(Cursor::pattern)?;
        if list.patterns.is_empty() {
            // RFC 5258, 6
            return bad("LIST takes a pattern");
        }
    } else {
        list.patterns = vec![c.pattern()?];
    }
    if c.eat(b' ') {
        list.extended = true;
        if !c.eat_word("RETURN") {
            return bad("RETURN was expected");
        }
        c.space()?;
        let options = c.list(|c| {
            let name = c.atom()?.to_ascii_uppercase();
            match name.as_str() {
                "STATUS" => {
                    c.space()?;
                    list.return_status = Some(status_items(c)?);
                }
                "METADATA" => {
                    c.space()?;
                    list.return_metadata = c.list(metadata::entry)?;
                    if list.return_metadata.is_empty() {
                        return bad("METADATA needs an entry");
                    }
                }
                _ => {}
            }
            Ok(name)
        })?;
        for option in options {
            match option.as_str() {
                "SUBSCRIBED" => list.return_subscribed = true,
                "CHILDREN" => list.return_children = true,
                "SPECIAL-USE" => list.return_special_use = true,
                "STATUS" | "METADATA" => {}
                "MYRIGHTS" => list.return_rights = true,
                _ => return bad(format!("Unknown return option {option}")),
            }
        }
    }
    Ok(list)
}

pub(super) fn status_items(c: &mut Cursor<'_>) -> Parsed<Vec<StatusItem>> {
    let items = c.list(|c| {
        let name = c.atom()?.to_ascii_uppercase();
        Ok(match name.as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "DELETED" => StatusItem::Deleted,
            "DELETED-STORAGE" => StatusItem::DeletedStorage,
            "SIZE" => StatusItem::Size,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            "MAILBOXID" => StatusItem::MailboxId,
            _ => return bad(format!("Unknown status item {name}")),
        })
    })?;
    if items.is_empty() {
        bad("STATUS needs an item")
    } else {
        Ok(items)
    }
}
