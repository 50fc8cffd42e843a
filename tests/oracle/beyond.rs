//! What we take and the oracle does not, and why that is right.

use posthorn::imap::command::*;
use posthorn::imap::reading::Reading;

use super::{LITERAL, Written};

/// As deep as the oracle reads search keys.
const DEEPEST: usize = 9;
const SAVED: &str = "$ (RFC 5182, 2.1)";
const WIDE: &str = "a number of more than 32 bits (RFC 9051, 9: number64)";

/// None: there is none.
pub fn reason(ours: &Reading, written: &Written) -> Option<&'static str> {
    if written.bare_lf {
        return Some("a line that LF alone ends: typed by hand, and no line holds a LF otherwise");
    }
    if written.minus {
        return Some("{n-}: no RFC has it, but its bytes must never be read as commands");
    }
    match ours {
        Reading::Command(tagged) => in_command(&tagged.command, written),
        Reading::Append(pieces, message) => in_append(pieces, message, written),
        _ => None,
    }
}

fn in_append(pieces: &[AppendPiece], message: &[u8], written: &Written) -> Option<&'static str> {
    let replaces = |piece: &AppendPiece| {
        let begin = piece.begin.as_ref();
        begin.is_some_and(|begin| begin.replaces.is_some())
    };
    if pieces.iter().any(replaces) {
        return Some("REPLACE (RFC 8508, 3)");
    }
    let steps = || pieces.iter().flat_map(|piece| &piece.steps);
    let composed = |step: &AppendStep| match step {
        AppendStep::Message { catenated, .. } => *catenated,
        AppendStep::Url(_) => true,
    };
    if steps().any(composed) {
        return Some("CATENATE (RFC 4469, 3)");
    }
    if steps().count() > 1 {
        return Some("several messages (RFC 3502, 6.3.11)");
    }
    if pieces
        .iter()
        .any(|piece| piece.data.is_some_and(|data| data.utf8))
    {
        return Some("UTF8 (RFC 6855, 4)");
    }
    if message.contains(&0) {
        return Some("a message with NUL: it came so, and is kept as it came");
    }
    let one_digit = |w: &[u8]| w[0] == b'"' && w[1].is_ascii_digit() && w[2] == b'-';
    if written.text.windows(3).any(one_digit) {
        return Some("a day of one digit, as in other dates (RFC 9051, 9: date-day)");
    }
    written
        .has(":60 ")
        .then_some("a leap second (RFC 5322, 3.3)")
}

fn in_command(command: &Command, written: &Written) -> Option<&'static str> {
    match command {
        Command::List(_) | Command::Lsub { .. } if !written.text.is_ascii() => {
            Some("a pattern as an atom in 8 bits, as clients write it (RFC 9051, 5.1: UTF-8)")
        }
        Command::Login { .. } | Command::Id(_) | Command::SetMetadata { .. }
            if std::str::from_utf8(&written.text).is_err() =>
        {
            Some("a password or value in a charset of its own")
        }
        Command::Unauthenticate => Some("UNAUTHENTICATE (RFC 8437, 2)"),
        Command::SetAcl { .. }
        | Command::DeleteAcl { .. }
        | Command::GetAcl(_)
        | Command::ListRights { .. }
        | Command::MyRights(_) => Some("ACL (RFC 4314, 3)"),
        Command::GenUrlAuth(_) | Command::ResetKey(_) | Command::UrlFetch(_) => {
            Some("URLAUTH (RFC 4467, 7)")
        }
        Command::Notify(_) => Some("NOTIFY (RFC 5465, 3)"),
        Command::MultiSearch { .. } => Some("ESEARCH (RFC 7377, 2)"),
        Command::CancelUpdate(_) => Some("CANCELUPDATE (RFC 5267, 4.3.5)"),
        Command::UidBatches { .. } => Some("UIDBATCHES (draft-ietf-mailmaint-imap-uidbatches)"),
        Command::SearchInCharset { .. } => {
            Some("what follows an unknown charset is not read: NO says so (RFC 9051, 6.4.4)")
        }
        Command::Compress(mechanism) if mechanism != "DEFLATE" => {
            Some("a mechanism that is answered with NO (RFC 4978, 3)")
        }
        Command::Select { parameters, .. } => parameters
            .iter()
            .any(|parameter| matches!(parameter, SelectParameter::Other(_)))
            .then_some("a parameter that the session refuses (RFC 4466, 2.1)"),
        Command::Create { .. } if written.has(" (USE (") => Some("USE (RFC 6154, 3)"),
        Command::List(list) if list.extended => Some("LIST-EXTENDED (RFC 5258, 3)"),
        Command::Status { items, .. } => items
            .iter()
            .any(|item| matches!(item, StatusItem::AppendLimit | StatusItem::MailboxId))
            .then_some("APPENDLIMIT, MAILBOXID (RFC 7889, 3.2; RFC 8474, 4.3)"),
        Command::GetMetadata(get) => in_metadata(get, written),
        Command::Expunge(Some(set)) | Command::Copy { set, .. } | Command::Move { set, .. } => {
            saved(set)
        }
        Command::Store(store) => saved(&store.set),
        Command::Fetch {
            set,
            items,
            modifiers,
            ..
        } => saved(set)
            .or_else(|| in_items(items))
            .or_else(|| modifiers.partial.map(|_| "PARTIAL (RFC 9394, 3.3)")),
        Command::Search(search) => in_search(search, written),
        Command::Thread { search, .. } => in_search(search, written),
        _ => None,
    }
}

