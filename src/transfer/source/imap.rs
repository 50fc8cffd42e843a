//! Another IMAP server: every mailbox of one account, without changing anything there.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{NUL, too_large};
use crate::mail::parse_date;
use crate::store::SpecialUse;
use crate::transfer::client::{Import, Open, TransferError, identity, source};
use crate::transfer::frames::{MailboxHead, MessageHead};
use crate::transfer::imap::client::{Account, Client, ImapError, ended, quoted};
use crate::transfer::imap::response::{Response, Value};
use crate::transfer::maildir::folders;
use crate::types::Flag;

/// Asked for at a time.
const WINDOW_MESSAGES: usize = 100;
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// More than this of one mailbox are not taken note of.
const MAX_MESSAGES: usize = 5_000_000;
const MAX_MAILBOXES: usize = 100_000;

/// A mailbox there.
struct Listed {
    /// As it came.
    name: String,
    mailbox: String,
    special_use: Option<SpecialUse>,
}

/// What is known of a message before it is fetched.
struct Meta {
    uid: u32,
    flags: Vec<Flag>,
    date: Option<(i64, i16)>,
    size: u64,
}

/// Brings it all over; with `only`, one mailbox.
pub async fn import<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    account: &Account,
    only: Option<&str>,
) -> Result<(), TransferError> {
    let wrong = |error: ImapError| {
        TransferError::Other(format!("{}:{}: {error}", account.host, account.port))
    };
    let mut client = Client::connect(account, import.max_message_bytes)
        .await
        .map_err(wrong)?;
    let prefixes = namespaces(&mut client).await.map_err(wrong)?;
    let all = list(&mut client, "LIST \"\" \"*\"", "LIST", &prefixes).await;
    let mut all = all.map_err(wrong)?;
    let subscribed = list(&mut client, "LSUB \"\" \"*\"", "LSUB", &prefixes).await;
    let subscribed: Vec<String> = subscribed
        .map_err(wrong)?
        .into_iter()
        .map(|listed| listed.mailbox)
        .collect();
    all.sort_by(|a, b| (a.mailbox != "INBOX", &a.mailbox).cmp(&(b.mailbox != "INBOX", &b.mailbox)));
    if let Some(only) = only {
        all.retain(|listed| listed.mailbox == only);
        if all.is_empty() {
            return Err(TransferError::Other(format!(
                "there is no mailbox {only} at {}",
                account.host
            )));
        }
    }
    for listed in &all {
        let subscribed = subscribed.contains(&listed.mailbox) || listed.mailbox == "INBOX";
        let done = mailbox(import, &mut client, account, listed, subscribed).await;
        match done {
            Err(Failed::Imap(error @ ImapError::Refused { .. })) => {
                let what = format!("mailbox {}", listed.mailbox);
                import.progress.failed(what, error);
            }
            Err(Failed::Imap(error)) => return Err(wrong(error)),
            Err(Failed::Transfer(error)) => return Err(error),
            Ok(()) => {}
        }
    }
    if only.is_none() {
        for name in subscribed {
            if all.iter().all(|listed| listed.mailbox != name) {
                import.subscribe(name).await?;
            }
        }
    }
    let _ = client.run("LOGOUT").await;
    Ok(())
}

enum Failed {
    Imap(ImapError),
    Transfer(TransferError),
}

