//! Identifiers. Each is its own type, so that a UID can't be taken for a sequence number.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One person's account. Never reused.
    AccountId(u32)
);
id!(
    /// A mailbox within its account. Never reused within the account.
    MailboxId(u32)
);
id!(
    /// A device within its account. Never reused within the account.
    DeviceId(u32)
);
id!(
    /// Unique identifier of a message in its mailbox (RFC 9051, 2.3.1.1). 0 is never assigned.
    Uid(u32)
);
id!(
    /// UIDVALIDITY of a mailbox (RFC 9051, 2.3.1.1). 0 is never assigned.
    UidValidity(u32)
);
id!(
    /// Modification sequence (RFC 7162, 3.1); counts per mailbox, starts at 1.
    ModSeq(u64)
);

/// A mailbox in the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailboxKey {
    pub account: AccountId,
    pub mailbox: MailboxId,
}

/// Name of a stored message body: 16 bytes, unique for the life of the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub [u8; 16]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

/// A place in the log: the byte after the last frame that is meant.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPos {
    pub segment: u64,
    pub offset: u64,
}

impl fmt::Display for LogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}
