//! GENURLAUTH, RESETKEY, URLFETCH (RFC 4467, 7 and 10).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed};

/// `1*(SP url-rump SP mechanism)`; the first blank was read.
pub(super) fn rumps(c: &mut Cursor<'_>) -> Parsed<Vec<(String, String)>> {
    let mut all = Vec::new();
    loop {
        let rump = c.astring_text()?;
        c.space()?;
        all.push((rump, c.atom()?.to_ascii_uppercase()));
        if !c.eat(b' ') {
            return Ok(all);
        }
    }
}

/// `mailbox *(SP mechanism)`: there is one mechanism, so which are named is of no meaning.
pub(super) fn reset(c: &mut Cursor<'_>) -> Parsed<String> {
    let mailbox = c.mailbox()?;
    while c.eat(b' ') {
        c.atom()?;
    }
    Ok(mailbox)
}

/// `1*(SP url-full)`; the first blank was read.
pub(super) fn urls(c: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    let mut all = vec![c.astring_text()?];
    while c.eat(b' ') {
        all.push(c.astring_text()?);
    }
    Ok(all)
}
