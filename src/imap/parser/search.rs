//! SEARCH, SORT and THREAD, their keys (RFC 9051, 6.4.4; RFC 3501, 6.4.4; RFC 5032; RFC 4731;
//! RFC 5256; RFC 5267; RFC 9394) and dates.
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use super::{flag, modseq, sequence_set};
use crate::imap::command::{
    Command, FetchItem, PartialRange, Search, SearchKey, SearchReturn, SearchSource, SeqNumber,
    SequenceSet, SortCriterion, SortKey, ThreadAlgorithm,
};
use crate::types::{Flag, SystemFlags};

/// Keys in one search, however nested.
const MAX_KEYS: usize = 1000;
/// Criteria of one sort: more say nothing new.
const MAX_CRITERIA: usize = 16;

pub(super) fn search(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    let (returns, update) = returns(c)?;
    let mut charset = None;
    if c.eat_word("CHARSET") {
        c.space()?;
        charset = Some(c.astring_text()?.to_ascii_uppercase());
        if !is_known(charset.as_deref()) {
            return Ok(unknown_charset(c, returns.as_deref(), false));
        }
        c.space()?;
    }
    checked(Search {
        uid,
        returns,
        update,
        charset,
        key: keys(c)?,
        sort: None,
    })
}

/// RFC 7377, 4.
pub(super) fn multi_search(c: &mut Cursor<'_>) -> Parsed<Command> {
    let mut sources = Vec::new();
    if c.eat_word("IN") {
        c.space()?;
        sources = c.list(source)?;
        if sources.is_empty() {
            return bad("IN takes mailboxes");
        }
        c.space()?;
    }
    let only_selected = sources.iter().all(|s| *s == SearchSource::Selected);
    let command = search(c, true)?;
    let saves = match &command {
        Command::Search(search) => search.saves(),
        Command::SearchInCharset { save, .. } => *save,
        _ => false,
    };
    if saves && !only_selected {
        return bad("SAVE is for the selected mailbox alone");
    }
    Ok(match command {
        Command::Search(search) => Command::MultiSearch { sources, search },
        Command::SearchInCharset { save, .. } => Command::SearchInCharset {
            selected: sources.is_empty() || sources.contains(&SearchSource::Selected),
            save,
            sorts: false,
        },
        other => other,
    })
}

fn source(c: &mut Cursor<'_>) -> Parsed<SearchSource> {
    let name = c.atom()?.to_ascii_uppercase();
    let names = |c: &mut Cursor<'_>| {
        c.space()?;
        if c.peek() != Some(b'(') {
            return Ok(vec![c.mailbox()?]);
        }
        let names = c.list(Cursor::mailbox)?;
        if names.is_empty() {
            return bad("A mailbox name is missing");
        }
        Ok(names)
    };
    Ok(match name.as_str() {
        "SELECTED" => SearchSource::Selected,
        "INBOXES" => SearchSource::Inboxes,
        "PERSONAL" => SearchSource::Personal,
        "SUBSCRIBED" => SearchSource::Subscribed,
        "SUBTREE" => SearchSource::Subtree(names(c)?),
        "SUBTREE-ONE" => SearchSource::SubtreeOne(names(c)?),
        "MAILBOXES" => SearchSource::Mailboxes(names(c)?),
        // RFC 7377, 2.2: also selected-delayed.
        _ => return bad(format!("Unknown source {name}")),
    })
}

/// RFC 5267, 5.
pub(super) fn cancel_update(c: &mut Cursor<'_>) -> Parsed<Command> {
    let tag = |c: &mut Cursor<'_>| {
        let tag = c.string()?;
        c.text(tag)
    };
    let mut tags = vec![tag(c)?];
    while c.eat(b' ') {
        tags.push(tag(c)?);
    }
    Ok(Command::CancelUpdate(tags))
}

