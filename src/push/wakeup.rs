//! What a wake-up says: reads the messages that it stands for, at the moment it is sent.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::payload::{self, Mail, Notice};
use super::service::WakeUp;
use crate::mail::{Summary, Traits, summarize};
use crate::store::{
    ContentLevel, Device, DeviceState, MessageRecord, OutboxEntry, OutboxKey, Store, StoreError,
    WakeSlot,
};
use crate::types::{MailboxId, MailboxKey, SystemFlags, Uid, UidValidity, UnixMillis};

/// Of a message whose summary is not in the index: headers are within.
const HEAD: u64 = 64 * 1024;

/// Makes topics that mean nothing to a push service.
pub(super) struct TopicKey(hmac::Key);

impl TopicKey {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// 16 characters of base64url (RFC 8030, 5.4 allows 32).
    pub(super) fn topic(&self, key: OutboxKey) -> String {
        let slot = match key.slot {
            WakeSlot::Mail(mailbox) => mailbox.0,
            WakeSlot::Verify | WakeSlot::Test => u32::MAX,
        };
        let text = format!("topic {} {} {slot}", key.account, key.device);
        let mac = hmac::sign(&self.0, text.as_bytes());
        URL_SAFE_NO_PAD.encode(&mac.as_ref()[..12])
    }
}

/// What an attempt is made from.
pub(super) struct Prepared {
    pub(super) device: Device,
    account: String,
    mailbox: &'static str,
    uid_validity: UidValidity,
    standing: Standing,
}

/// What an entry still stands for.
#[derive(Default)]
pub(super) struct Standing {
    newest: Option<(MailboxKey, Uid, MessageRecord)>,
    /// The most urgent of the older ones.
    urgency: Option<Urgency>,
    /// How many they are, where the entry can't tell.
    count: Option<u32>,
}

/// The newest message of the entry that exists, and how urgent the others are; Err: there is
/// none, nor any unread other.
pub(super) fn standing(
    store: &Store,
    entry: &OutboxEntry,
    mailbox: MailboxId,
) -> Result<Standing, ()> {
    let mailbox = MailboxKey {
        account: entry.key.account,
        mailbox,
    };
    let mut standing = Standing::default();
    let unread = match entry.has_more() {
        true => Some(unread(store, entry, mailbox)?),
        false => None,
    };
    if let Some(unread) = &unread {
        standing.count = Some(u32::try_from(unread.len()).unwrap_or(u32::MAX));
    }
    let uids = unread.as_ref().unwrap_or(&entry.uids);
    let uids = &uids[uids.len().saturating_sub(OutboxEntry::MAX_UIDS)..];
    for uid in uids.iter().rev() {
        match store.message(mailbox, *uid) {
            Ok(Some(record)) if standing.newest.is_none() => {
                standing.newest = Some((mailbox, *uid, record));
            }
            Ok(Some(record)) => {
                let traits = record.summary.summary().map(|summary| summary.traits);
                standing.urgency = standing.urgency.max(traits.map(urgency));
            }
            Ok(None) => {}
            Err(StoreError::NoMailbox | StoreError::NoAccount) => return Err(()),
            // One that can't be read just now is better announced than forgotten.
            Err(_) => return Ok(standing),
        }
    }
    match standing.newest {
        Some(_) => Ok(standing),
        None => Err(()),
    }
}

/// Of more messages than an entry lists, those that nobody has read; Err: there is no mailbox.
fn unread(store: &Store, entry: &OutboxEntry, mailbox: MailboxKey) -> Result<Vec<Uid>, ()> {
    let Some(first) = entry.uids.first() else {
        return Ok(vec![]);
    };
    match store.mailbox(mailbox) {
        Ok(mailbox) => {
            let snapshot = mailbox.snapshot();
            let new = snapshot
                .range(first.0..=u32::MAX)
                .map(|(_, message)| message);
            let unseen = new.filter(|m| !m.flags.system.contains(SystemFlags::SEEN));
            Ok(unseen.map(|m| m.uid).collect())
        }
        Err(StoreError::NoMailbox | StoreError::NoAccount) => Err(()),
        // Better announced than forgotten.
        Err(_) => Ok(entry.uids.clone()),
    }
}

pub(super) fn prepared(store: &Store, device: Device, standing: Standing) -> Prepared {
    let directory = store.directory();
    let account = directory.account(device.account);
    let inbox = store.mailboxes(device.account).ok();
    let inbox = inbox.as_ref().and_then(|list| list.find("INBOX"));
    Prepared {
        account: account.map_or_else(String::new, |a| a.address.to_string()),
        mailbox: "INBOX",
        uid_validity: inbox.map_or(UidValidity(0), |info| info.uid_validity),
        device,
        standing,
    }
}

