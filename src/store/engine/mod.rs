//! The index: an ordered map from keys to small values that can be rebuilt from the log.
//!
//! May import: types. `sled.rs` is the only file of the program that names sled.
//!
//! Invariants:
//! - One batch per commit group, and the place in the log up to which the index is complete
//!   moves in the same batch.
//! - Losing it all is no loss of mail: any error or doubt ends in a rebuild. Only what the
//!   machine lacks (room, descriptors, rights) does not: a rebuild would lack it too.

mod lagging;
#[cfg(test)]
mod memory;
mod sled;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::LogPos;

#[cfg(test)]
pub(crate) use memory::MemoryIndex;
pub(crate) use sled::Sled;
#[cfg(test)]
pub(crate) use sled::{open_fresh_sled, open_sled, retire_sleds};

/// How far an index has the log, and of which store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub store: [u8; 16],
    pub at: LogPos,
    /// Number of the group that ends there.
    pub seq: u64,
}

/// Keys to put (or, with none, to remove), applied together.
pub(crate) type Batch = Vec<Write>;
/// A key and its value; none: it goes.
pub(crate) type Write = (Vec<u8>, Option<Vec<u8>>);

/// First byte of the keys that are the engine's own. All others are the caller's.
pub(crate) const NAMESPACE: u8 = b'k';

/// Larger values are refused: sled would put them in files that it never syncs.
pub(crate) const MAX_VALUE: usize = 6 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the index engine failed: {0}")]
    Engine(String),
    #[error("the index engine panicked: {0}")]
    Panicked(String),
    #[error("the index did not open within {0} seconds")]
    Timeout(u64),
    #[error("a value of {0} bytes is too large for the index")]
    ValueTooLarge(usize),
    #[error("the index has schema {found}, this posthorn uses {known}")]
    Schema { found: u16, known: u16 },
}

pub(crate) trait Index: Send + Sync {
    /// One atomic batch, together with how far the log is now applied.
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError>;
    /// The same where somebody else has the batch too.
    fn apply_shared(&self, batch: &[Write], applied: Applied) -> Result<(), IndexError> {
        self.apply(batch.to_vec(), applied)
    }
    /// Puts records into an index that is new, without a place in the log yet.
    fn load(&self, batch: Batch) -> Result<(), IndexError>;
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Keys that start with `prefix`, in order, beginning with `from` (inclusive), until `each`
    /// returns false.
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError>;
    /// What the last `apply` said; none in an index that is new.
    fn applied(&self) -> Result<Option<Applied>, IndexError>;
    /// Makes what was applied durable. Only bounds the replay at the next start.
    fn checkpoint(&self) -> Result<(), IndexError>;
    fn size_on_disk(&self) -> u64;
    /// Gives what is known of a key without asking the engine, which may be busy: its value, or
    /// that it has none. False: nothing is known. `with` must not ask the index.
    fn recent(&self, _key: &[u8], _with: &mut dyn FnMut(Option<&[u8]>)) -> bool {
        false
    }
    /// True while a large batch is written: a read may wait for it.
    fn is_held_up(&self) -> bool {
        false
    }
}

/// In place of one that is being opened again.
pub(crate) struct Closed;

impl Closed {
    fn refused<T>() -> Result<T, IndexError> {
        Err(IndexError::Io {
            path: "index".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        })
    }
}

impl Index for Closed {
    fn apply(&self, _: Batch, _: Applied) -> Result<(), IndexError> {
        Self::refused()
    }
    fn load(&self, _: Batch) -> Result<(), IndexError> {
        Self::refused()
    }
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Self::refused()
    }
    fn scan(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        Self::refused()
    }
    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        Self::refused()
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        Self::refused()
    }
    fn size_on_disk(&self) -> u64 {
        0
    }
}

