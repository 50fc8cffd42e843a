//! The log's words: facts with absolute values, so that replay gives the same state.
//!
//! May import: model, types. Machine: no IO, no clock, no randomness.
//!
//! Invariants: variants are only ever appended, never changed, reordered or reused (postcard
//! writes their numbers, and no names or lengths of fields): a fact that needs another field
//! gets a new variant, and the old one is still read. `VERSION` goes up when an old reader could
//! not make sense of what is written. A group is read whole or not at all. The tests in `golden`
//! notice a change.

use serde::{Deserialize, Serialize};

use super::log::BlobPlace;
use super::model::{
    Account, Alias, Device, LocalDomain, MessageRecord, OutboxEntry, OutboxKey, SpecialUse, Worker,
};
use crate::types::{
    AccountId, Address, BlobId, DeviceId, Domain, Flags, LogPos, MailboxKey, ModSeq, Uid, UidSet,
    UidValidity, UnixMillis,
};

/// First byte of the operations of a frame. 2 has more of them than 1.
pub(super) const VERSION: u8 = 2;

/// One commit group as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    pub at: UnixMillis,
    pub ops: Vec<Op>,
}

/// A message that came into a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub mailbox: MailboxKey,
    pub uid: Uid,
    pub modseq: ModSeq,
    pub flags: Flags,
    /// Its own header lines; the shared record's prefix is empty.
    pub prefix: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    Delivery,
    Append,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    /// One body, in this frame or (large) already in a file of its own, and its recipients.
    Arrive {
        origin: Origin,
        /// Set where the body is not in this frame.
        large: Option<BlobPlace>,
        record: MessageRecord,
        entries: Vec<Entry>,
    },
    SetFlags {
        mailbox: MailboxKey,
        modseq: ModSeq,
        changes: Vec<(Uid, Flags)>,
    },
    Expunge {
        mailbox: MailboxKey,
        modseq: ModSeq,
        uids: UidSet,
    },
    /// Source UID, target UID and flags in the target.
    Copy {
        from: MailboxKey,
        to: MailboxKey,
        modseq: ModSeq,
        saved: UnixMillis,
        entries: Vec<(Uid, Uid, Flags)>,
    },
    /// A keyword got its bit: the place in the table. If another had it, that is on no message.
    Keyword {
        mailbox: MailboxKey,
        bit: u8,
        name: String,
    },
    MailboxCreate {
        mailbox: MailboxKey,
        name: String,
        uid_validity: UidValidity,
        special_use: Option<SpecialUse>,
        subscribed: bool,
    },
    MailboxRename {
        mailbox: MailboxKey,
        name: String,
    },
    MailboxDelete {
        mailbox: MailboxKey,
    },
    /// By name, which need not exist.
    Subscribe {
        account: AccountId,
        name: String,
        on: bool,
    },
    AccountPut(Account),
    AccountRemove(AccountId),
    AliasPut(Alias),
    AliasRemove(Address),
    DomainPut(LocalDomain),
    DomainRemove(Domain),
    DevicePut(Device),
    DeviceRemove(AccountId, DeviceId),
    OutboxPut(OutboxEntry),
    OutboxRemove(OutboxKey),
    Cursor(Worker, LogPos),
    SettingPut(String, Vec<u8>),
    /// The outbound queue's entries; their form is the queue's.
    QueuePut {
        id: u64,
        due: UnixMillis,
        value: Vec<u8>,
    },
    QueueRemove {
        id: u64,
        due: UnixMillis,
    },
    /// Compaction: takes effect only if the body still lies at `from`.
    BlobMoved {
        blob: BlobId,
        from: BlobPlace,
        to: BlobPlace,
    },
    /// Records of kinds that later versions name: metadata, rights, quotas, tokens.
    RecordPut {
        kind: u16,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    RecordRemove {
        kind: u16,
        key: Vec<u8>,
    },
    /// Something of a mailbox changed as a whole, such as its special use.
    MailboxUse {
        mailbox: MailboxKey,
        special_use: Option<SpecialUse>,
    },
    /// Numbers that are never given again, though the groups that gave them are damaged. Raises
    /// only.
    GlobalFloor {
        next_account: u32,
        uid_validity: u32,
    },
    AccountFloor {
        account: AccountId,
        next_mailbox: u32,
        next_device: u32,
    },
    MailboxFloor {
        mailbox: MailboxKey,
        uid_next: Uid,
        highest_modseq: ModSeq,
    },
    /// Compaction: this frame has a copy of the body. It takes effect only if the body still lies
    /// at `from`.
    BlobKept {
        blob: BlobId,
        from: BlobPlace,
    },
    /// A mailbox that never had a message takes over the UIDVALIDITY of one that is imported.
    MailboxValidity {
        mailbox: MailboxKey,
        uid_validity: UidValidity,
    },
}

/// Why a group could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpsError {
    #[error("written by a newer posthorn (operations {0})")]
    Newer(u8),
    #[error("operations that make no sense")]
    Malformed,
}

impl Group {
    pub(super) fn encode(&self) -> Result<Vec<u8>, OpsError> {
        postcard::to_extend(self, vec![VERSION]).map_err(|_| OpsError::Malformed)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, OpsError> {
        match bytes.split_first() {
            Some((&(1..=VERSION), rest)) => {
                postcard::from_bytes(rest).map_err(|_| OpsError::Malformed)
            }
            Some((version, _)) if *version > VERSION => Err(OpsError::Newer(*version)),
            _ => Err(OpsError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_group_is_refused_and_rubbish_is_an_error() {
        assert_eq!(Group::decode(&[3, 0, 0]), Err(OpsError::Newer(3)));
        assert_eq!(Group::decode(&[]), Err(OpsError::Malformed));
        assert_eq!(Group::decode(&[1, 255, 255, 255]), Err(OpsError::Malformed));
        let group = Group {
            at: UnixMillis(7),
            ops: vec![Op::QueueRemove {
                id: 1,
                due: UnixMillis(2),
            }],
        };
        assert_eq!(Group::decode(&group.encode().expect("encodes")), Ok(group));
    }
}