/// `UIDBATCHES size [first:last]`.
pub(super) fn uid_batches(c: &mut Cursor<'_>) -> Parsed<Command> {
    let number = |c: &mut Cursor<'_>| match c.number32()? {
        0 => bad("0 is no batch"),
        n => Ok(n),
    };
    let size = number(c)?;
    let mut range = None;
    if c.eat(b' ') {
        let first = number(c)?;
        c.expect(b':')?;
        range = Some((first, number(c)?));
    }
    Ok(Command::UidBatches { size, range })
}

/// RFC 6203, 4 and 6: scores are of what was found roughly.
fn checked(search: Search) -> Parsed<Command> {
    let fuzzy = |key: &SearchKey| matches!(key, SearchKey::Fuzzy(_));
    if search.is_scored() && !search.key.has(&fuzzy) {
        return bad("RELEVANCY needs FUZZY");
    }
    Ok(Command::Search(search))
}

/// RFC 5256, 5; RFC 5267, 5.
pub(super) fn sort(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    let (returns, update) = returns(c)?;
    let criteria = c.list(|c| {
        let reverse = c.eat_word("REVERSE");
        if reverse {
            c.space()?;
        }
        let name = c.atom()?.to_ascii_uppercase();
        let key = match name.as_str() {
            "ARRIVAL" => SortKey::Arrival,
            "CC" => SortKey::Cc,
            "DATE" => SortKey::Date,
            "DISPLAYFROM" => SortKey::DisplayFrom,
            "DISPLAYTO" => SortKey::DisplayTo,
            "FROM" => SortKey::From,
            "RELEVANCY" => SortKey::Relevancy,
            "SIZE" => SortKey::Size,
            "SUBJECT" => SortKey::Subject,
            "TO" => SortKey::To,
            _ => return bad(format!("Unknown sort key {name}")),
        };
        Ok(SortCriterion { reverse, key })
    })?;
    if criteria.is_empty() || criteria.len() > MAX_CRITERIA {
        return bad(format!("SORT takes 1 to {MAX_CRITERIA} sort keys"));
    }
    c.space()?;
    let charset = Some(c.astring_text()?.to_ascii_uppercase());
    if c.at_end() {
        return bad("SORT takes a charset and search keys");
    }
    if !is_known(charset.as_deref()) {
        return Ok(unknown_charset(c, returns.as_deref(), true));
    }
    c.space()?;
    checked(Search {
        uid,
        returns,
        update,
        charset,
        key: keys(c)?,
        sort: Some(criteria),
    })
}

/// RFC 5256, 5.
pub(super) fn thread(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    let name = c.atom()?.to_ascii_uppercase();
    let algorithm = match name.as_str() {
        "ORDEREDSUBJECT" => ThreadAlgorithm::OrderedSubject,
        "REFERENCES" => ThreadAlgorithm::References,
        _ => return bad(format!("Unknown threading algorithm {name}")),
    };
    c.space()?;
    let charset = Some(c.astring_text()?.to_ascii_uppercase());
    if !is_known(charset.as_deref()) {
        return Ok(unknown_charset(c, None, true));
    }
    c.space()?;
    let search = Search {
        uid,
        returns: None,
        update: Vec::new(),
        charset,
        key: keys(c)?,
        sort: None,
    };
    Ok(Command::Thread { algorithm, search })
}

fn is_known(charset: Option<&str>) -> bool {
    matches!(charset, Some("UTF-8" | "US-ASCII" | "UTF8"))
}

/// What follows is in a charset that nobody knows.
fn unknown_charset(c: &mut Cursor<'_>, returns: Option<&[SearchReturn]>, sorts: bool) -> Command {
    c.rest();
    let save = returns.is_some_and(|returns| returns.contains(&SearchReturn::Save));
    Command::SearchInCharset {
        selected: true,
        save,
        sorts,
    }
}

/// What RETURN asks for, and what UPDATE is to tell of new messages.
type Returns = (Option<Vec<SearchReturn>>, Vec<FetchItem>);