impl From<ImapError> for Failed {
    fn from(error: ImapError) -> Self {
        Self::Imap(error)
    }
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

/// Prefixes of names (RFC 2342): one's own, and those of what belongs to others.
#[derive(Default)]
struct Prefixes {
    own: String,
    others: Vec<String>,
}

async fn namespaces(client: &mut Client) -> Result<Prefixes, ImapError> {
    let mut prefixes = Prefixes::default();
    if !client.has("NAMESPACE") {
        return Ok(prefixes);
    }
    for response in client.run("NAMESPACE").await? {
        let Response::Data { name, values, .. } = response else {
            continue;
        };
        if name != "NAMESPACE" {
            continue;
        }
        let named = |value: &Value| -> Vec<String> {
            let spaces = value.list().unwrap_or_default().iter();
            spaces.filter_map(|s| s.list()?.first()?.text()).collect()
        };
        let mut values = values.iter().map(named);
        prefixes.own = values
            .next()
            .and_then(|own| own.into_iter().next())
            .unwrap_or_default();
        prefixes.others = values.flatten().filter(|p| !p.is_empty()).collect();
    }
    Ok(prefixes)
}

async fn list(
    client: &mut Client,
    command: &str,
    kind: &str,
    prefixes: &Prefixes,
) -> Result<Vec<Listed>, ImapError> {
    // Where that is not known to be the answer anyway (RFC 6154, 2).
    let command = match client.has("SPECIAL-USE") && client.has("LIST-EXTENDED") && kind == "LIST" {
        true => format!("{command} RETURN (SPECIAL-USE)"),
        false => command.to_owned(),
    };
    let mut all = Vec::new();
    for response in client.run(&command).await? {
        let Response::Data { name, values, .. } = response else {
            continue;
        };
        if name != kind || all.len() >= MAX_MAILBOXES {
            continue;
        }
        let [attributes, separator, name, ..] = &values[..] else {
            continue;
        };
        let attributes: Vec<String> = attributes
            .list()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::text)
            .collect();
        let is = |attribute: &str| attributes.iter().any(|a| a.eq_ignore_ascii_case(attribute));
        let Some(name) = name.text() else {
            continue;
        };
        let gone = is("\\Noselect") || is("\\NonExistent");
        let foreign = prefixes.others.iter().any(|p| name.starts_with(p));
        if gone && kind == "LIST" || foreign {
            continue;
        }
        let separator = separator.text().and_then(|text| text.chars().next());
        let uses = [
            SpecialUse::All,
            SpecialUse::Archive,
            SpecialUse::Drafts,
            SpecialUse::Flagged,
            SpecialUse::Junk,
            SpecialUse::Sent,
            SpecialUse::Trash,
        ];
        let own = name.strip_prefix(&prefixes.own).filter(|n| !n.is_empty());
        all.push(Listed {
            mailbox: folders::of_server(own.unwrap_or(&name), separator),
            special_use: uses.into_iter().find(|u| is(u.attribute())),
            name,
        });
    }
    Ok(all)
}

async fn mailbox<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    client: &mut Client,
    account: &Account,
    listed: &Listed,
    subscribed: bool,
) -> Result<(), Failed> {
    let name = quoted(&listed.name)
        .ok_or_else(|| ImapError::Other(format!("a name that can't be sent: {}", listed.name)))?;
    let (mut exists, mut validity, mut next) = (0, 0, 0);
    for response in client.run(&format!("EXAMINE {name}")).await? {
        match response {
            Response::Data {
                number: Some(number),
                name,
                ..
            } if name == "EXISTS" => exists = number,
            Response::State {
                code: Some(code), ..
            } => match code.split_once(' ') {
                Some((what, number)) if what.eq_ignore_ascii_case("UIDVALIDITY") => {
                    validity = number.trim().parse().unwrap_or(0);
                }
                Some((what, number)) if what.eq_ignore_ascii_case("UIDNEXT") => {
                    next = number.trim().parse().unwrap_or(0);
                }
                _ => {}
            },
            _ => {}
        }
    }
    let server = format!("{}@{}:{}", account.user, account.host, account.port);
    let metas = match exists {
        0 => Vec::new(),
        _ => metas(client).await?,
    };
    let last = metas.last().map_or(0, |meta| meta.uid);
    let head = MailboxHead {
        name: listed.mailbox.clone(),
        uid_validity: validity,
        uid_next: next.max(last.saturating_add(1)),
        special_use: listed.special_use,
        subscribed,
        source: source(&[b"imap", server.as_bytes(), listed.name.as_bytes()]),
        messages: metas.len() as u64,
    };
    let Some(mut open) = import.open(head).await? else {
        return Ok(());
    };
    fetch(import, client, listed, validity, metas, &mut open).await?;
    Ok(import.close(open).await?)
}

