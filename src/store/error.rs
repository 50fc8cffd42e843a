//! The store's errors, by whose fault it is.

use std::path::PathBuf;

use super::log::LogError;

/// Why an operation on the open store failed. Protocols map it to replies in one place each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    // The resource's fault: temporary, the peer should try again.
    #[error("too much is waiting to be written")]
    Busy,
    #[error("the disk is nearly full")]
    DiskFull,
    #[error("the store could not write: {0}")]
    Write(String),
    #[error("the store is shutting down")]
    Closed,
    // The asker's fault.
    #[error("no such account")]
    NoAccount,
    #[error("no such mailbox")]
    NoMailbox,
    #[error("some of the messages are gone")]
    Expunged,
    #[error("no such domain")]
    NoDomain,
    #[error("no such device")]
    NoDevice,
    #[error("no such alias")]
    NoAlias,
    #[error("it exists already")]
    Exists,
    #[error("another mailbox has this special use")]
    UseTaken,
    #[error("there are mailboxes below it")]
    HasChildren,
    #[error("not possible: {0}")]
    Invalid(&'static str),
    #[error("the mailbox is full")]
    MailboxFull,
    #[error("the account has reached its quota")]
    OverQuota,
    #[error("limit reached: {0}")]
    Limit(&'static str),
    // Damage: an operator should look.
    #[error("the message's body is damaged or missing")]
    DamagedBody,
    #[error("the index could not be read: {0}")]
    Index(String),
}

/// Writes and reads of the log. (What is damaged is mapped by who knows what it was.)
impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error.is_disk_full() {
            true => Self::DiskFull,
            false => Self::Write(error.to_string()),
        }
    }
}

impl StoreError {
    /// True where the same request may well succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::DiskFull | Self::Write(_) | Self::Closed | Self::Index(_)
        )
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is in use by another posthorn (pid {pid})")]
    Locked { path: PathBuf, pid: u32 },
    #[error(
        "{path} was written by a newer posthorn (format {found}, this one knows {known}): \
             run that one, or restore a backup from before it"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "{path} belongs to user {owner} and this is user {me}: run it as the user that the server \
         runs as"
    )]
    NotOurs { path: PathBuf, owner: u32, me: u32 },
    #[error("{path} is not a Posthorn store: {reason}")]
    Foreign { path: PathBuf, reason: String },
    #[error(
        "{path} has no segment, but this store had mail: put the log back (or the whole \
         directory, from a backup); to begin with an empty store, move its directory away first"
    )]
    LogMissing { path: PathBuf },
    #[error(
        "{path}: a restore was cut off here: run it again; to begin with an empty store instead, \
         remove that directory first"
    )]
    HalfRestored { path: PathBuf },
    #[error("the index could not be built: {0}")]
    Index(String),
}
