//! Commands from bytes (RFC 9051, 9; RFC 3501, 9; RFC 2971, 3691, 4315, 4731, 5032, 5182, 5258,
//! 5819, 6154, 6851, 7888). LL(1); errors say what is wrong.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Invariant: nesting is bounded, so no input makes the stack grow.

mod acl;
mod append;
mod cursor;
mod fetch;
mod list;
mod metadata;
mod modseq;
mod notify;
mod search;
mod store;
mod url;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) use self::append::{APPEND_FORM, AppendLine, AppendParser};
use self::cursor::{Cursor, Parsed, bad};
use super::bytes::CommandBytes;
use super::command::{Command, SeqNumber, SequenceSet, Tagged};
use crate::types::{Flag, Secret};

/// How to read a command.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nesting of parentheses and NOT/OR.
    pub max_depth: usize,
    /// Mailbox names are UTF-8 (IMAP4rev2 is enabled).
    pub utf8: bool,
}

/// Why a command was not understood; `text` says what to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub tag: Option<String>,
    pub text: String,
}

impl ParseError {
    fn new(text: impl Into<String>) -> Self {
        Self {
            tag: None,
            text: text.into(),
        }
    }
}

fn tag(c: &mut Cursor<'_>) -> Parsed<String> {
    let tag = c.take_while(|b| (cursor::atom_char(b) || b == b']') && b != b'+');
    match std::str::from_utf8(tag) {
        Ok(tag) if !tag.is_empty() && tag.len() <= 128 => Ok(tag.to_owned()),
        _ => bad("A tag is missing"),
    }
}

/// Parses one command.
pub fn parse(bytes: &CommandBytes, options: Options) -> Result<Tagged, ParseError> {
    let mut c = Cursor::new(bytes, options);
    let tag = tag(&mut c)?;
    match command(&mut c) {
        Ok(command) => Ok(Tagged { tag, command }),
        Err(error) => Err(ParseError {
            tag: Some(tag),
            ..error
        }),
    }
}

fn command(c: &mut Cursor<'_>) -> Parsed<Command> {
    c.space()?;
    let name = c.atom()?.to_ascii_uppercase();
    let command = match name.as_str() {
        "CAPABILITY" => Command::Capability,
        "NOOP" => Command::Noop,
        "LOGOUT" => Command::Logout,
        "STARTTLS" => Command::StartTls,
        "NAMESPACE" => Command::Namespace,
        "UNAUTHENTICATE" => Command::Unauthenticate,
        "IDLE" => Command::Idle,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "UNSELECT" => Command::Unselect,
        "EXPUNGE" => Command::Expunge(None),
        "RESETKEY" if c.at_end() => Command::ResetKey(None),
        _ => {
            let own = match metadata::command(c, &name)? {
                None => acl::command(c, &name)?,
                known => known,
            };
            if let Some(command) = own {
                c.end()?;
                return Ok(command);
            }
            if !KNOWN.contains(&name.as_str()) {
                return bad("Unknown command");
            }
            c.space()?;
            with_arguments(c, &name)?
        }
    };
    c.end()?;
    Ok(command)
}

const KNOWN: [&str; 37] = [
    "GENURLAUTH",
    "RESETKEY",
    "URLFETCH",
    "ID",
    "AUTHENTICATE",
    "LOGIN",
    "COMPRESS",
    "ENABLE",
    "SELECT",
    "EXAMINE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST",
    "LSUB",
    "STATUS",
    "GETQUOTA",
    "GETQUOTAROOT",
    "SETQUOTA",
    "APPEND",
    "REPLACE",
    "SEARCH",
    "SORT",
    "THREAD",
    "ESEARCH",
    "CANCELUPDATE",
    "UIDBATCHES",
    "FETCH",
    "STORE",
    "COPY",
    "MOVE",
    "UID",
    "NOTIFY",
    "XLIST",
    "DONE",
];

