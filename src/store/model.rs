//! What the store keeps, as its users see it: accounts, mailboxes, messages, devices, outbox.
//!
//! Those that derive `Serialize` are in the log as they are here (`ops`) and in the index
//! (`keys`). postcard writes no names and no lengths of structs, so a type that is in the log is
//! frozen: a field more or less needs a new type and a new `Op` variant for it, and the old ones
//! stay for reading. Enums may get variants at their end. The tests in `golden` notice.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use crate::types::{
    AccountId, Address, BlobId, DeviceId, Domain, Flag, Flags, MailboxId, MailboxKey, ModSeq, Uid,
    UidSet, UidValidity, UnixMillis, nfc,
};

/// An account: a person with a password and mailboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    /// The address it logs in with and receives mail at.
    pub address: Address,
    /// argon2id in PHC form.
    pub password_hash: String,
    pub created: UnixMillis,
    pub disabled: bool,
}

/// An address that delivers to accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub address: Address,
    /// Local accounts or further aliases, by address.
    pub targets: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalDomain {
    pub domain: Domain,
    pub created: UnixMillis,
}

/// RFC 6154 uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }
}

/// One mailbox as LIST sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    pub key: MailboxKey,
    /// UTF-8, hierarchy separator `/`. The inbox is exactly `INBOX`.
    pub name: String,
    pub uid_validity: UidValidity,
    pub special_use: Option<SpecialUse>,
    pub subscribed: bool,
}

/// All mailboxes of an account, sorted by name with INBOX first, and names that are subscribed
/// to but do not exist. A snapshot: it does not change under its holder.
#[derive(Clone, Debug, Default)]
pub struct MailboxList {
    pub mailboxes: Vec<MailboxInfo>,
    pub subscribed_missing: Vec<String>,
}

impl MailboxList {
    /// Finds by exact name, in any Unicode form; `INBOX` without regard to case (RFC 9051, 5.1).
    pub fn find(&self, name: &str) -> Option<&MailboxInfo> {
        let name = &*nfc(name);
        let inbox = name.eq_ignore_ascii_case("INBOX");
        self.mailboxes.iter().find(|m| {
            if inbox {
                m.name == "INBOX"
            } else {
                m.name == name
            }
        })
    }
}

/// What STATUS tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatus {
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    pub uid_next: Uid,
    pub uid_validity: UidValidity,
    pub highest_modseq: ModSeq,
    /// Sum of RFC822.SIZE.
    pub size: u64,
}

/// The immutable part of a message in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// RFC822.SIZE: prefix and body. First, so that the index can be checked without reading on.
    pub size: u64,
    pub blob: BlobId,
    /// Header lines put in front for this recipient (Return-Path, Delivered-To); CRLF-terminated.
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// INTERNALDATE, which may lie before 1970 ([`UnixMillis::signed`]), and the zone that it was
    /// given in, minutes east.
    pub internal_date: UnixMillis,
    pub internal_zone: i16,
    /// When it came into this mailbox.
    pub saved: UnixMillis,
    /// ENVELOPE, BODYSTRUCTURE and the like.
    pub summary: super::packed::Kept,
}

impl MessageRecord {
    /// Tells apart messages of one body: 0 where nothing is put in front of it.
    pub fn variant(&self) -> u32 {
        variant(&self.prefix)
    }
}

pub(super) fn variant(prefix: &[u8]) -> u32 {
    crc32fast::hash(prefix)
}

/// Where a delivery goes.
#[derive(Clone, Debug)]
pub struct Recipient {
    pub account: AccountId,
    /// None: INBOX.
    pub mailbox: Option<MailboxId>,
    pub flags: Vec<Flag>,
    /// See [`MessageRecord::prefix`].
    pub prefix: Vec<u8>,
}

/// One message durably stored in one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub mailbox: MailboxKey,
    pub uid_validity: UidValidity,
    pub uid: Uid,
    pub modseq: ModSeq,
}

/// STORE's three ways (RFC 9051, 6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagAction {
    Replace,
    Add,
    Remove,
}