/// RETURN (...) and a blank, where it is there.
fn returns(c: &mut Cursor<'_>) -> Parsed<Returns> {
    if !c.eat_word("RETURN") {
        return Ok((None, Vec::new()));
    }
    c.space()?;
    let mut update = Vec::new();
    let options = c.list(|c| {
        let name = c.atom()?.to_ascii_uppercase();
        Ok(match name.as_str() {
            "MIN" => SearchReturn::Min,
            "MAX" => SearchReturn::Max,
            "ALL" => SearchReturn::All,
            "COUNT" => SearchReturn::Count,
            "SAVE" => SearchReturn::Save,
            "CONTEXT" => SearchReturn::Context,
            "UPDATE" => {
                // RFC 5465, 7: its example has a blank, its grammar has none.
                if c.peek() == Some(b' ') && c.peek_second() == Some(b'(') {
                    c.space()?;
                }
                if c.peek() == Some(b'(') {
                    update.extend(super::fetch::items(c)?);
                }
                SearchReturn::Update
            }
            "RELEVANCY" => SearchReturn::Relevancy,
            "PARTIAL" => {
                c.space()?;
                SearchReturn::Partial(partial_range(c)?)
            }
            _ => return bad(format!("Unknown result option {name}")),
        })
    })?;
    c.space()?;
    // RFC 9394, 3.1
    let whole = |r: &&SearchReturn| matches!(r, SearchReturn::All | SearchReturn::Partial(_));
    if options.iter().filter(whole).count() > 1 && options.iter().any(is_partial) {
        return bad("Only one of PARTIAL and ALL can be returned");
    }
    Ok((Some(options), update))
}

fn is_partial(option: &SearchReturn) -> bool {
    matches!(option, SearchReturn::Partial(_))
}

/// RFC 9394, 4: `1:500` or `-1:-500`.
pub(super) fn partial_range(c: &mut Cursor<'_>) -> Parsed<PartialRange> {
    let number = |c: &mut Cursor<'_>, from_end: bool| {
        if from_end {
            c.expect(b'-')?;
        }
        match c.number32()? {
            0 => bad("0 is no place in a result"),
            n => Ok(n),
        }
    };
    let from_end = c.peek() == Some(b'-');
    let from = number(c, from_end)?;
    c.expect(b':')?;
    let to = number(c, from_end)?;
    Ok(PartialRange { from, to, from_end })
}

/// One or more.
fn keys(c: &mut Cursor<'_>) -> Parsed<SearchKey> {
    let mut left = MAX_KEYS;
    let mut keys = vec![key(c, &mut left)?];
    while c.eat(b' ') {
        keys.push(key(c, &mut left)?);
    }
    Ok(if keys.len() == 1 {
        keys.remove(0)
    } else {
        SearchKey::And(keys)
    })
}