/// Where indexes come from.
pub(crate) trait Engines: Send + Sync {
    /// The one that serves in `dir`, or a new one.
    fn open(&self, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError>;
    /// An empty one; the one that serves stays where it is until `retire`.
    fn open_fresh(&self, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError>;
    /// The newest index takes the place of all others.
    fn retire(&self, dir: &Path) -> Result<(), IndexError>;
    /// Removes what was retired: there was nothing wrong with it.
    fn discard(&self, dir: &Path);
}

/// Where `apply` puts its place in the log.
const APPLIED: &[u8] = &[NAMESPACE, b'a'];

/// Of the engine's own keys, and of how callers lay out theirs: an index with another one is
/// rebuilt.
pub(crate) const SCHEMA: u16 = 2;

fn encode_applied(applied: Applied) -> Vec<u8> {
    let mut out = Vec::with_capacity(42);
    out.extend_from_slice(&SCHEMA.to_be_bytes());
    out.extend_from_slice(&applied.store);
    out.extend_from_slice(&applied.at.segment.to_be_bytes());
    out.extend_from_slice(&applied.at.offset.to_be_bytes());
    out.extend_from_slice(&applied.seq.to_be_bytes());
    out
}

fn decode_applied(value: &[u8]) -> Result<Applied, IndexError> {
    let schema = value
        .first_chunk()
        .map_or(0, |raw| u16::from_be_bytes(*raw));
    if schema != SCHEMA {
        return Err(IndexError::Schema {
            found: schema,
            known: SCHEMA,
        });
    }
    let number = |at: usize| {
        let raw = value.get(at..).and_then(|rest| rest.first_chunk());
        raw.map(|raw| u64::from_be_bytes(*raw))
    };
    let store = value.get(2..).and_then(|rest| rest.first_chunk());
    match (store, number(18), number(26), number(34)) {
        (Some(store), Some(segment), Some(offset), Some(seq)) => Ok(Applied {
            store: *store,
            at: LogPos { segment, offset },
            seq,
        }),
        _ => Err(IndexError::Engine("the place in the log is cut off".into())),
    }
}

impl IndexError {
    /// The same error for one more who asks.
    fn again(&self) -> Self {
        match self {
            Self::Io { path, source } => Self::Io {
                path: path.clone(),
                source: match source.raw_os_error() {
                    Some(number) => std::io::Error::from_raw_os_error(number),
                    None => std::io::Error::new(source.kind(), source.to_string()),
                },
            },
            Self::Engine(text) => Self::Engine(text.clone()),
            Self::Panicked(text) => Self::Panicked(text.clone()),
            Self::Timeout(seconds) => Self::Timeout(*seconds),
            Self::ValueTooLarge(size) => Self::ValueTooLarge(*size),
            Self::Schema { found, known } => Self::Schema {
                found: *found,
                known: *known,
            },
        }
    }

    /// True where the machine lacks something (room, descriptors, rights): the index itself may
    /// well be good, and another one would fail in the same way.
    pub(crate) fn is_resource(&self) -> bool {
        use std::io::ErrorKind as Kind;
        // ENFILE and EMFILE have no kind.
        let numbers = [23, 24];
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    Kind::StorageFull
                        | Kind::QuotaExceeded
                        | Kind::PermissionDenied
                        | Kind::ReadOnlyFilesystem
                        | Kind::OutOfMemory
                ) || source.raw_os_error().is_some_and(|n| numbers.contains(&n))
            }
            // sled panics over some of them, and wraps others in text.
            Self::Engine(text) | Self::Panicked(text) => [13, 23, 24, 28, 30, 122]
                .iter()
                .any(|n| text.contains(&format!("os error {n})"))),
            Self::Timeout(_) | Self::ValueTooLarge(_) | Self::Schema { .. } => false,
        }
    }
}

/// What every engine refuses.
pub(crate) fn check(batch: &[Write]) -> Result<(), IndexError> {
    for (key, value) in batch {
        if key.first() == Some(&NAMESPACE) {
            return Err(IndexError::Engine("a key of the engine's own".into()));
        }
        if let Some(value) = value
            && value.len() > MAX_VALUE
        {
            return Err(IndexError::ValueTooLarge(value.len()));
        }
    }
    Ok(())
}

/// For an index of the tests' own.
#[cfg(test)]
pub(crate) const APPLIED_KEY: &[u8] = APPLIED;

#[cfg(test)]
pub(crate) fn applied_write(applied: Applied) -> (Vec<u8>, Option<Vec<u8>>) {
    (APPLIED.to_vec(), Some(encode_applied(applied)))
}

#[cfg(test)]
pub(crate) fn read_applied(index: &dyn Index) -> Result<Option<Applied>, IndexError> {
    let found = index.get(APPLIED)?;
    found.as_deref().map(decode_applied).transpose()
}

/// For the test that freezes the format.
#[cfg(test)]
pub(crate) fn golden(applied: Applied) -> Vec<u8> {
    encode_applied(applied)
}

#[cfg(test)]
mod tests;
