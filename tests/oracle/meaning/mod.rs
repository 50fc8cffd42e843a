//! What the oracle understood, in our terms.

mod fetch;
mod search;

use imap_codec::imap_types::command::{
    Command as Theirs, CommandBody, SelectParameter as TheirParameter, StoreModifier,
};
use imap_codec::imap_types::core::NString8;
use imap_codec::imap_types::datetime::DateTime;
use imap_codec::imap_types::extensions::binary::LiteralOrLiteral8;
use imap_codec::imap_types::extensions::metadata::{Depth as TheirDepth, Entry, GetMetadataOption};
use imap_codec::imap_types::extensions::thread::ThreadingAlgorithm;
use imap_codec::imap_types::flag::{Flag as TheirFlag, StoreResponse, StoreType};
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox};
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet as TheirSet};
use imap_codec::imap_types::status::StatusDataItemName;
use posthorn::imap::Pattern;
use posthorn::imap::command::*;
use posthorn::types::{Flag, Secret, SystemFlags, UidSet, utf7};

#[derive(Debug)]
pub enum Meaning {
    Command(Box<Command>),
    /// Its beginning, what is said of the message, whether it is a literal8, and the message.
    Append(Append, AppendStep, bool, Vec<u8>),
}

/// The error says why it must be refused all the same.
type Translated<T> = Result<T, &'static str>;

const NO_UTF8: &str = "a text that is not UTF-8 (RFC 9051, 5.1 and 6.4.4.1; RFC 3629)";
const EMPTY_LIST: &str = "an empty list where the grammar has none (RFC 9051, 9)";
const TOO_LARGE: &str = "a number of 2^63 or more (RFC 9051, 9: number64)";
const TOO_MANY: &str = "more than we ever take (our limit)";