fn key(c: &mut Cursor<'_>, left: &mut usize) -> Parsed<SearchKey> {
    if *left == 0 {
        return bad("Too many search keys");
    }
    *left -= 1;
    match c.peek() {
        Some(b'(') => {
            return c.nested(|c| {
                let keys = c.list(|c| key(c, left))?;
                if keys.is_empty() {
                    bad("Empty parentheses")
                } else {
                    Ok(SearchKey::And(keys))
                }
            });
        }
        Some(b'0'..=b'9' | b'*' | b'$') => return Ok(SearchKey::Set(sequence_set(c)?)),
        _ => {}
    }
    let name = c.atom()?.to_ascii_uppercase();
    let has = |flag| Ok(SearchKey::Flag(Flag::System(flag)));
    let not = |flag| {
        Ok(SearchKey::Not(Box::new(SearchKey::Flag(Flag::System(
            flag,
        )))))
    };
    match name.as_str() {
        "ALL" => return Ok(SearchKey::All),
        "ANSWERED" => return has(SystemFlags::ANSWERED),
        "DELETED" => return has(SystemFlags::DELETED),
        "DRAFT" => return has(SystemFlags::DRAFT),
        "FLAGGED" => return has(SystemFlags::FLAGGED),
        "SEEN" => return has(SystemFlags::SEEN),
        "UNANSWERED" => return not(SystemFlags::ANSWERED),
        "UNDELETED" => return not(SystemFlags::DELETED),
        "UNDRAFT" => return not(SystemFlags::DRAFT),
        "UNFLAGGED" => return not(SystemFlags::FLAGGED),
        "UNSEEN" => return not(SystemFlags::SEEN),
        "NEW" => return Ok(SearchKey::New),
        "OLD" => return Ok(SearchKey::Old),
        "RECENT" => return Ok(SearchKey::Recent),
        "SAVEDATESUPPORTED" => return Ok(SearchKey::SaveDateSupported),
        _ => {}
    }
    if !WITH_ARGUMENT.contains(&name.as_str()) {
        return bad(format!("Unknown search key {name}"));
    }
    c.space()?;
    Ok(match name.as_str() {
        "FUZZY" => SearchKey::Fuzzy(Box::new(c.nested_key(|c| key(c, left))?)),
        "NOT" => SearchKey::Not(Box::new(c.nested_key(|c| key(c, left))?)),
        "OR" => {
            let (a, b) = c.nested_key(|c| {
                let a = key(c, left)?;
                c.space()?;
                Ok((a, key(c, left)?))
            })?;
            SearchKey::Or(Box::new(a), Box::new(b))
        }
        "UID" => SearchKey::Uid(sequence_set(c)?),
        // RFC 9738, 3.2
        "UIDAFTER" => match one_uid(c)?.checked_add(1) {
            Some(from) => between(from, u32::MAX),
            None => SearchKey::Uid(SequenceSet::Ranges(vec![])),
        },
        "UIDBEFORE" => match one_uid(c)? {
            1 => SearchKey::Uid(SequenceSet::Ranges(vec![])),
            before => between(1, before - 1),
        },
        "KEYWORD" => SearchKey::Flag(keyword(c)?),
        "UNKEYWORD" => SearchKey::Not(Box::new(SearchKey::Flag(keyword(c)?))),
        "BEFORE" => SearchKey::Before(date(c)?),
        "ON" => SearchKey::On(date(c)?),
        "SINCE" => SearchKey::Since(date(c)?),
        "SENTBEFORE" => SearchKey::SentBefore(date(c)?),
        "SENTON" => SearchKey::SentOn(date(c)?),
        "SENTSINCE" => SearchKey::SentSince(date(c)?),
        "SAVEDBEFORE" => SearchKey::SavedBefore(date(c)?),
        "SAVEDON" => SearchKey::SavedOn(date(c)?),
        "SAVEDSINCE" => SearchKey::SavedSince(date(c)?),
        "EMAILID" => SearchKey::EmailId(c.astring_text()?),
        "THREADID" => SearchKey::ThreadId(c.astring_text()?),
        "LARGER" => SearchKey::Larger(c.number()?),
        "SMALLER" => SearchKey::Smaller(c.number()?),
        "OLDER" => SearchKey::Older(interval(c)?),
        "YOUNGER" => SearchKey::Younger(interval(c)?),
        "MODSEQ" => SearchKey::ModSeq(modseq::search_key(c)?),
        "FROM" => SearchKey::From(c.astring_text()?),
        "TO" => SearchKey::To(c.astring_text()?),
        "CC" => SearchKey::Cc(c.astring_text()?),
        "BCC" => SearchKey::Bcc(c.astring_text()?),
        "SUBJECT" => SearchKey::Subject(c.astring_text()?),
        "BODY" => SearchKey::Body(c.astring_text()?),
        "TEXT" => SearchKey::Text(c.astring_text()?),
        _ => {
            let field = c.astring_text()?;
            c.space()?;
            SearchKey::Header(field, c.astring_text()?)
        }
    })
}