async fn metas(client: &mut Client) -> Result<Vec<Meta>, ImapError> {
    let command = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
    let tag = client.send(command).await?;
    let mut metas = BTreeMap::new();
    while let Some(response) = ended(client.next().await?, &tag, "UID FETCH")? {
        let Some(items) = fetched(&response) else {
            continue;
        };
        let mut meta = Meta {
            uid: 0,
            flags: Vec::new(),
            date: None,
            size: 0,
        };
        let mut whole = false;
        for (item, value) in items {
            match &*item {
                "UID" => meta.uid = value.number().unwrap_or(0),
                "FLAGS" => {
                    let flags = value.list().unwrap_or_default().iter();
                    let flags = flags.filter_map(|flag| Flag::parse(&flag.text()?).ok());
                    meta.flags = flags.collect();
                }
                "INTERNALDATE" => {
                    let date = value.text().and_then(|text| parse_date(text.as_bytes()));
                    meta.date = date.map(|date| (date.millis, date.zone_minutes));
                }
                "RFC822.SIZE" => {
                    meta.size = value.number().unwrap_or(0);
                    whole = true;
                }
                _ => {}
            }
        }
        // Else the server tells of new flags of a message that it has told of.
        if meta.uid != 0 && whole {
            metas.insert(meta.uid, meta);
        }
        if metas.len() > MAX_MESSAGES {
            return Err(ImapError::Other("it has too many messages".into()));
        }
    }
    Ok(metas.into_values().collect())
}

/// Items of a FETCH with their values.
fn fetched(response: &Response) -> Option<Vec<(String, &Value)>> {
    let Response::Data { name, values, .. } = response else {
        return None;
    };
    if name != "FETCH" {
        return None;
    }
    let items = values.first()?.list()?;
    let pairs = items.as_chunks::<2>().0.iter();
    let named = pairs.filter_map(|[name, value]| Some((name.text()?.to_ascii_uppercase(), value)));
    Some(named.collect())
}

async fn fetch<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    client: &mut Client,
    listed: &Listed,
    validity: u32,
    metas: Vec<Meta>,
    open: &mut Open,
) -> Result<(), Failed> {
    let most = import.max_message_bytes;
    let what = |uid: u32| format!("{}, UID {uid}", listed.mailbox);
    let name = |uid: u32| identity(&[&validity.to_be_bytes(), &uid.to_be_bytes()]);
    let mut waiting = metas.into_iter().peekable();
    while waiting.peek().is_some() {
        let mut window: BTreeMap<u32, Meta> = BTreeMap::new();
        let mut bytes = 0;
        while let Some(meta) = waiting.next_if(|meta| {
            window.is_empty() || window.len() < WINDOW_MESSAGES && bytes + meta.size <= WINDOW_BYTES
        }) {
            if open.has(&name(meta.uid)) {
                continue;
            }
            if meta.size > most {
                let reason = too_large(meta.size, most);
                import.progress.failed(what(meta.uid), reason);
                continue;
            }
            bytes += meta.size;
            window.insert(meta.uid, meta);
        }
        if window.is_empty() {
            continue;
        }
        let uids: Vec<String> = window.keys().map(u32::to_string).collect();
        let command = format!("UID FETCH {} (UID BODY.PEEK[])", uids.join(","));
        let tag = client.send(&command).await?;
        let mut bodies: BTreeMap<u32, Result<Vec<u8>, String>> = BTreeMap::new();
        while let Some(response) = ended(client.next().await?, &tag, "UID FETCH")? {
            let (mut uid, mut body) = (0, None);
            if let Response::Data {
                name, mut values, ..
            } = response
                && name == "FETCH"
                && let Some(Value::List(items)) = values.pop()
            {
                let mut items = items.into_iter();
                while let (Some(item), Some(value)) = (items.next(), items.next()) {
                    match &*item.text().unwrap_or_default().to_ascii_uppercase() {
                        "UID" => uid = value.number().unwrap_or(0),
                        "BODY[]" => body = Some(value),
                        _ => {}
                    }
                }
            }
            let body = match body {
                Some(Value::Text(bytes)) => Ok(bytes),
                Some(Value::TooLarge(size)) => Err(too_large(size, most)),
                Some(_) => Err("the server has no text of it".into()),
                None => continue,
            };
            if window.contains_key(&uid) {
                bodies.insert(uid, body);
            }
        }
        for (uid, meta) in window {
            let body = match bodies.remove(&uid) {
                Some(Ok(body)) if body.contains(&0) => Err(NUL.to_owned()),
                Some(body) => body,
                None => Err("the server did not give it: it may be gone".to_owned()),
            };
            let body = match body {
                Ok(body) => body,
                Err(reason) => {
                    import.progress.failed(what(uid), reason);
                    continue;
                }
            };
            let (date, zone) = meta.date.unwrap_or((0, 0));
            let head = MessageHead {
                size: body.len() as u64,
                uid: Some(uid),
                flags: meta.flags,
                date,
                zone,
                identity: name(uid),
                line_ends: Vec::new(),
            };
            import.message(head, &body).await?;
        }
    }
    Ok(())
}
