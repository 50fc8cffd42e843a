//! SEARCH, SORT and THREAD.

use imap_codec::imap_types::core::{AString, Charset};
use imap_codec::imap_types::datetime::NaiveDate;
use imap_codec::imap_types::extensions::sort::SortKey as TheirSortKey;
use imap_codec::imap_types::search::SearchKey as TheirKey;
use posthorn::imap::command::*;
use posthorn::types::{Flag, SystemFlags};

use super::{TOO_MANY, Translated, keyword, number64, set, text};

pub fn charset_name(charset: &Charset) -> String {
    match charset {
        Charset::Atom(atom) => atom.inner().to_ascii_uppercase(),
        Charset::Quoted(quoted) => quoted.inner().to_ascii_uppercase(),
    }
}

pub fn search(
    uid: bool,
    charset: Option<String>,
    keys: &[TheirKey],
    sort: Option<Vec<SortCriterion>>,
) -> Translated<Command> {
    if !matches!(
        charset.as_deref(),
        None | Some("UTF-8" | "UTF8" | "US-ASCII")
    ) {
        return Ok(Command::SearchInCharset {
            selected: true,
            save: false,
            sorts: sort.is_some(),
        });
    }
    let mut left = 1000;
    let mut all = Vec::new();
    for theirs in keys {
        all.push(key(theirs, &mut left)?);
    }
    let key = match all.len() {
        1 => all.remove(0),
        _ => SearchKey::And(all),
    };
    Ok(Command::Search(Search {
        uid,
        returns: None,
        update: Vec::new(),
        charset,
        key,
        sort,
    }))
}

fn key(theirs: &TheirKey, left: &mut usize) -> Translated<SearchKey> {
    *left = left.checked_sub(1).ok_or(TOO_MANY)?;
    let string = |string: &AString| text(string.as_ref());
    let has = |flag| SearchKey::Flag(Flag::System(flag));
    let not = |key| SearchKey::Not(Box::new(key));
    let day = |date: &NaiveDate| {
        let midnight = date.as_ref().and_hms_opt(0, 0, 0).unwrap();
        i32::try_from(midnight.and_utc().timestamp().div_euclid(86_400)).unwrap()
    };
    Ok(match theirs {
        TheirKey::And(keys) => SearchKey::And(
            keys.as_ref()
                .iter()
                .map(|inner| key(inner, left))
                .collect::<Translated<_>>()?,
        ),
        TheirKey::SequenceSet(theirs) => SearchKey::Set(set(theirs)),
        TheirKey::All => SearchKey::All,
        TheirKey::Answered => has(SystemFlags::ANSWERED),
        TheirKey::Bcc(text) => SearchKey::Bcc(string(text)?),
        TheirKey::Before(date) => SearchKey::Before(day(date)),
        TheirKey::Body(text) => SearchKey::Body(string(text)?),
        TheirKey::Cc(text) => SearchKey::Cc(string(text)?),
        TheirKey::Deleted => has(SystemFlags::DELETED),
        TheirKey::Draft => has(SystemFlags::DRAFT),
        TheirKey::Flagged => has(SystemFlags::FLAGGED),
        TheirKey::From(text) => SearchKey::From(string(text)?),
        TheirKey::Header(field, text) => SearchKey::Header(string(field)?, string(text)?),
        TheirKey::Keyword(name) => SearchKey::Flag(keyword(name.inner())?),
        TheirKey::Larger(size) => SearchKey::Larger(u64::from(*size)),
        TheirKey::New => SearchKey::New,
        TheirKey::Not(inner) => not(key(inner, left)?),
        TheirKey::Old => SearchKey::Old,
        TheirKey::Older(seconds) => SearchKey::Older(seconds.get()),
        TheirKey::On(date) => SearchKey::On(day(date)),
        TheirKey::Or(a, b) => SearchKey::Or(Box::new(key(a, left)?), Box::new(key(b, left)?)),
        TheirKey::Recent => SearchKey::Recent,
        TheirKey::Seen => has(SystemFlags::SEEN),
        TheirKey::SentBefore(date) => SearchKey::SentBefore(day(date)),
        TheirKey::SentOn(date) => SearchKey::SentOn(day(date)),
        TheirKey::SentSince(date) => SearchKey::SentSince(day(date)),
        TheirKey::Since(date) => SearchKey::Since(day(date)),
        TheirKey::Smaller(size) => SearchKey::Smaller(u64::from(*size)),
        TheirKey::Subject(text) => SearchKey::Subject(string(text)?),
        TheirKey::Text(text) => SearchKey::Text(string(text)?),
        TheirKey::To(text) => SearchKey::To(string(text)?),
        TheirKey::Uid(theirs) => SearchKey::Uid(set(theirs)),
        TheirKey::Unanswered => not(has(SystemFlags::ANSWERED)),
        TheirKey::Undeleted => not(has(SystemFlags::DELETED)),
        TheirKey::Undraft => not(has(SystemFlags::DRAFT)),
        TheirKey::Unflagged => not(has(SystemFlags::FLAGGED)),
        TheirKey::Unkeyword(name) => not(SearchKey::Flag(keyword(name.inner())?)),
        TheirKey::Unseen => not(has(SystemFlags::SEEN)),
        TheirKey::Younger(seconds) => SearchKey::Younger(seconds.get()),
        TheirKey::ModSequence { modseq, .. } => SearchKey::ModSeq(number64(*modseq)?),
    })
}

pub fn sort_key(key: &TheirSortKey) -> SortKey {
    match key {
        TheirSortKey::Arrival => SortKey::Arrival,
        TheirSortKey::Cc => SortKey::Cc,
        TheirSortKey::Date => SortKey::Date,
        TheirSortKey::From => SortKey::From,
        TheirSortKey::Size => SortKey::Size,
        TheirSortKey::Subject => SortKey::Subject,
        TheirSortKey::To => SortKey::To,
        TheirSortKey::DisplayFrom => SortKey::DisplayFrom,
        TheirSortKey::DisplayTo => SortKey::DisplayTo,
    }
}