const WITH_ARGUMENT: [&str; 32] = [
    "FUZZY",
    "NOT",
    "OR",
    "UID",
    "KEYWORD",
    "UNKEYWORD",
    "BEFORE",
    "ON",
    "SINCE",
    "SENTBEFORE",
    "SENTON",
    "SENTSINCE",
    "SAVEDBEFORE",
    "SAVEDON",
    "SAVEDSINCE",
    "EMAILID",
    "THREADID",
    "LARGER",
    "SMALLER",
    "OLDER",
    "YOUNGER",
    "FROM",
    "TO",
    "CC",
    "BCC",
    "SUBJECT",
    "BODY",
    "TEXT",
    "HEADER",
    "MODSEQ",
    "UIDAFTER",
    "UIDBEFORE",
];

fn one_uid(c: &mut Cursor<'_>) -> Parsed<u32> {
    match c.number32()? {
        0 => bad("0 is no UID"),
        n => Ok(n),
    }
}

fn between(from: u32, to: u32) -> SearchKey {
    let range = (SeqNumber::Number(from), SeqNumber::Number(to));
    SearchKey::Uid(SequenceSet::Ranges(vec![range]))
}

fn keyword(c: &mut Cursor<'_>) -> Parsed<Flag> {
    match flag(c)? {
        keyword @ Flag::Keyword(_) => Ok(keyword),
        Flag::System(_) => bad("A keyword was expected"),
    }
}

fn interval(c: &mut Cursor<'_>) -> Parsed<u32> {
    match c.number32()? {
        0 => bad("An interval of 0"),
        n => Ok(n),
    }
}

/// date = `1-Feb-1994`, quoted or not; days since 1970-01-01.
fn date(c: &mut Cursor<'_>) -> Parsed<i32> {
    if c.peek() == Some(b'{') {
        return bad("A date is never a literal");
    }
    let text = c.astring()?;
    match std::str::from_utf8(&text).ok().and_then(day) {
        Some(day) => Ok(day),
        None => bad("A date looks like 1-Feb-1994"),
    }
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];

fn digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let fine = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fine { text.parse().ok() } else { None }
}

fn day(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (d, m, y) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let month = MONTHS
        .iter()
        .position(|name| name.eq_ignore_ascii_case(m))?;
    let date = jiff::civil::Date::new(
        i16::try_from(digits(y, 4..=4)?).ok()?,
        i8::try_from(month + 1).ok()?,
        i8::try_from(digits(d, 1..=2)?).ok()?,
    );
    let epoch = jiff::civil::date(1970, 1, 1);
    let span = date.ok()?.since((jiff::Unit::Day, epoch)).ok()?;
    Some(span.get_days())
}

/// date-time = ` 1-Feb-1994 21:52:25 -0800`; milliseconds since 1970 and minutes east.
pub(super) fn date_time(text: &[u8]) -> Parsed<(i64, i16)> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    parse_date_time(text).map_or_else(
        || bad("A date looks like \" 1-Feb-1994 21:52:25 -0800\""),
        Ok,
    )
}

fn parse_date_time(text: &str) -> Option<(i64, i16)> {
    // date-day-fixed; one digit alone is taken too.
    let fixed = text.strip_prefix(' ');
    let mut parts = fixed.unwrap_or(text).split(' ');
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || fixed.is_some() && date.find('-') != Some(1) {
        return None;
    }
    let mut hms = time.split(':').map(|n| digits(n, 2..=2));
    let (h, m, s) = (hms.next()??, hms.next()??, hms.next()??);
    if hms.next().is_some() || h > 23 || m > 59 || s > 60 {
        return None;
    }
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let zone = digits(zone, 4..=4)?;
    if zone % 100 > 59 || zone / 100 > 23 {
        return None;
    }
    let minutes = sign * (zone / 100 * 60 + zone % 100);
    let seconds = i64::from(day(date)?) * 86_400 + h * 3600 + m * 60 + s.min(59) - minutes * 60;
    // Not what could not be written again.
    jiff::Timestamp::from_second(seconds).ok()?;
    Some((seconds * 1000, i16::try_from(minutes).ok()?))
}