/// What a change of flags did.
#[derive(Clone, Debug, Default)]
pub struct FlagsChanged {
    /// Messages whose flags are now other than before, with their new state.
    pub changed: Vec<(Uid, Flags, ModSeq)>,
    /// Messages left alone because of UNCHANGEDSINCE (RFC 7162, 3.1.3).
    pub modified: UidSet,
}

/// COPY and MOVE (RFC 4315: COPYUID). `source` and `target` run in parallel.
#[derive(Clone, Debug)]
pub struct Copied {
    pub uid_validity: UidValidity,
    pub source: Vec<Uid>,
    pub target: Vec<Uid>,
    /// Why the rest was not moved, where some was.
    pub failed: Option<StoreError>,
}

/// How much of a message a notification may show (push-protocols, "What may be in a payload").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentLevel {
    WakeUpOnly,
    Sender,
    #[default]
    SenderSubject,
}

impl ContentLevel {
    /// As it is written in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::WakeUpOnly => "wake-up-only",
            Self::Sender => "sender",
            Self::SenderSubject => "sender-subject",
        }
    }
}

/// One way to wake one phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub account: AccountId,
    /// Given by its owner, at most 100 characters.
    pub name: String,
    pub kind: DeviceKind,
    pub state: DeviceState,
    pub show: ContentLevel,
    pub created: UnixMillis,
    pub last_success: Option<UnixMillis>,
    pub last_failure: Option<UnixMillis>,
    /// Short class of the last failure, for the owner; never an answer's text.
    pub last_error: Option<String>,
    /// Failures since the last success.
    pub failures: u32,
}

/// Kinds are only ever appended: the log holds their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    WebPush {
        /// A capability URL: a secret. Never logged whole.
        endpoint: String,
        /// Uncompressed P-256 point, 65 bytes.
        p256dh: Vec<u8>,
        /// 16 bytes.
        auth: Vec<u8>,
        /// Public VAPID key that the subscription was made for; empty where none was.
        vapid_key: Vec<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// Waits for the code that was pushed to it to come back.
    Unverified {
        code: String,
        expires: UnixMillis,
    },
    Active,
    /// Not woken until its owner says so, or after a day of failures.
    Paused {
        reason: String,
    },
}

/// Wake-ups of one device that are pending together: one slot holds at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WakeSlot {
    Mail(MailboxId),
    Verify,
    Test,
}

/// Key of an outbox entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutboxKey {
    pub account: AccountId,
    pub device: DeviceId,
    pub slot: WakeSlot,
}

/// A wake-up that is owed. It refers to messages and holds none of their content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    pub key: OutboxKey,
    /// Messages that it stands for, oldest first; the newest is the one shown. Bounded by
    /// [`OutboxEntry::MAX_UIDS`]; `count` goes on, and then the first is always kept: those
    /// that are not listed came after it.
    pub uids: Vec<Uid>,
    pub count: u32,
    /// When the first of its causes was committed.
    pub caused: UnixMillis,
    /// Not before this.
    pub due: UnixMillis,
    pub expires: UnixMillis,
    pub attempts: u32,
}

impl OutboxEntry {
    pub const MAX_UIDS: usize = 32;

    /// Does it stand for more than it lists?
    pub fn has_more(&self) -> bool {
        (self.uids.len() as u64) < u64::from(self.count)
    }
}

/// A worker that reads the feed and remembers how far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Worker {
    Push,
    Queue,
}

/// Changes that are committed together, in order: all or none.
#[derive(Clone, Debug)]
pub enum Update {
    /// Replaces the device with the same ids; fails if there is none.
    DevicePut(Box<Device>),
    /// Removes the device and its outbox entries; fails if there is none.
    DeviceRemove(AccountId, DeviceId),
    /// Inserts or replaces. Dropped silently if the device is gone meanwhile.
    OutboxPut(OutboxEntry),
    /// Removes if there.
    OutboxRemove(OutboxKey),
    /// The worker has turned everything up to here into entries.
    Cursor(Worker, crate::types::LogPos),
    /// A server-wide secret or fact by name, such as the VAPID key; at most 4 KiB.
    SettingPut(String, Vec<u8>),
}

/// The state of one message that can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub uid: Uid,
    pub flags: Flags,
    pub modseq: ModSeq,
}
