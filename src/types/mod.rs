//! The words of the product: ids, addresses, flags, UID sets, time, secrets.
//!
//! Imports nothing of ours. Pure: no IO, no clock, no randomness.

mod address;
mod flags;
mod ids;
mod nfc;
mod rights;
mod secret;
mod target;
mod time;
mod uidset;
pub mod utf7;

pub use address::{Address, AddressError, Domain, DomainError};
pub use flags::{Flag, FlagError, Flags, SystemFlags};
pub use ids::{
    AccountId, BlobId, DeviceId, LogPos, MailboxId, MailboxKey, ModSeq, Uid, UidValidity,
};
pub use nfc::nfc;
pub use rights::{Rights, Settable};
pub use secret::Secret;
pub use target::{Target, TargetError};
pub use time::UnixMillis;
pub use uidset::{UidSet, UidSetError};
