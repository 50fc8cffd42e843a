//! Bodies that FETCH reads before it comes to them.
//!
//! May import: store, types.
//!
//! They are read in batches: by whoever writes the answer, and by another thread meanwhile.
//!
//! Invariant: no more than about `AHEAD` bytes of bodies are held at a time.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::aside;
use crate::store::{MessageRecord, Store};
use crate::types::BlobId;

/// Bytes of bodies that are held at a time.
const AHEAD: u64 = 256 * 1024;
/// Bytes of those that are read together.
const TOGETHER: u64 = 32 * 1024;

/// Bodies of the messages of one window: small ones.
pub(super) struct Ahead {
    shared: Option<Arc<Shared>>,
    /// The batch that is here.
    number: Option<usize>,
    here: Vec<Option<Bytes>>,
}

struct Shared {
    store: Store,
    batches: Vec<Batch>,
    state: Mutex<State>,
    /// A batch was read.
    read: Condvar,
}

struct Batch {
    /// Place of the first among the records of the window.
    first: usize,
    blobs: Vec<BlobId>,
    bytes: u64,
}

#[derive(Default)]
struct State {
    /// The first batch that nobody reads or has read.
    next: usize,
    /// Bytes that are read, or being read, and not given up.
    held: u64,
    /// Another thread reads.
    helped: bool,
    done: Vec<Option<Vec<Option<Bytes>>>>,
    /// Nobody wants more.
    over: bool,
}

impl Ahead {
    pub(super) fn new(store: &Store, records: &[(u32, MessageRecord)]) -> Self {
        let batches = batches(records.iter().map(|(_, record)| (record.blob, record.size)));
        // One alone is read as far as it is asked for.
        let worth = batches.iter().map(|batch| batch.blobs.len()).sum::<usize>() > 1;
        let shared = worth.then(|| {
            let done = batches.iter().map(|_| None).collect();
            Arc::new(Shared {
                store: store.clone(),
                batches,
                state: Mutex::new(State {
                    done,
                    ..State::default()
                }),
                read: Condvar::new(),
            })
        });
        Self {
            shared,
            number: None,
            here: Vec::new(),
        }
    }

    /// The body of the record at that place, where it was read ahead. Places rise.
    pub(super) fn body(&mut self, at: usize) -> Option<&Bytes> {
        let shared = self.shared.as_ref()?;
        let number = shared.batches.partition_point(|b| b.first <= at);
        let number = number.checked_sub(1)?;
        let batch = shared.batches.get(number)?;
        let place = at - batch.first;
        if place >= batch.blobs.len() {
            return None;
        }
        if self.number != Some(number) {
            if self.number > Some(number) {
                return None;
            }
            let last = self.number.and_then(|last| shared.batches.get(last));
            self.here = Vec::new();
            self.here = shared.take(number, last.map_or(0, |last| last.bytes));
            self.number = Some(number);
        }
        self.here.get(place)?.as_ref()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.state.lock().over = true;
        }
    }
}

/// Messages that are too large to be read ahead are in none.
fn batches(records: impl Iterator<Item = (BlobId, u64)>) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    for (place, (blob, size)) in records.enumerate() {
        if size > AHEAD {
            continue;
        }
        match all.last_mut() {
            Some(last)
                if last.first + last.blobs.len() == place && last.bytes + size <= TOGETHER =>
            {
                last.blobs.push(blob);
                last.bytes += size;
            }
            _ => all.push(Batch {
                first: place,
                blobs: vec![blob],
                bytes: size,
            }),
        }
    }
    all
}

impl Shared {
    /// A batch that is not begun, where there is room for it; `wanted` is read in any case.
    fn claim(&self, state: &mut State, wanted: Option<usize>) -> Option<usize> {
        let next = state.next;
        let bytes = self.batches.get(next)?.bytes;
        let asked = wanted.is_some_and(|wanted| next <= wanted);
        if state.over || !asked && state.held + bytes > AHEAD {
            return None;
        }
        state.next += 1;
        state.held += bytes;
        Some(next)
    }

    fn read(&self, number: usize) {
        // Whatever happens, nobody waits for it for ever.
        let mut reading = Reading {
            shared: self,
            number,
            bodies: Vec::new(),
        };
        if let Some(batch) = self.batches.get(number) {
            reading.bodies = self.store.bodies(&batch.blobs);
        }
    }

    /// The bodies of a batch; of another one so many bytes were given up.
    fn take(self: &Arc<Self>, number: usize, given_up: u64) -> Vec<Option<Bytes>> {
        let mut state = self.state.lock();
        state.held = state.held.saturating_sub(given_up);
        loop {
            self.get_help(&mut state, number);
            if let Some(bodies) = state.done.get_mut(number).and_then(Option::take) {
                return bodies;
            }
            match self.claim(&mut state, Some(number)) {
                Some(claimed) => {
                    drop(state);
                    self.read(claimed);
                    state = self.state.lock();
                }
                None => aside(|| self.read.wait(&mut state)),
            }
        }
    }

    /// Where there is enough to be done beside batch `number`.
    fn get_help(self: &Arc<Self>, state: &mut State, number: usize) {
        let next = state.next.max(number + 1);
        if state.helped || next >= self.batches.len() || state.held * 2 > AHEAD {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            state.helped = true;
            let shared = self.clone();
            runtime.spawn_blocking(move || shared.help());
        }
    }

    fn help(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(claimed) = self.claim(&mut state, None) else {
                state.helped = false;
                return;
            };
            drop(state);
            self.read(claimed);
        }
    }
}

/// A batch that somebody reads.
struct Reading<'a> {
    shared: &'a Shared,
    number: usize,
    bodies: Vec<Option<Bytes>>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(done) = state.done.get_mut(self.number) {
            *done = Some(std::mem::take(&mut self.bodies));
        }
        self.shared.read.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ones_are_read_together_and_large_ones_alone() {
        let sizes = [
            20_000,
            10_000,
            5_000,
            AHEAD + 1,
            1,
            TOGETHER - 1,
            1,
            AHEAD,
            1,
        ];
        let records = sizes.into_iter().map(|size| (BlobId([0; 16]), size));
        let found: Vec<(usize, usize)> = batches(records)
            .iter()
            .map(|batch| (batch.first, batch.blobs.len()))
            .collect();
        assert_eq!(found, [(0, 2), (2, 1), (4, 2), (6, 1), (7, 1), (8, 1)]);
    }
}