pub fn of(theirs: &Theirs, utf8: bool) -> Translated<Meaning> {
    if theirs.tag.as_ref().len() > 128 {
        return Err("a tag of more than 128 bytes (our limit)");
    }
    let name = |mailbox: &Mailbox| mailbox_name(mailbox, utf8);
    let command = match &theirs.body {
        CommandBody::Capability => Command::Capability,
        CommandBody::Noop => Command::Noop,
        CommandBody::Logout => Command::Logout,
        CommandBody::StartTLS => Command::StartTls,
        CommandBody::Authenticate {
            mechanism,
            initial_response,
        } => Command::Authenticate {
            mechanism: mechanism.as_ref().to_ascii_uppercase(),
            initial: initial_response
                .as_ref()
                .map(|response| Secret::new(response.declassify().to_vec())),
        },
        CommandBody::Login { username, password } => Command::Login {
            user: text(username.as_ref())?,
            password: Secret::new(password.declassify().as_ref().to_vec()),
        },
        CommandBody::Select {
            mailbox,
            parameters,
        } => select(name(mailbox)?, parameters, false)?,
        CommandBody::Examine {
            mailbox,
            parameters,
        } => select(name(mailbox)?, parameters, true)?,
        CommandBody::Unselect => Command::Unselect,
        CommandBody::Create { mailbox } => Command::Create {
            mailbox: name(mailbox)?,
            special_use: vec![],
        },
        CommandBody::Delete { mailbox } => Command::Delete(name(mailbox)?),
        CommandBody::Rename { from, to } => Command::Rename {
            from: name(from)?,
            to: name(to)?,
        },
        CommandBody::Subscribe { mailbox } => Command::Subscribe(name(mailbox)?),
        CommandBody::Unsubscribe { mailbox } => Command::Unsubscribe(name(mailbox)?),
        CommandBody::List {
            reference: base,
            mailbox_wildcard,
        } => Command::List(List {
            reference: reference(base, utf8)?,
            patterns: vec![pattern(mailbox_wildcard, utf8)?],
            ..List::default()
        }),
        CommandBody::Lsub {
            reference: base,
            mailbox_wildcard,
        } => Command::Lsub {
            reference: reference(base, utf8)?,
            pattern: pattern(mailbox_wildcard, utf8)?,
        },
        CommandBody::Status { item_names, .. } if item_names.is_empty() => return Err(EMPTY_LIST),
        CommandBody::Status {
            mailbox,
            item_names,
        } => Command::Status {
            mailbox: name(mailbox)?,
            items: item_names.iter().map(status_item).collect(),
        },
        CommandBody::Append {
            mailbox,
            flags: theirs,
            date,
            message,
        } => {
            let begin = Append {
                mailbox: name(mailbox)?,
                replaces: None,
            };
            let step = AppendStep::Message {
                flags: flags(theirs)?,
                date: date.as_ref().map(date_time).transpose()?,
                catenated: false,
            };
            let (binary, message) = match message {
                LiteralOrLiteral8::Literal(literal) => (false, literal.data()),
                LiteralOrLiteral8::Literal8(literal) => (true, &literal.data[..]),
            };
            return Ok(Meaning::Append(begin, step, binary, message.to_vec()));
        }
        CommandBody::Check => Command::Check,
        CommandBody::Close => Command::Close,
        CommandBody::Expunge => Command::Expunge(None),
        CommandBody::ExpungeUid { sequence_set } => Command::Expunge(Some(set(sequence_set))),
        CommandBody::Search {
            charset,
            criteria,
            uid,
        } => {
            let charset = charset.as_ref().map(search::charset_name);
            search::search(*uid, charset, criteria.as_ref(), None)?
        }
        CommandBody::Sort {
            sort_criteria,
            charset,
            search_criteria,
            uid,
        } => {
            let criteria = sort_criteria.as_ref();
            if criteria.len() > 16 {
                return Err(TOO_MANY);
            }
            let sort = criteria
                .iter()
                .map(|criterion| SortCriterion {
                    reverse: criterion.reverse,
                    key: search::sort_key(&criterion.key),
                })
                .collect();
            let charset = Some(search::charset_name(charset));
            search::search(*uid, charset, search_criteria.as_ref(), Some(sort))?
        }
        CommandBody::Thread {
            algorithm,
            charset,
            search_criteria,
            uid,
        } => {
            let algorithm = match algorithm {
                ThreadingAlgorithm::OrderedSubject => ThreadAlgorithm::OrderedSubject,
                ThreadingAlgorithm::References => ThreadAlgorithm::References,
                ThreadingAlgorithm::Other(_) => {
                    return Err("an algorithm that is not offered (RFC 5256, 3)");
                }
            };
            let charset = Some(search::charset_name(charset));
            match search::search(*uid, charset, search_criteria.as_ref(), None)? {
                Command::Search(search) => Command::Thread { algorithm, search },
                Command::SearchInCharset { selected, save, .. } => Command::SearchInCharset {
                    selected,
                    save,
                    sorts: true,
                },
                other => other,
            }
        }
        CommandBody::Fetch {
            sequence_set,
            macro_or_item_names,
            uid,
            modifiers,
        } => Command::Fetch {
            set: set(sequence_set),
            uid: *uid,
            items: fetch::items(macro_or_item_names)?,
            modifiers: fetch::modifiers(modifiers, *uid)?,
        },
        CommandBody::Store {
            sequence_set,
            kind,
            response,
            flags: theirs,
            uid,
            modifiers,
        } => Command::Store(StoreFlags {
            set: set(sequence_set),
            uid: *uid,
            action: match kind {
                StoreType::Replace => StoreAction::Replace,
                StoreType::Add => StoreAction::Add,
                StoreType::Remove => StoreAction::Remove,
            },
            silent: *response == StoreResponse::Silent,
            flags: flags(theirs)?,
            unchanged_since: match modifiers[..] {
                [] => None,
                [StoreModifier::UnchangedSince(since)] => Some(number64(since)?),
                _ => return Err("more than one UNCHANGEDSINCE (RFC 7162, 7)"),
            },
        }),
        CommandBody::Copy {
            sequence_set,
            mailbox,
            uid,
        } => Command::Copy {
            set: set(sequence_set),
            uid: *uid,
            mailbox: name(mailbox)?,
        },
        CommandBody::Move {
            sequence_set,
            mailbox,
            uid,
        } => Command::Move {
            set: set(sequence_set),
            uid: *uid,
            mailbox: name(mailbox)?,
        },
        CommandBody::Idle => Command::Idle,
        CommandBody::Enable { capabilities } => Command::Enable(
            capabilities
                .as_ref()
                .iter()
                .map(|name| name.to_string().to_ascii_uppercase())
                .collect(),
        ),
        CommandBody::Compress { algorithm } => Command::Compress(algorithm.to_string()),
        CommandBody::GetQuota { root } => Command::GetQuota(text(root.as_ref())?),
        CommandBody::GetQuotaRoot { mailbox } => Command::GetQuotaRoot(name(mailbox)?),
        CommandBody::SetQuota { root, quotas } => Command::SetQuota {
            root: text(root.as_ref())?,
            resources: quotas
                .iter()
                .map(|quota| {
                    let resource = quota.resource.to_string().to_ascii_uppercase();
                    Ok((resource, number64(quota.limit)?))
                })
                .collect::<Translated<_>>()?,
        },
        CommandBody::Id { parameters } => {
            let pairs = parameters.as_deref().unwrap_or_default();
            if pairs.len() > 30 {
                return Err("more than 30 fields (RFC 2971, 3.3)");
            }
            let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Command::Id(
                pairs
                    .iter()
                    .map(|(field, value)| {
                        let value = value.0.as_ref().map(|value| lossy(value.as_ref()));
                        (lossy(field.as_ref()), value)
                    })
                    .collect(),
            )
        }
        CommandBody::SetMetadata {
            mailbox,
            entry_values,
        } => Command::SetMetadata {
            mailbox: name(mailbox)?,
            values: entry_values
                .as_ref()
                .iter()
                .map(|pair| {
                    let value = match &pair.value {
                        NString8::NString(value) => value.0.as_ref().map(|v| v.as_ref().to_vec()),
                        NString8::Literal8(value) => Some(value.data.to_vec()),
                    };
                    Ok((entry(&pair.entry)?, value))
                })
                .collect::<Translated<_>>()?,
        },
        CommandBody::GetMetadata {
            options,
            mailbox,
            entries,
        } => {
            let mut get = GetMetadata {
                mailbox: name(mailbox)?,
                entries: entries
                    .as_ref()
                    .iter()
                    .map(entry)
                    .collect::<Translated<_>>()?,
                ..GetMetadata::default()
            };
            for option in options {
                match option {
                    GetMetadataOption::MaxSize(size) => get.max_size = Some(u64::from(*size)),
                    GetMetadataOption::Depth(TheirDepth::Null) => get.depth = Depth::Zero,
                    GetMetadataOption::Depth(TheirDepth::One) => get.depth = Depth::One,
                    GetMetadataOption::Depth(TheirDepth::Infinity) => get.depth = Depth::Infinity,
                }
            }
            Command::GetMetadata(get)
        }
        CommandBody::Namespace => Command::Namespace,
    };
    Ok(Meaning::Command(Box::new(command)))
}