/// The same for each attempt, also after a restart: a phone that is woken twice can tell.
fn id(entry: &OutboxEntry, topic: &str) -> String {
    let newest = entry.uids.last().map_or(0, |uid| uid.0);
    let named = format!("{topic} {} {} {newest}", entry.caused.0, entry.count);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, named.as_bytes());
    let id = digest.as_ref().get(..12).unwrap_or_default();
    format!("w_{}", URL_SAFE_NO_PAD.encode(id))
}

/// Makes it, with and without content.
pub(super) async fn wake_up(
    store: &Store,
    entry: &OutboxEntry,
    prepared: &Prepared,
    topic: String,
    at: UnixMillis,
) -> WakeUp {
    let id = id(entry, &topic);
    let show = prepared.device.show;
    let summary = match &prepared.standing.newest {
        Some((mailbox, uid, record)) => summary(store, *mailbox, *uid, record).await,
        None => None,
    };
    let notice = match (entry.key.slot, &prepared.device.state) {
        (WakeSlot::Mail(_), _) => Notice::Mail(Mail {
            account: &prepared.account,
            mailbox: prepared.mailbox,
            count: prepared.standing.count.unwrap_or(entry.count),
            uid: prepared.standing.newest.as_ref().map(|(_, uid, _)| *uid),
            uid_validity: prepared.uid_validity,
            from: summary.as_ref().map_or("", |s| &s.from),
            subject: summary.as_ref().map_or("", |s| &s.subject),
        }),
        (WakeSlot::Verify, DeviceState::Unverified { code, .. }) => Notice::Verify { code },
        _ => Notice::Test,
    };
    WakeUp {
        full: payload::encode(&notice, show, &id, entry.caused),
        small: payload::encode(&notice, ContentLevel::WakeUpOnly, &id, entry.caused),
        ttl_secs: entry.expires.since(at) / 1000,
        urgency: match notice {
            Notice::Mail(_) => {
                let newest = summary.as_ref().map(|summary| urgency(summary.traits));
                let newest = newest.unwrap_or(Urgency::Normal);
                prepared.standing.urgency.map_or(newest, |u| u.max(newest))
            }
            _ => Urgency::High,
        }
        .name(),
        topic: matches!(notice, Notice::Mail(_)).then_some(topic),
    }
}

/// RFC 8030, 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Low,
    Normal,
    High,
}

impl Urgency {
    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// People are urgent, machines and lists are not.
fn urgency(traits: Traits) -> Urgency {
    let is = |bits| traits.0 & bits != 0;
    if is(Traits::IMPORTANT) {
        Urgency::High
    } else if is(Traits::LIST | Traits::BULK | Traits::AUTOMATIC) {
        Urgency::Low
    } else {
        Urgency::High
    }
}

async fn summary(
    store: &Store,
    mailbox: MailboxKey,
    uid: Uid,
    record: &MessageRecord,
) -> Option<Summary> {
    if let Some(summary) = record.summary.summary() {
        return Some(summary);
    }
    let (store, blob) = (store.clone(), record.blob);
    let read = tokio::task::spawn_blocking(move || {
        store
            .body_range(mailbox, uid, blob, 0..HEAD)
            .ok()
            .map(|head| summarize(&head))
    });
    read.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccountId, DeviceId};

    #[test]
    fn an_attempt_again_has_the_same_id_and_more_mail_another() {
        let entry = OutboxEntry {
            key: OutboxKey {
                account: AccountId(1),
                device: DeviceId(2),
                slot: WakeSlot::Mail(crate::types::MailboxId(1)),
            },
            uids: vec![Uid(5)],
            count: 1,
            caused: UnixMillis(7),
            due: UnixMillis(7),
            expires: UnixMillis(99),
            attempts: 0,
        };
        let again = OutboxEntry {
            due: UnixMillis(50),
            attempts: 3,
            ..entry.clone()
        };
        let more = OutboxEntry {
            uids: vec![Uid(5), Uid(6)],
            count: 2,
            ..entry.clone()
        };
        assert_eq!(id(&entry, "t"), id(&again, "t"));
        assert_ne!(id(&entry, "t"), id(&more, "t"));
        assert_ne!(id(&entry, "t"), id(&entry, "of another device"));
        assert_eq!(id(&entry, "t").len(), 18);
    }
}