fn with_arguments(c: &mut Cursor<'_>, name: &str) -> Parsed<Command> {
    Ok(match name {
        "ID" => Command::Id(id(c)?),
        "AUTHENTICATE" => {
            let mechanism = c.atom()?.to_ascii_uppercase();
            let mut initial = None;
            if c.eat(b' ') {
                let text = c.rest();
                // RFC 4959: `=` stands for an empty response.
                let decoded = if text == b"=" {
                    Ok(vec![])
                } else {
                    STANDARD.decode(text)
                };
                initial = Some(Secret::new(
                    decoded.or_else(|_| bad("The response is not base64"))?,
                ));
            }
            Command::Authenticate { mechanism, initial }
        }
        "LOGIN" => {
            let user = c.astring_text()?;
            c.space()?;
            Command::Login {
                user,
                password: Secret::new(c.astring()?),
            }
        }
        "COMPRESS" => Command::Compress(c.atom()?.to_ascii_uppercase()),
        "ENABLE" => {
            let mut names = vec![c.atom()?.to_ascii_uppercase()];
            while c.eat(b' ') {
                names.push(c.atom()?.to_ascii_uppercase());
            }
            Command::Enable(names)
        }
        "SELECT" | "EXAMINE" => {
            let mailbox = c.mailbox()?;
            let mut parameters = vec![];
            if c.eat(b' ') {
                parameters = c.list(modseq::select_parameter)?;
                if parameters.is_empty() {
                    return bad("A parameter is missing");
                }
            }
            Command::Select {
                mailbox,
                parameters,
                read_only: name == "EXAMINE",
            }
        }
        "CREATE" => {
            let mailbox = c.mailbox()?;
            let mut special_use = Vec::new();
            if c.eat(b' ') {
                c.expect(b'(')?;
                if !c.eat_word("USE") {
                    return bad("CREATE knows only USE");
                }
                c.space()?;
                special_use = c.list(|c| {
                    c.expect(b'\\')?;
                    Ok(format!("\\{}", c.atom()?))
                })?;
                c.expect(b')')?;
            }
            Command::Create {
                mailbox,
                special_use,
            }
        }
        "DELETE" => Command::Delete(c.mailbox()?),
        "RENAME" => {
            let from = c.mailbox()?;
            c.space()?;
            Command::Rename {
                from,
                to: c.mailbox()?,
            }
        }
        "SUBSCRIBE" => Command::Subscribe(c.mailbox()?),
        "UNSUBSCRIBE" => Command::Unsubscribe(c.mailbox()?),
        "LIST" => Command::List(list::list(c)?),
        "LSUB" => {
            let reference = c.reference()?;
            c.space()?;
            let pattern = c.pattern()?;
            Command::Lsub { reference, pattern }
        }
        "STATUS" => {
            let mailbox = c.mailbox()?;
            c.space()?;
            let items = list::status_items(c)?;
            Command::Status { mailbox, items }
        }
        "GETQUOTA" => Command::GetQuota(c.astring_text()?),
        "GETQUOTAROOT" => Command::GetQuotaRoot(c.mailbox()?),
        "SETQUOTA" => set_quota(c)?,
        "GENURLAUTH" => Command::GenUrlAuth(url::rumps(c)?),
        "RESETKEY" => Command::ResetKey(Some(url::reset(c)?)),
        "URLFETCH" => Command::UrlFetch(url::urls(c)?),
        "APPEND" | "REPLACE" => return bad(APPEND_FORM),
        "NOTIFY" => Command::Notify(notify::notify(c)?),
        "UID" => {
            let name = c.atom()?.to_ascii_uppercase();
            c.space()?;
            match name.as_str() {
                "EXPUNGE" => Command::Expunge(Some(sequence_set(c)?)),
                "SEARCH" => search::search(c, true)?,
                "SORT" => search::sort(c, true)?,
                "THREAD" => search::thread(c, true)?,
                // As RFC 7377, 2 writes it once.
                "ESEARCH" => search::multi_search(c)?,
                "FETCH" | "STORE" | "COPY" | "MOVE" => on_messages(c, &name, true)?,
                _ => return bad("UID can't be used with this command"),
            }
        }
        "SEARCH" => search::search(c, false)?,
        "SORT" => search::sort(c, false)?,
        "THREAD" => search::thread(c, false)?,
        "ESEARCH" => search::multi_search(c)?,
        "CANCELUPDATE" => search::cancel_update(c)?,
        "UIDBATCHES" => search::uid_batches(c)?,
        "FETCH" | "STORE" | "COPY" | "MOVE" => on_messages(c, name, false)?,
        _ => return bad("Unknown command"),
    })
}

