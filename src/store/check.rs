//! What is counted of the index's small records, so that one that sled lost is noticed: it was
//! seen to open without an error and with records missing.
//!
//! Messages are counted in their mailbox (`snapshot`, checked when one is opened); so STATUS, which
//! opens none, may be answered from a mailbox's record alone. Here are that record and all other
//! kinds that are read without a second record to hold them to: a count and a sum of checksums,
//! moved with every commit and compared at every start. Bodies in files of their own have a sum
//! of theirs, because a file that no record names is removed.
//!
//! May import: types.

use serde::{Deserialize, Serialize};

use super::engine::{Index, IndexError};
use super::error::StoreError;
use super::keys::{self, BlobRecord};
use super::log;

/// Key of the sums.
pub(super) const KEY: &[u8] = b"s";

/// Kinds that are counted with their values.
const KINDS: &[u8] = b"ADKLMNSUcgopqrt";

/// How many, and the sum of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, weight: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(weight);
    }

    fn take(&mut self, weight: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(weight);
    }
}

/// As it stands in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    small: Sum,
    large: Sum,
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    u64::from(hasher.finalize())
}

/// Which sum a record counts in, and with what.
enum Counted {
    Small(u64),
    Large(u64),
    Not,
}

fn counted(key: &[u8], value: &[u8]) -> Counted {
    match key {
        [b'b', ..] => match keys::decode::<BlobRecord>(value) {
            Ok(record) if log::has_own_file(&record.place) => Counted::Large(checksum(key, value)),
            _ => Counted::Not,
        },
        [kind, ..] | [keys::PART, kind, ..] if KINDS.contains(kind) => {
            Counted::Small(checksum(key, value))
        }
        _ => Counted::Not,
    }
}

/// True where this change may change the sums. A body that is not in a file of its own now was in
/// none before, so nobody has to look for that.
pub(super) fn concerns(key: &[u8], new: Option<&[u8]>) -> bool {
    match key {
        [keys::PART, kind, ..] => KINDS.contains(kind),
        [b'b', ..] => new.is_none_or(|new| !matches!(counted(key, new), Counted::Not)),
        [kind, ..] => KINDS.contains(kind),
        [] => false,
    }
}

impl Sums {
    /// One record changed.
    pub(super) fn change(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        match old.map(|value| counted(key, value)) {
            Some(Counted::Small(weight)) => self.small.take(weight),
            Some(Counted::Large(weight)) => self.large.take(weight),
            _ => {}
        }
        match new.map(|value| counted(key, value)) {
            Some(Counted::Small(weight)) => self.small.add(weight),
            Some(Counted::Large(weight)) => self.large.add(weight),
            _ => {}
        }
    }

    /// A body in a file of its own.
    pub(super) fn add_large(&mut self, key: &[u8], value: &[u8]) {
        if let Counted::Large(weight) = counted(key, value) {
            self.large.add(weight);
        }
    }

    pub(super) fn same_large(&self, other: &Self) -> bool {
        self.large == other.large
    }
}

/// None: nothing was ever applied. They are there from the first group on, so that an index
/// that has lost all of its records, and them too, does not look like one that never had any.
pub(super) fn stored(index: &dyn Index) -> Result<Option<Sums>, StoreError> {
    if let Some(raw) = index.get(KEY).map_err(text)? {
        return keys::decode(&raw).map(Some);
    }
    match index.applied().map_err(text)? {
        Some(_) => Err(StoreError::Index("its sums are missing".into())),
        None => Ok(None),
    }
}

/// What the records that are there add up to.
pub(super) fn count(index: &dyn Index) -> Result<Sums, StoreError> {
    add_up(index, b"b")
}

/// Without bodies, of which there are many, unless `more` names them.
fn add_up(index: &dyn Index, more: &[u8]) -> Result<Sums, StoreError> {
    let mut found = Sums::default();
    for kind in KINDS.iter().chain(more) {
        for prefix in [vec![*kind], vec![keys::PART, *kind]] {
            index
                .scan(&prefix, None, &mut |key, value| {
                    found.change(key, None, Some(value));
                    true
                })
                .map_err(text)?;
        }
    }
    Ok(found)
}

/// Compares what is there with the sums. The error says what is wrong.
pub(super) fn verify(index: &dyn Index) -> Result<(), StoreError> {
    let found = add_up(index, &[])?;
    let told = stored(index)?.unwrap_or_default();
    if found.small == told.small {
        return Ok(());
    }
    Err(StoreError::Index(format!(
        "it should have {} small records and has {}, or not the same ones",
        told.small.count, found.small.count
    )))
}

fn text(error: IndexError) -> StoreError {
    StoreError::Index(error.to_string())
}
