//! The index in memory, for tests of what is above it. It keeps the same rules as sled's.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::{APPLIED, Applied, Batch, Index, IndexError, check, decode_applied, encode_applied};

/// A `BTreeMap` behind a lock.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Index for MemoryIndex {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        check(&batch)?;
        let mut map = self.map.write();
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        map.insert(APPLIED.to_vec(), encode_applied(applied));
        Ok(())
    }

    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        check(&batch)?;
        let mut map = self.map.write();
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.map.read().get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let start = from.map_or(prefix, |from| from.max(prefix)).to_vec();
        for (key, value) in self.map.read().range(start..) {
            if !key.starts_with(prefix) || !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.get(APPLIED)?
            .as_deref()
            .map(decode_applied)
            .transpose()
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        0
    }
}
