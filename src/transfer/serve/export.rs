//! Messages that go out, one after the other; a large one is never in memory whole.

use tokio::io::AsyncWrite;
use tokio::time::timeout;

use super::{Ended, Transfers};
use crate::store::{MailboxInfo, Message, MessageRecord, Snapshot, StoreError};
use crate::transfer::frames::{Control, MailboxHead, MessageHead, PIECE, Sink};
use crate::types::{AccountId, Flag, SystemFlags};

/// Bodies up to this are read before they are announced, so that a damaged one is named and not
/// half sent.
const WHOLE: u64 = 4 * 1024 * 1024;

pub(super) async fn run<W: AsyncWrite + Unpin>(
    transfers: &Transfers,
    accounts: &[(AccountId, String)],
    only: Option<&str>,
    writer: &mut Sink<W>,
) -> Result<(), Ended> {
    let mut found = only.is_none();
    for (account, address) in accounts {
        say(transfers, writer, &Control::Account(address.clone())).await?;
        let list = transfers.store.mailboxes(*account)?;
        let only = only.map(|name| list.find(name).map(|info| info.key));
        let mailboxes = list.mailboxes.iter();
        for info in mailboxes.filter(|info| only.is_none_or(|only| only == Some(info.key))) {
            found = true;
            mailbox(transfers, info, writer).await?;
        }
        if only.is_none() {
            for name in &list.subscribed_missing {
                say(transfers, writer, &Control::Subscribed(name.clone())).await?;
            }
        }
    }
    match found {
        true => Ok(()),
        false => Err(StoreError::NoMailbox.into()),
    }
}

async fn say<W: AsyncWrite + Unpin>(
    transfers: &Transfers,
    writer: &mut Sink<W>,
    control: &Control,
) -> Result<(), Ended> {
    let said = timeout(transfers.bounds.patience, writer.control(control)).await;
    said.map_err(|_| Ended::Said("the export was not read for too long"))??;
    Ok(())
}

async fn mailbox<W: AsyncWrite + Unpin>(
    transfers: &Transfers,
    info: &MailboxInfo,
    writer: &mut Sink<W>,
) -> Result<(), Ended> {
    let snapshot = match transfers.store.mailbox(info.key) {
        Ok(mailbox) => mailbox.snapshot(),
        // Deleted meanwhile.
        Err(StoreError::NoMailbox) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let head = MailboxHead {
        name: info.name.clone(),
        uid_validity: snapshot.uid_validity().0,
        uid_next: snapshot.uid_next().0,
        special_use: info.special_use,
        subscribed: info.subscribed,
        messages: u64::from(snapshot.len()),
        ..MailboxHead::default()
    };
    say(transfers, writer, &Control::Mailbox(head)).await?;
    for (_, found) in snapshot.iter() {
        match message(transfers, info, &snapshot, found, writer).await {
            Err(Ended::Store(error @ (StoreError::DamagedBody | StoreError::Write(_)))) => {
                let damaged = Control::Damaged {
                    uid: found.uid.0,
                    reason: error.to_string(),
                };
                say(transfers, writer, &damaged).await?;
            }
            done => done?,
        }
    }
    say(transfers, writer, &Control::MailboxEnd).await
}

async fn message<W: AsyncWrite + Unpin>(
    transfers: &Transfers,
    info: &MailboxInfo,
    snapshot: &Snapshot,
    found: Message,
    writer: &mut Sink<W>,
) -> Result<(), Ended> {
    let store = &transfers.store;
    let Some(record) = store.message(info.key, found.uid)? else {
        return Ok(());
    };
    let body_len = record.size.saturating_sub(record.prefix.len() as u64);
    let read = |range: std::ops::Range<u64>| -> Result<_, StoreError> {
        let bytes = store.body_range(info.key, found.uid, record.blob, range.clone())?;
        match bytes.len() as u64 == range.end - range.start {
            true => Ok(bytes),
            false => Err(StoreError::DamagedBody),
        }
    };
    let first = match read(0..body_len.min(WHOLE)) {
        // Expunged meanwhile, and its body with it.
        Err(StoreError::Expunged) => return Ok(()),
        first => first?,
    };
    // The rest of a large one is read twice, so that what is announced can be sent.
    let rest = || {
        let starts = (first.len() as u64..body_len).step_by(PIECE);
        starts.map(|at| at..body_len.min(at + PIECE as u64))
    };
    for range in rest() {
        read(range)?;
    }
    let head = head(&record, snapshot, found, store.line_ends(record.blob)?);
    say(transfers, writer, &Control::Message(head)).await?;
    let slow = |_| Ended::Said("the export was not read for too long");
    for piece in [&record.prefix[..], &first] {
        let sent = timeout(transfers.bounds.patience, writer.body(piece)).await;
        sent.map_err(slow)??;
    }
    for range in rest() {
        let Ok(piece) = read(range) else {
            return Err(Ended::Said(
                "a large message could not be read to its end; look at the server's log",
            ));
        };
        let sent = timeout(transfers.bounds.patience, writer.body(&piece)).await;
        sent.map_err(slow)??;
    }
    Ok(())
}

fn head(
    record: &MessageRecord,
    snapshot: &Snapshot,
    message: Message,
    line_ends: Vec<u8>,
) -> MessageHead {
    let system = SystemFlags::ALL.iter();
    let system = system.filter(|(flag, _)| message.flags.system.contains(*flag));
    let keywords = snapshot.keywords().iter().enumerate();
    let keywords = keywords.filter(|(bit, _)| message.flags.keywords & (1 << bit) != 0);
    MessageHead {
        size: record.size,
        uid: Some(message.uid.0),
        flags: system
            .map(|(flag, _)| Flag::System(*flag))
            .chain(keywords.map(|(_, name)| Flag::Keyword(name.clone())))
            .collect(),
        date: record.internal_date.signed(),
        zone: record.internal_zone,
        line_ends,
        ..MessageHead::default()
    }
}
