//! Bodies that are known to be damaged, over restarts.
//!
//! May import: types.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::keys;
use super::ops::Op;
use super::records::Kind;
use super::shared::Shared;
use crate::types::BlobId;

/// Kind of the records that remember them.
const KIND: u16 = Kind::Damaged as u16;

/// More are not remembered one by one: something else is wrong then.
const MOST: usize = 100_000;

/// What is known of a damaged body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Damaged {
    /// The file of the log that it lies in.
    pub file: u64,
    pub reason: String,
}

impl Damaged {
    pub(super) fn new(file: u64, reason: impl Into<String>) -> Self {
        Self {
            file,
            reason: reason.into(),
        }
    }
}

#[derive(Default)]
pub(super) struct Quarantine {
    /// With whether it is written down.
    known: Mutex<HashMap<BlobId, (Damaged, bool)>>,
}

impl Quarantine {
    pub(super) fn all(&self) -> HashMap<BlobId, Damaged> {
        let known = self.known.lock();
        known
            .iter()
            .map(|(id, (what, _))| (*id, what.clone()))
            .collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.known.lock().len() as u64
    }

    /// Somebody met it; it is written down at the next check.
    pub(super) fn met(&self, id: BlobId, what: Damaged) {
        let mut known = self.known.lock();
        if known.len() < MOST {
            known.entry(id).or_insert((what, false));
        }
    }

    /// From now on these are the ones. Gives the facts that remember it.
    pub(super) fn replace(&self, damaged: &HashMap<BlobId, Damaged>) -> Vec<Op> {
        let mut known = self.known.lock();
        let mut facts = Vec::new();
        known.retain(|id, (_, written)| {
            let stays = damaged.contains_key(id);
            if !stays && *written {
                facts.push(Op::RecordRemove {
                    kind: KIND,
                    key: id.0.to_vec(),
                });
            }
            stays
        });
        for (id, what) in damaged.iter().take(MOST) {
            let entry = known.entry(*id).or_insert_with(|| (what.clone(), false));
            if !entry.1
                && let Ok(value) = postcard::to_stdvec(what)
            {
                facts.push(Op::RecordPut {
                    kind: KIND,
                    key: id.0.to_vec(),
                    value,
                });
                entry.1 = true;
            }
        }
        facts
    }
}

impl Shared {
    /// Reads what is remembered.
    pub(super) fn note_quarantine(&self) -> Result<(), StoreError> {
        let prefix = keys::named(b'r', &KIND.to_be_bytes());
        let mut found = HashMap::new();
        self.scan(&prefix, &mut |key, value| {
            let id = key.get(prefix.len()..).and_then(|id| id.first_chunk());
            let value: Vec<u8> = keys::decode(value)?;
            let what = postcard::from_bytes::<Damaged>(&value).ok();
            found.extend(id.zip(what).map(|(id, what)| (BlobId(*id), (what, true))));
            Ok(())
        })?;
        *self.quarantine.known.lock() = found;
        self.telemetry.store.quarantined(self.quarantine.len());
        Ok(())
    }
}