fn text(bytes: &[u8]) -> Translated<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| NO_UTF8)
}

fn mailbox_name(mailbox: &Mailbox, utf8: bool) -> Translated<String> {
    let Mailbox::Other(other) = mailbox else {
        return Ok("INBOX".into());
    };
    let mut name = text(other.as_ref())?;
    if !utf8 && name.is_ascii() {
        let decoded = utf7::decode(&name);
        name = decoded
            .filter(|decoded| !name.contains('&') || utf7::encode(decoded) == name)
            .ok_or("a name that is not modified UTF-7, or not its only form (RFC 3501, 5.1.3)")?;
    }
    // INBOX is INBOX in any case, also as the first level of a name (RFC 9051, 5.1).
    if let Some((first, rest)) = name.split_once('/')
        && first.eq_ignore_ascii_case("INBOX")
    {
        name = format!("INBOX/{rest}");
    }
    Ok(name)
}

fn reference(mailbox: &Mailbox, utf8: bool) -> Translated<Pattern> {
    Ok(match mailbox {
        Mailbox::Inbox => Pattern::new("INBOX".into(), utf8),
        Mailbox::Other(other) => Pattern::new(text(other.as_ref())?, utf8),
    })
}

fn pattern(pattern: &ListMailbox, utf8: bool) -> Translated<Pattern> {
    let bytes = match pattern {
        ListMailbox::Token(token) => token.as_ref(),
        ListMailbox::String(string) => string.as_ref(),
    };
    Ok(Pattern::new(text(bytes)?, utf8))
}

fn number(number: &SeqOrUid) -> SeqNumber {
    match number {
        SeqOrUid::Value(n) => SeqNumber::Number(n.get()),
        SeqOrUid::Asterisk => SeqNumber::Star,
    }
}

fn set(set: &TheirSet) -> SequenceSet {
    let range = |range: &Sequence| match range {
        Sequence::Single(n) => (number(n), number(n)),
        Sequence::Range(a, b) => (number(a), number(b)),
    };
    SequenceSet::Ranges(set.0.as_ref().iter().map(range).collect())
}

fn number64(n: u64) -> Translated<u64> {
    match i64::try_from(n) {
        Ok(_) => Ok(n),
        Err(_) => Err(TOO_LARGE),
    }
}

fn flags(flags: &[TheirFlag]) -> Translated<Vec<Flag>> {
    let flag = |flag: &TheirFlag| {
        Ok(Flag::System(match flag {
            TheirFlag::Answered => SystemFlags::ANSWERED,
            TheirFlag::Deleted => SystemFlags::DELETED,
            TheirFlag::Draft => SystemFlags::DRAFT,
            TheirFlag::Flagged => SystemFlags::FLAGGED,
            TheirFlag::Seen => SystemFlags::SEEN,
            TheirFlag::Extension(_) => {
                return Err("a flag that no standard defines (RFC 9051, 9: flag-extension)");
            }
            TheirFlag::Keyword(name) => return keyword(name.inner()),
        }))
    };
    flags.iter().map(flag).collect()
}

