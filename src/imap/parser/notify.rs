//! NOTIFY (RFC 5465, 8).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use super::fetch;
use crate::imap::command::MailboxName;
use crate::imap::notify::{Event, Filter, Group, Notify};

pub(super) fn notify(c: &mut Cursor<'_>) -> Parsed<Notify> {
    if c.eat_word("NONE") {
        return Ok(Notify::None);
    }
    if !c.eat_word("SET") {
        return bad("NOTIFY knows SET and NONE");
    }
    c.space()?;
    let status = c.eat_word("STATUS");
    if status {
        c.space()?;
    }
    let mut groups = vec![group(c)?];
    while c.eat(b' ') {
        groups.push(group(c)?);
    }
    Ok(Notify::Set { status, groups })
}

fn group(c: &mut Cursor<'_>) -> Parsed<Group> {
    c.expect(b'(')?;
    let filter = match c.atom()?.to_ascii_uppercase().as_str() {
        "SELECTED" => Filter::Selected { delayed: false },
        "SELECTED-DELAYED" => Filter::Selected { delayed: true },
        "INBOXES" => Filter::Inboxes,
        "PERSONAL" => Filter::Personal,
        "SUBSCRIBED" => Filter::Subscribed,
        "SUBTREE" => Filter::Subtree(mailboxes(c)?),
        "MAILBOXES" => Filter::Mailboxes(mailboxes(c)?),
        _ => return bad("Unknown kind of mailboxes"),
    };
    c.space()?;
    let events = if c.eat_word("NONE") {
        Vec::new()
    } else {
        events(c)?
    };
    c.expect(b')')?;
    Ok(Group { filter, events })
}

fn mailboxes(c: &mut Cursor<'_>) -> Parsed<Vec<MailboxName>> {
    c.space()?;
    if c.peek() != Some(b'(') {
        return Ok(vec![c.mailbox()?]);
    }
    let names = c.list(Cursor::mailbox)?;
    if names.is_empty() {
        return bad("A mailbox name is missing");
    }
    Ok(names)
}

fn events(c: &mut Cursor<'_>) -> Parsed<Vec<Event>> {
    let mut events = Vec::new();
    c.expect(b'(')?;
    loop {
        let name = c.atom()?;
        let known = name.to_ascii_uppercase();
        events.push(match known.as_str() {
            "MESSAGENEW" => {
                let mut items = Vec::new();
                if c.peek() == Some(b' ') && c.peek_second() == Some(b'(') {
                    c.space()?;
                    items = fetch::items(c)?;
                }
                Event::MessageNew(items)
            }
            "MESSAGEEXPUNGE" => Event::MessageExpunge,
            "FLAGCHANGE" => Event::FlagChange,
            "MAILBOXNAME" => Event::MailboxName,
            "SUBSCRIPTIONCHANGE" => Event::SubscriptionChange,
            "MAILBOXMETADATACHANGE" => Event::MailboxMetadataChange,
            "SERVERMETADATACHANGE" => Event::ServerMetadataChange,
            _ => Event::Other(name.to_owned()),
        });
        if c.eat(b')') {
            return Ok(events);
        }
        c.space()?;
    }
}
