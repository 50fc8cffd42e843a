//! A message made ready outside the committer: parsed, compressed, checksummed.
//!
//! May import: mail, types.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::error::StoreError;
use super::log::{BlobData, BlobPlace, BlobStore, LARGE_BLOB};
use crate::mail::Summary;
use crate::types::BlobId;

/// Summaries above this are not kept: the message describes itself when it is asked for.
const MAX_SUMMARY: usize = 3072;
/// Large messages that may be in memory at the same time while they are parsed.
const LARGE_AT_ONCE: usize = 2;

pub(super) enum Body {
    Small(Arc<BlobData>),
    /// A spooled message whose body goes to a file of its own.
    Large(Arc<Mutex<std::fs::File>>),
}

/// A message body ready to be committed. Cheap to clone: several recipients share it.
#[derive(Clone)]
pub struct Prepared {
    pub(super) id: BlobId,
    raw_len: u64,
    pub(super) summary: Option<Box<Summary>>,
    body: Arc<Body>,
}

fn new_id() -> BlobId {
    let mut id = [0; 16];
    // It fails only where the system has no randomness at all; then the id repeats, and the
    // committer refuses it.
    let _ = SystemRandom::new().fill(&mut id);
    BlobId(id)
}

fn summary_of(raw: &[u8]) -> Option<Box<Summary>> {
    let summary = crate::mail::summarize(raw);
    let size = summary.envelope.len() + summary.body_structure.len();
    (size <= MAX_SUMMARY).then(|| Box::new(summary))
}

impl Prepared {
    /// From a message in memory. CPU-bound: about 50 µs for 4 KiB; call it off the runtime's
    /// threads for anything large.
    pub fn from_bytes(raw: Bytes) -> Self {
        let id = new_id();
        Self {
            id,
            raw_len: raw.len() as u64,
            summary: summary_of(&raw),
            body: Arc::new(Body::Small(Arc::new(BlobData::compress(id, &raw)))),
        }
    }

    /// From a spool file that holds the message from offset 0 to `len`. Blocking.
    pub fn from_spool(mut file: std::fs::File, len: u64) -> Result<Self, StoreError> {
        let _place = Places::take();
        let broken = |error: std::io::Error| StoreError::Write(format!("spool file: {error}"));
        file.seek(SeekFrom::Start(0)).map_err(broken)?;
        let mut raw = Vec::with_capacity(len as usize);
        (&mut file)
            .take(len)
            .read_to_end(&mut raw)
            .map_err(broken)?;
        if raw.len() as u64 != len {
            return Err(StoreError::Write("the spool file is too short".into()));
        }
        if len <= LARGE_BLOB {
            return Ok(Self::from_bytes(raw.into()));
        }
        Ok(Self {
            id: new_id(),
            raw_len: len,
            summary: summary_of(&raw),
            body: Arc::new(Body::Large(Arc::new(Mutex::new(file)))),
        })
    }

    pub fn raw_len(&self) -> u64 {
        self.raw_len
    }

    /// What goes into the commit's frame; a large body is written and synced now. Blocking
    /// where it is large.
    pub(super) fn settle(&self, blobs: &dyn BlobStore) -> Result<Settled, StoreError> {
        let failed = |error: super::log::LogError| match error.is_disk_full() {
            true => StoreError::DiskFull,
            false => StoreError::Write(error.to_string()),
        };
        match &*self.body {
            Body::Small(data) if data.stored_len() > LARGE_BLOB => {
                Ok(Settled::Placed(blobs.put_large(data).map_err(failed)?))
            }
            Body::Small(data) => Ok(Settled::Inline(data.clone())),
            Body::Large(file) => {
                let mut file = file.lock();
                file.seek(SeekFrom::Start(0))
                    .map_err(|error| StoreError::Write(format!("spool file: {error}")))?;
                let place = blobs.put_large_from(self.id, &mut *file, self.raw_len);
                Ok(Settled::Placed(place.map_err(failed)?))
            }
        }
    }

    pub(super) fn is_large(&self) -> bool {
        self.raw_len > LARGE_BLOB
    }
}

/// Where a body is when its commit is made.
pub(super) enum Settled {
    Inline(Arc<BlobData>),
    Placed(BlobPlace),
}

impl Settled {
    /// Bytes that it adds to the frame.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Inline(data) => data.stored_len() as usize,
            Self::Placed(_) => 0,
        }
    }
}

/// A place among those who hold a large message in memory.
struct Places;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Places {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        while *taken >= LARGE_AT_ONCE {
            FREED.wait(&mut taken);
        }
        *taken += 1;
        Self
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        *TAKEN.lock() -= 1;
        FREED.notify_one();
    }
}