fn keyword(name: &str) -> Translated<Flag> {
    if name.len() > Flag::MAX_KEYWORD {
        return Err("a keyword of more than 128 bytes (our limit)");
    }
    Ok(Flag::Keyword(name.into()))
}

fn status_item(item: &StatusDataItemName) -> StatusItem {
    match item {
        StatusDataItemName::Messages => StatusItem::Messages,
        StatusDataItemName::Recent => StatusItem::Recent,
        StatusDataItemName::UidNext => StatusItem::UidNext,
        StatusDataItemName::UidValidity => StatusItem::UidValidity,
        StatusDataItemName::Unseen => StatusItem::Unseen,
        StatusDataItemName::Deleted => StatusItem::Deleted,
        StatusDataItemName::DeletedStorage => StatusItem::DeletedStorage,
        StatusDataItemName::Size => StatusItem::Size,
        StatusDataItemName::HighestModSeq => StatusItem::HighestModSeq,
    }
}

/// RFC 5464, 3.2.
fn entry(entry: &Entry) -> Translated<String> {
    let name = text(entry.as_ref())?;
    let lower = name.to_ascii_lowercase();
    let mut parts = lower.split('/');
    let known = parts.next() == Some("") && matches!(parts.next(), Some("shared" | "private"));
    let fine = |c: char| matches!(c, ' '..='~') && c != '*' && c != '%';
    if !known || parts.any(str::is_empty) || !name.chars().all(fine) || name.len() > 512 {
        return Err("what no entry may be called (RFC 5464, 3.2), or more than 512 bytes");
    }
    Ok(name)
}

fn select(mailbox: String, parameters: &[TheirParameter], read_only: bool) -> Translated<Command> {
    let parameters = parameters.iter().map(|parameter| {
        Ok(match parameter {
            TheirParameter::CondStore => SelectParameter::CondStore,
            TheirParameter::QResync {
                uid_validity,
                mod_sequence_value,
                known_uids,
                seq_match_data,
            } => {
                let known = known_uids.as_ref().map(numbers).transpose()?;
                let matching = match seq_match_data {
                    Some((numbers, uids)) => Some((rising(numbers)?, rising(uids)?)),
                    None => None,
                };
                if matching.as_ref().is_some_and(|(a, b)| a.len() != b.len()) {
                    return Err("numbers that match no UIDs (RFC 7162, 3.2.5.2)");
                }
                SelectParameter::QResync(QResync {
                    uid_validity: uid_validity.get(),
                    modseq: number64(mod_sequence_value.get())?,
                    known: known.map(UidSet::from_ranges),
                    matching,
                })
            }
        })
    });
    Ok(Command::Select {
        mailbox,
        parameters: parameters.collect::<Translated<_>>()?,
        read_only,
    })
}

fn numbers(theirs: &TheirSet) -> Translated<Vec<(u32, u32)>> {
    let SequenceSet::Ranges(ranges) = set(theirs) else {
        return Ok(vec![]);
    };
    ranges
        .into_iter()
        .map(|range| match range {
            (SeqNumber::Number(a), SeqNumber::Number(b)) => Ok((a.min(b), a.max(b))),
            _ => Err("* in QRESYNC (RFC 7162, 7)"),
        })
        .collect()
}

fn rising(theirs: &TheirSet) -> Translated<UidSet> {
    let ranges = numbers(theirs)?;
    let backwards = |range: &Sequence| match range {
        Sequence::Range(SeqOrUid::Value(a), SeqOrUid::Value(b)) => a > b,
        _ => false,
    };
    if theirs.0.as_ref().iter().any(backwards)
        || ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1)
    {
        return Err("numbers that do not rise (RFC 7162, 7)");
    }
    Ok(UidSet::from_ranges(ranges))
}

fn date_time(date: &DateTime) -> Translated<(i64, i16)> {
    let date = date.as_ref();
    let seconds = date.timestamp();
    // 9999-12-30T22:00:00Z: so that every zone has a year of four digits.
    if seconds > 253_402_207_200 {
        return Err("a time in the last hours of the year 9999 (our limit)");
    }
    let minutes = date.offset().local_minus_utc() / 60;
    Ok((seconds * 1000, i16::try_from(minutes).unwrap()))
}
