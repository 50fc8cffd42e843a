//! The index: an ordered map from keys to small values that can be rebuilt from the log.
//!
//! May import: types. `sled.rs` is the only file of the program that names sled.
//!
//! Invariants:
//! - One batch per commit group, and the place in the log up to which the index is complete
//!   moves in the same batch.
//! - Losing it all is no loss of mail: any error or doubt ends in a rebuild.

#[cfg(test)]
mod memory;
mod sled;

use std::path::PathBuf;

use crate::types::LogPos;

#[cfg(test)]
pub(crate) use memory::MemoryIndex;
pub(crate) use sled::{open_fresh_sled, open_sled};

/// Keys to put (or, with none, to remove), applied together.
pub(crate) type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

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
    fn apply(&self, batch: Batch, applied: LogPos, seq: u64) -> Result<(), IndexError>;
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
    fn applied(&self) -> Result<Option<(LogPos, u64)>, IndexError>;
    /// Makes what was applied durable. Only bounds the replay at the next start.
    fn checkpoint(&self) -> Result<(), IndexError>;
    fn size_on_disk(&self) -> u64;
}

/// Where `apply` puts its place in the log.
const APPLIED: &[u8] = &[NAMESPACE, b'a'];

/// Of the engine's own keys, and of how callers lay out theirs: an index with another one is
/// rebuilt.
const SCHEMA: u16 = 1;

fn encode_applied(applied: LogPos, seq: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(26);
    out.extend_from_slice(&SCHEMA.to_be_bytes());
    out.extend_from_slice(&applied.segment.to_be_bytes());
    out.extend_from_slice(&applied.offset.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out
}

fn decode_applied(value: &[u8]) -> Result<(LogPos, u64), IndexError> {
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
    match (number(2), number(10), number(18)) {
        (Some(segment), Some(offset), Some(seq)) => Ok((LogPos { segment, offset }, seq)),
        _ => Err(IndexError::Engine("the place in the log is cut off".into())),
    }
}

/// What every engine refuses.
fn check(batch: &Batch) -> Result<(), IndexError> {
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

#[cfg(test)]
mod tests;
