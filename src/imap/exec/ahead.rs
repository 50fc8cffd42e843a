//! Bodies that FETCH reads before it comes to them.
//!
//! May import: store, types.

use bytes::Bytes;

use crate::store::{MessageRecord, Store};
use crate::types::BlobId;

/// Bodies of the messages that come next: small ones, read together.
#[derive(Default)]
pub(super) struct Ahead {
    /// Place of the first among the records of the window.
    first: usize,
    bodies: Vec<Option<Bytes>>,
}

/// Bytes of bodies that are held at a time.
const AHEAD: u64 = 256 * 1024;

impl Ahead {
    /// Reads on from `at`, unless that is here.
    pub(super) fn read(&mut self, store: &Store, records: &[(u32, MessageRecord)], at: usize) {
        if at < self.first + self.bodies.len() {
            return;
        }
        let mut bytes = 0;
        let next = records.iter().skip(at).take_while(|(_, record)| {
            bytes += record.size;
            bytes <= AHEAD
        });
        let blobs: Vec<BlobId> = next.map(|(_, record)| record.blob).collect();
        self.first = at;
        self.bodies = if blobs.len() > 1 {
            store.bodies(&blobs)
        } else {
            Vec::new()
        };
    }

    pub(super) fn body(&self, at: usize) -> Option<&Bytes> {
        self.bodies.get(at.checked_sub(self.first)?)?.as_ref()
    }
}
