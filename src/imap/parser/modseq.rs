//! Mod-sequences in commands (RFC 7162, 7; RFC 4466).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, atom_char, bad};
use super::sequence_set;
use crate::imap::command::{FetchModifiers, QResync, SelectParameter, SeqNumber, SequenceSet};
use crate::types::UidSet;

/// `mod-sequence-valzer`: below 2^63.
pub(super) fn modseq_or_zero(c: &mut Cursor<'_>) -> Parsed<u64> {
    c.number()
}

/// `mod-sequence-value`
fn modseq(c: &mut Cursor<'_>) -> Parsed<u64> {
    match c.number()? {
        0 => bad("0 is no mod-sequence"),
        n => Ok(n),
    }
}

/// Behind the items of FETCH, if anything is.
pub(super) fn fetch_modifiers(c: &mut Cursor<'_>, uid: bool) -> Parsed<FetchModifiers> {
    let mut modifiers = FetchModifiers::default();
    if !c.eat(b' ') {
        return Ok(modifiers);
    }
    let count = c
        .list(|c| {
            let name = c.atom()?.to_ascii_uppercase();
            match name.as_str() {
                "CHANGEDSINCE" if modifiers.changed_since.is_none() => {
                    c.space()?;
                    modifiers.changed_since = Some(modseq(c)?);
                }
                "VANISHED" if !modifiers.vanished => modifiers.vanished = true,
                // RFC 9394, 3.3
                "PARTIAL" if uid && modifiers.partial.is_none() => {
                    c.space()?;
                    modifiers.partial = Some(super::search::partial_range(c)?);
                }
                _ => return bad(format!("{name} is no modifier of FETCH, or there twice")),
            }
            Ok(())
        })?
        .len();
    if count == 0 {
        return bad("Empty parentheses");
    }
    // RFC 7162, 3.2.6
    if modifiers.vanished && !(uid && modifiers.changed_since.is_some()) {
        return bad("VANISHED needs UID FETCH and CHANGEDSINCE");
    }
    Ok(modifiers)
}

/// In front of the item of STORE. RFC 7162, 7: only one UNCHANGEDSINCE.
pub(super) fn store_modifiers(c: &mut Cursor<'_>) -> Parsed<Option<u64>> {
    let mut since = None;
    c.list(|c| {
        if !c.eat_word("UNCHANGEDSINCE") || since.is_some() {
            return bad("STORE knows the modifier UNCHANGEDSINCE, once");
        }
        c.space()?;
        since = Some(modseq_or_zero(c)?);
        Ok(())
    })?;
    match since {
        None => bad("Empty parentheses"),
        since => Ok(since),
    }
}

/// `MODSEQ ["/flags/name" priv|shared|all] n`: what follows the word. Flags have no
/// mod-sequences of their own here, so their names do not matter (RFC 7162, 3.1.5).
pub(super) fn search_key(c: &mut Cursor<'_>) -> Parsed<u64> {
    if c.peek() == Some(b'"') {
        if !is_flag_entry(&c.string()?) {
            return bad("An entry looks like \"/flags/\\\\draft\"");
        }
        c.space()?;
        let kind = c.atom()?.to_ascii_lowercase();
        if !["priv", "shared", "all"].contains(&kind.as_str()) {
            return bad("An entry is priv, shared or all");
        }
        c.space()?;
    }
    modseq_or_zero(c)
}

/// entry-flag-name, without its quotes.
fn is_flag_entry(entry: &[u8]) -> bool {
    let (head, flag) = entry.split_at(entry.len().min(b"/flags/".len()));
    let atom = flag.strip_prefix(b"\\").unwrap_or(flag);
    head.eq_ignore_ascii_case(b"/flags/") && !atom.is_empty() && atom.iter().all(|b| atom_char(*b))
}

pub(super) fn select_parameter(c: &mut Cursor<'_>) -> Parsed<SelectParameter> {
    let name = c.atom()?.to_ascii_uppercase();
    Ok(match name.as_str() {
        "CONDSTORE" => SelectParameter::CondStore,
        "QRESYNC" => {
            c.space()?;
            SelectParameter::QResync(qresync(c)?)
        }
        _ => SelectParameter::Other(name),
    })
}

/// RFC 7162, 7: `(uidvalidity modseq [known-uids] [(numbers uids)])`.
fn qresync(c: &mut Cursor<'_>) -> Parsed<QResync> {
    c.expect(b'(')?;
    let uid_validity = match c.number32()? {
        0 => return bad("0 is no UIDVALIDITY"),
        n => n,
    };
    c.space()?;
    let modseq = modseq(c)?;
    let (mut known, mut matching) = (None, None);
    if c.eat(b' ') {
        if c.peek() != Some(b'(') {
            known = Some(numbers(c)?);
        }
        if known.is_none() || c.eat(b' ') {
            c.expect(b'(')?;
            let sequence = rising(c)?;
            c.space()?;
            let uids = rising(c)?;
            c.expect(b')')?;
            if sequence.len() != uids.len() {
                return bad("As many UIDs as message numbers are needed");
            }
            matching = Some((sequence, uids));
        }
    }
    c.expect(b')')?;
    Ok(QResync {
        uid_validity,
        modseq,
        known,
        matching,
    })
}

fn numbers(c: &mut Cursor<'_>) -> Parsed<UidSet> {
    Ok(UidSet::from_ranges(ranges(c)?))
}

/// RFC 7162, 3.2.5.2: in ascending order.
fn rising(c: &mut Cursor<'_>) -> Parsed<UidSet> {
    let ranges = ranges(c)?;
    let mut last = 0;
    for (from, to) in &ranges {
        if *from <= last || to < from {
            return bad("These numbers must rise");
        }
        last = *to;
    }
    Ok(UidSet::from_ranges(ranges))
}

/// A set without `*` and `$`.
fn ranges(c: &mut Cursor<'_>) -> Parsed<Vec<(u32, u32)>> {
    let star = || bad("Only numbers are possible here");
    let SequenceSet::Ranges(ranges) = sequence_set(c)? else {
        return star();
    };
    let mut out = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (SeqNumber::Number(from), SeqNumber::Number(to)) = range else {
            return star();
        };
        out.push((from, to));
    }
    Ok(out)
}
