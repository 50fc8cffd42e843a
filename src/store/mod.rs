//! The mailstore: an append-only log that is the truth, an index in sled that can be thrown
//! away, and one committer thread between them.
//!
//! May import: net, config, mail, telemetry, types. Only `engine` names sled; only `log` names
//! segment files; nothing outside `store` knows either.
//!
//! Invariants:
//! - Nothing is acknowledged or published before `fdatasync` of the log returned.
//! - The index is at exactly one commit group's end at any time (`applied` moves in the same
//!   batch as the group's keys).
//! - UIDs and modseqs are assigned by the committer only, and never twice.
//! - No lock is held over a log write by anybody who reads.
//! - What the log acknowledged is never cut off, and no number is given twice, as long as either
//!   the log or the index still knows it.

pub mod backup;
pub mod log;

mod annotations;
mod appending;
mod apply;
mod asks;
mod audit;
mod ballast;
mod beside;
mod bulk;
mod carry;
mod check;
mod chunk;
mod clock;
mod committer;
mod compact;
mod credentials;
mod damage;
mod devices;
mod directory;
mod disk;
mod engine;
mod error;
mod feed;
mod fulltext;
mod handle;
mod history;
mod identity;
mod image;
mod importing;
mod integers;
mod keys;
mod login;
mod lost;
mod mailboxes;
mod mend;
mod messages;
mod model;
mod ops;
mod options;
mod outline;
mod packed;
mod passage;
mod prepared;
mod private;
mod program;
mod pulse;
mod quarantine;
mod queue;
mod quota;
mod reading;
mod rebuild;
mod records;
mod recovery;
mod removal;
mod rights;
mod ring;
mod shared;
mod snapshot;
mod spool;
mod state;
mod turns;
mod unchanged;
mod upkeep;
mod url_auth;
mod versions;
mod wake;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use annotations::{About, Annotated, Annotation};
pub use appending::Appended;
pub use asks::Progress;
pub use audit::{CheckReport, DamagedMessage};
pub use beside::step_back;
pub use compact::Compacted;
pub use credentials::{Credentials, ScramKeys};
pub use directory::{Directory, Resolution};
pub use error::{OpenError, StoreError};
pub use feed::Feed;
pub use fulltext::Without;
pub use handle::{Store, StoreStatus};
pub use importing::{Identity, ImportBatch, ImportOpen, ImportOpened, ImportTo, Incoming};
#[doc(hidden)]
pub use log::fuzz_frame;
#[doc(hidden)]
pub fn fuzz_image(data: &[u8]) {
    image::format::fuzz(data);
}
#[doc(hidden)]
pub fn fuzz_fulltext(data: &[u8]) {
    fulltext::format::fuzz(data);
}
pub use login::Login;
pub use model::*;
pub use options::Options;
pub use outline::{Decoded, Outline, step};
pub use packed::{Kept, Sketch};
pub use passage::Passage;
pub use prepared::Prepared;
pub use quota::{Fits, Limit, Limits, Quota, QuotaFigures, Usage};
pub use reading::{BodyPlace, MessageHead};
pub use removal::Removal;
pub use rights::{Acl, Granted, RightsChange, Who};
pub use ring::{Change, Committed, Source};
pub use snapshot::{Diff, Mailbox, Snapshot};
pub use spool::Spool;
pub use turns::{Turn, Turns, Whose};
pub use unchanged::Unchanged;
pub use upkeep::ImageTaken;
pub use url_auth::{INTERNAL, UrlReader};
pub use wake::{Changed, Noted};
