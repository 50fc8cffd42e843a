//! The index as it was at one group, read piece by piece while later groups are applied to it.
//!
//! May import: the engine.
//!
//! An engine's iterator is no snapshot. So whoever applies a batch first keeps the old values of
//! those of its keys that were not read yet, and the reader takes those instead. Memory: keys
//! that change between the start and when the reader comes by; beyond a limit the capture is
//! given up.
//!
//! Invariant: the lock of the capture is held while a batch is applied and while a piece is
//! read, so each piece is of one state.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::engine::{Applied, Batch, Index, IndexError};

/// A piece takes no longer than this, so nobody waits longer for the lock.
const PIECE: Duration = Duration::from_millis(4);
const PIECE_RECORDS: usize = 512;

struct State {
    index: Arc<dyn Index>,
    /// All keys before it were read.
    cursor: Vec<u8>,
    /// Values at the start, of keys from the cursor on that changed since.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    limit: usize,
}

/// At most one is under way.
#[derive(Default)]
pub(in crate::store) struct Capture {
    state: Mutex<Option<State>>,
}

/// Why there is no more to read.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Ended {
    #[error("another one is being taken")]
    Busy,
    #[error("the index was replaced, or too much of it changed meanwhile")]
    Overrun,
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Records of a piece, and whether it was the last one.
pub(in crate::store) struct Piece {
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    pub last: bool,
    /// Share of the memory that is used, in percent.
    pub pressure: usize,
}

impl Capture {
    /// From now on what changes is kept, up to `limit` bytes. Gives the place of the state.
    pub(in crate::store) fn begin(
        &self,
        index: Arc<dyn Index>,
        limit: usize,
    ) -> Result<Option<Applied>, Ended> {
        let mut state = self.state.lock();
        if state.is_some() {
            return Err(Ended::Busy);
        }
        let at = index.applied()?;
        *state = Some(State {
            index,
            cursor: Vec::new(),
            before: BTreeMap::new(),
            bytes: 0,
            limit,
        });
        Ok(at)
    }

    /// Applies `batch` to `index` and keeps what a reader still needs of before.
    pub(in crate::store) fn apply(
        &self,
        index: &Arc<dyn Index>,
        batch: Batch,
        applied: Applied,
    ) -> Result<(), IndexError> {
        let mut state = self.state.lock();
        let kept = match &mut *state {
            Some(state) if Arc::ptr_eq(&state.index, index) => state.keep(&batch)?,
            _ => true,
        };
        if !kept {
            *state = None;
        }
        index.apply(batch, applied)
    }

    /// The next piece.
    pub(in crate::store) fn piece(&self) -> Result<Piece, Ended> {
        let mut held = self.state.lock();
        let Some(state) = &mut *held else {
            return Err(Ended::Overrun);
        };
        state.piece()
    }

    /// Ends it. The index was replaced, or all was read.
    pub(in crate::store) fn end(&self) {
        *self.state.lock() = None;
    }
}

impl State {
    /// False where that would take too much memory.
    fn keep(&mut self, batch: &Batch) -> Result<bool, IndexError> {
        for (key, _) in batch {
            if key[..] < self.cursor[..] || self.before.contains_key(key) {
                continue;
            }
            let old = self.index.get(key)?;
            // A node of the map beside what is in it.
            self.bytes += 2 * key.len() + old.as_ref().map_or(0, Vec::len) + 96;
            self.before.insert(key.clone(), old);
        }
        Ok(self.bytes <= self.limit)
    }

    fn piece(&mut self) -> Result<Piece, Ended> {
        let started = Instant::now();
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut last = true;
        let mut passed = None;
        let (index, before, from) = (&self.index, &self.before, &self.cursor);
        index.scan(&[], Some(from), &mut |key, value| {
            if !before.contains_key(key) {
                records.push((key.to_vec(), value.to_vec()));
            }
            passed = Some(key.to_vec());
            let more = records.len() < PIECE_RECORDS
                && (!records.len().is_multiple_of(32) || started.elapsed() < PIECE);
            last &= more;
            more
        })?;
        // What is gone by now lies between those that are there.
        let until = match (&passed, last) {
            (Some(key), false) => Bound::Included(key.clone()),
            _ => Bound::Unbounded,
        };
        let kept: Vec<Vec<u8>> = self
            .before
            .range((Bound::Included(self.cursor.clone()), until))
            .map(|(key, _)| key.clone())
            .collect();
        let merged = !kept.is_empty();
        for key in kept {
            if let Some(old) = self.before.remove(&key) {
                self.bytes = self
                    .bytes
                    .saturating_sub(2 * key.len() + old.as_ref().map_or(0, Vec::len) + 96);
                if let Some(old) = old {
                    records.push((key, old));
                }
            }
        }
        if merged {
            records.sort_unstable();
        }
        if let (Some(mut key), false) = (passed, last) {
            key.push(0);
            self.cursor = key;
        }
        records.retain(|(key, _)| super::tally::concerns(key));
        Ok(Piece {
            records,
            last,
            pressure: self.bytes.saturating_mul(100) / self.limit.max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::MemoryIndex;
    use crate::types::LogPos;
    use proptest::prelude::*;

    fn applied(seq: u64) -> Applied {
        Applied {
            store: [1; 16],
            at: LogPos {
                segment: 1,
                offset: seq,
            },
            seq,
        }
    }

    type Change = (u16, Option<u8>);

    fn batch(changes: &[Change]) -> Batch {
        let key = |n: &u16| [b"m".to_vec(), n.to_be_bytes().to_vec()].concat();
        let put = |(n, value): &Change| (key(n), value.map(|v| vec![v; 3]));
        // The last change of a key counts.
        let all: BTreeMap<_, _> = changes.iter().map(put).collect();
        all.into_iter().collect()
    }

    fn all(index: &dyn Index) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        let scanned = index.scan(&[], None, &mut |key, value| {
            out.push((key.to_vec(), value.to_vec()));
            true
        });
        scanned.unwrap();
        out.retain(|(key, _)| super::super::tally::concerns(key));
        out
    }

    proptest! {
        #[test]
        fn what_comes_later_is_not_seen(
            first in proptest::collection::vec((0..3000_u16, any::<Option<u8>>()), 0..3000),
            later in proptest::collection::vec(
                proptest::collection::vec((0..3000_u16, any::<Option<u8>>()), 0..400), 0..12),
        ) {
            let index: Arc<dyn Index> = Arc::new(MemoryIndex::default());
            index.apply(batch(&first), applied(1)).unwrap();
            let want = all(&*index);
            let capture = Capture::default();
            prop_assert_eq!(capture.begin(index.clone(), 1 << 20).unwrap(), Some(applied(1)));
            prop_assert!(matches!(capture.begin(index.clone(), 1), Err(Ended::Busy)));
            let mut later = later.iter();
            let mut got = Vec::new();
            for seq in 2.. {
                if let Some(changes) = later.next() {
                    capture.apply(&index, batch(changes), applied(seq)).unwrap();
                }
                let piece = capture.piece().unwrap();
                got.extend(piece.records);
                if piece.last {
                    break;
                }
            }
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn it_is_given_up_before_it_takes_too_much() {
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::default());
        let capture = Capture::default();
        capture.begin(index.clone(), 300).unwrap();
        capture
            .apply(&index, batch(&[(1, Some(1)), (2, Some(2))]), applied(1))
            .unwrap();
        capture
            .apply(&index, batch(&[(3, Some(1)), (4, Some(2))]), applied(2))
            .unwrap();
        assert!(matches!(capture.piece(), Err(Ended::Overrun)));
        assert_eq!(all(&*index).len(), 4);
    }
}