/// RFC 9208, 7.
fn set_quota(c: &mut Cursor<'_>) -> Parsed<Command> {
    let root = c.astring_text()?;
    c.space()?;
    let resources = c.list(|c| {
        let name = c.atom()?.to_ascii_uppercase();
        c.space()?;
        Ok((name, c.number()?))
    })?;
    Ok(Command::SetQuota { root, resources })
}

fn on_messages(c: &mut Cursor<'_>, name: &str, uid: bool) -> Parsed<Command> {
    let set = sequence_set(c)?;
    c.space()?;
    Ok(match name {
        "FETCH" => Command::Fetch {
            set,
            uid,
            items: fetch::items(c)?,
            modifiers: modseq::fetch_modifiers(c, uid)?,
        },
        "STORE" => Command::Store(store::store(c, set, uid)?),
        "COPY" => Command::Copy {
            set,
            uid,
            mailbox: c.mailbox()?,
        },
        _ => Command::Move {
            set,
            uid,
            mailbox: c.mailbox()?,
        },
    })
}

/// RFC 2971, 3.3: at most 30 pairs.
fn id(c: &mut Cursor<'_>) -> Parsed<Vec<(String, Option<String>)>> {
    if c.eat_word("NIL") {
        return Ok(vec![]);
    }
    let pairs = c.list(|c| {
        let field = c.string()?;
        c.space()?;
        let value = c.nstring()?;
        let lossy = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Ok((lossy(field), value.map(lossy)))
    })?;
    if pairs.len() > 30 {
        bad("At most 30 fields")
    } else {
        Ok(pairs)
    }
}

fn flag(c: &mut Cursor<'_>) -> Parsed<Flag> {
    let slash = if c.eat(b'\\') { "\\" } else { "" };
    let name = format!("{slash}{}", c.atom()?);
    Flag::parse(&name).or_else(|error| bad(format!("{name}: {error}")))
}

fn sequence_set(c: &mut Cursor<'_>) -> Parsed<SequenceSet> {
    if c.eat(b'$') {
        return Ok(SequenceSet::Saved);
    }
    let (mut ranges, mut saved) = (Vec::new(), false);
    loop {
        // RFC 9051, 9, and RFC 5182, 4: behind a comma it may stand too.
        if !ranges.is_empty() && c.eat(b'$') {
            saved = true;
        } else {
            let from = sequence_number(c)?;
            let to = if c.eat(b':') {
                sequence_number(c)?
            } else {
                from
            };
            ranges.push((from, to));
        }
        if !c.eat(b',') {
            return Ok(match saved {
                true => SequenceSet::Both(ranges),
                false => SequenceSet::Ranges(ranges),
            });
        }
    }
}

fn sequence_number(c: &mut Cursor<'_>) -> Parsed<SeqNumber> {
    if c.eat(b'*') {
        return Ok(SeqNumber::Star);
    }
    match c.number32() {
        Ok(0) => bad("0 is no message number"),
        Ok(n) => Ok(SeqNumber::Number(n)),
        Err(_) => bad("A message number is missing or too large"),
    }
}

#[cfg(test)]
mod tests;