fn saved(set: &SequenceSet) -> Option<&'static str> {
    set.has_saved().then_some(SAVED)
}

fn in_metadata(get: &GetMetadata, written: &Written) -> Option<&'static str> {
    let options = get.max_size.is_some() || get.depth != Depth::Zero || written.has("(DEPTH 0");
    if options && !written.begins("GETMETADATA (") {
        return Some("options behind the mailbox (RFC 5464, 4.2.1 and 4.2.2: its examples)");
    }
    (get.entries.len() > 1 && !written.text.ends_with(b")"))
        .then_some("entries without parentheses (RFC 5464, 4.4.1: its examples)")
}

fn in_items(items: &[FetchItem]) -> Option<&'static str> {
    let wide = |partial: &Option<(u64, u64)>| {
        partial.is_some_and(|(from, length)| {
            u32::try_from(from).is_err() || u32::try_from(length).is_err()
        })
    };
    items.iter().find_map(|item| match item {
        FetchItem::EmailId | FetchItem::ThreadId => Some("OBJECTID (RFC 8474, 5)"),
        FetchItem::SaveDate => Some("SAVEDATE (RFC 8514, 4.2)"),
        FetchItem::Preview { .. } => Some("PREVIEW (RFC 8970, 3)"),
        FetchItem::Section(Section { partial, .. }) | FetchItem::Binary { partial, .. } => {
            wide(partial).then_some(WIDE)
        }
        _ => None,
    })
}

fn in_search(search: &Search, written: &Written) -> Option<&'static str> {
    if search.returns.is_some() {
        return Some("RETURN (RFC 4731, 3.1; RFC 5267, 3)");
    }
    if written.has("UIDAFTER ") || written.has("UIDBEFORE ") {
        return Some("UIDAFTER, UIDBEFORE (RFC 9738, 3.2)");
    }
    let literal = written.text.iter().position(|b| *b == LITERAL);
    if let (Some(_), Some(at)) = (&search.charset, literal) {
        let before = written.text[..at]
            .iter()
            .rposition(|b| *b == b'{')
            .unwrap_or(0);
        let before = &written.text[..before];
        let names = [" CHARSET ", ") ", "REFERENCES ", "ORDEREDSUBJECT "];
        if names.iter().any(|name| before.ends_with(name.as_bytes())) {
            return Some("a charset as a literal (RFC 3501, 9: search)");
        }
    }
    // Several keys stand side by side for the oracle, in one key for us.
    let depth = match &search.key {
        SearchKey::And(keys) => keys.iter().map(depth).max().unwrap_or(0),
        key => depth(key),
    };
    if depth > DEEPEST {
        return Some("keys deeper than the oracle goes (our limit is higher)");
    }
    in_keys(&search.key)
}

fn depth(key: &SearchKey) -> usize {
    1 + match key {
        SearchKey::And(keys) => keys.iter().map(depth).max().unwrap_or(0),
        SearchKey::Or(a, b) => depth(a).max(depth(b)),
        SearchKey::Not(inner) | SearchKey::Fuzzy(inner) => depth(inner),
        _ => 0,
    }
}

fn in_keys(key: &SearchKey) -> Option<&'static str> {
    match key {
        SearchKey::And(keys) => keys.iter().find_map(in_keys),
        SearchKey::Or(a, b) => in_keys(a).or_else(|| in_keys(b)),
        SearchKey::Not(inner) => in_keys(inner),
        SearchKey::Fuzzy(_) => Some("FUZZY (RFC 6203, 3)"),
        SearchKey::Set(set) | SearchKey::Uid(set) => saved(set),
        SearchKey::SavedBefore(_)
        | SearchKey::SavedOn(_)
        | SearchKey::SavedSince(_)
        | SearchKey::SaveDateSupported => Some("SAVEDATE (RFC 8514, 4.3)"),
        SearchKey::EmailId(_) | SearchKey::ThreadId(_) => Some("OBJECTID (RFC 8474, 6)"),
        SearchKey::Larger(size) | SearchKey::Smaller(size) => {
            u32::try_from(*size).is_err().then_some(WIDE)
        }
        _ => None,
    }
}
