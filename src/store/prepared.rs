//! A message made ready outside the committer: parsed, compressed, checksummed.
//!
//! May import: mail, types.

use std::io::{Read, Seek};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::error::StoreError;
use super::log::{BlobData, BlobPlace, BlobStore, LARGE_BLOB};
use super::packed::Kept;
use crate::mail::{StructureReader, Summary, summarize_headers};
use crate::types::BlobId;

/// Summaries above this are not kept: the message describes itself when it is asked for.
const MAX_SUMMARY: usize = 3072;
/// Headers of a large message's parts that are in memory at a time; with more of them it
/// describes itself when it is asked for.
const MAX_HEADERS: usize = 1024 * 1024;
/// What is read of it at a time.
const PIECE: usize = 64 * 1024;

pub(super) enum Body {
    Small(Arc<BlobData>),
    /// A spooled message whose body goes to a file of its own: its beginning, and a file that
    /// holds the rest.
    Large(Arc<Mutex<(Vec<u8>, std::fs::File)>>),
}

/// A message body ready to be committed. Cheap to clone: several recipients share it.
#[derive(Clone)]
pub struct Prepared {
    /// None: the system gave no random bytes, so the message can't be kept.
    id: Option<BlobId>,
    raw_len: u64,
    pub(super) summary: Kept,
    body: Arc<Body>,
    /// Its place among those that may be in memory.
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

/// Never given twice: two bodies with one id would be taken for one.
fn new_id() -> Option<BlobId> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.ok().map(|()| BlobId(id))
}

fn summary_of(raw: &[u8]) -> Kept {
    keep(crate::mail::summarize(raw))
}

fn keep(summary: Summary) -> Kept {
    let size = summary.envelope.len() + summary.body_structure.len();
    match size <= MAX_SUMMARY {
        true => Kept::pack(summary),
        false => Kept::Nothing,
    }
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
            body: Arc::new(Body::Small(Arc::new(BlobData::compress(
                id.unwrap_or(BlobId([0; 16])),
                &raw,
            )))),
            _room: None,
        }
    }

    /// From its beginning and a file that holds the other `len` bytes. Blocking. What is not
    /// larger than [`LARGE_BLOB`] is in memory from now on; of others only headers and a piece
    /// are meanwhile.
    pub(super) fn from_spool(
        head: Vec<u8>,
        file: std::fs::File,
        len: u64,
    ) -> Result<Self, StoreError> {
        let broken = |error: std::io::Error| StoreError::Write(format!("spool file: {error}"));
        let short = || StoreError::Write("the spool file is too short".into());
        let raw_len = head.len() as u64 + len;
        let mut rest = (&file).take(len);
        if raw_len <= LARGE_BLOB {
            let mut raw = head;
            raw.reserve_exact(len as usize);
            rest.read_to_end(&mut raw).map_err(broken)?;
            return match raw.len() as u64 == raw_len {
                true => Ok(Self::from_bytes(raw.into())),
                false => Err(short()),
            };
        }
        let mut reader = StructureReader::new(MAX_HEADERS);
        reader.feed(&head);
        let mut piece = vec![0; PIECE];
        let mut read = 0;
        while read < len {
            match rest.read(&mut piece).map_err(broken)? {
                0 => return Err(short()),
                n => {
                    reader.feed(piece.get(..n).unwrap_or_default());
                    read += n as u64;
                }
            }
        }
        let (structure, headers) = reader.finish();
        let summary = headers.map(|headers| summarize_headers(&structure, &headers));
        Ok(Self {
            id: new_id(),
            raw_len,
            summary: summary.map_or(Kept::Nothing, keep),
            body: Arc::new(Body::Large(Arc::new(Mutex::new((head, file))))),
            _room: None,
        })
    }

    /// Gives the place back when the last clone is gone.
    pub(super) fn holding(self, room: OwnedSemaphorePermit) -> Self {
        self.holding_with(Arc::new(room))
    }

    /// The same, of a place that others share.
    pub(super) fn holding_with(mut self, room: Arc<OwnedSemaphorePermit>) -> Self {
        self._room = Some(room);
        self
    }

    pub fn raw_len(&self) -> u64 {
        self.raw_len
    }

    pub(super) fn id(&self) -> Result<BlobId, StoreError> {
        let none = || StoreError::Write("the system gives no random bytes".into());
        self.id.ok_or_else(none)
    }

    /// What goes into the commit's frame; a large body is written and synced now. Blocking
    /// where it is large.
    pub(super) fn settle(&self, blobs: &Arc<dyn BlobStore>) -> Result<Settled, StoreError> {
        let id = self.id()?;
        let place = match &*self.body {
            Body::Small(data) if data.stored_len() > LARGE_BLOB => blobs.put_large(data),
            Body::Small(data) => return Ok(Settled::Inline(data.clone())),
            Body::Large(file) => {
                let (head, file) = &mut *file.lock();
                file.rewind()
                    .map_err(|error| StoreError::Write(format!("spool file: {error}")))?;
                blobs.put_large_from(id, &mut head.chain(file), self.raw_len)
            }
        };
        Ok(Settled::Placed(Placed {
            place: place?,
            blobs: blobs.clone(),
            kept: false,
        }))
    }

    /// As `settle`, but to a file of its own whatever its size. Blocking.
    pub(super) fn settle_apart(&self, blobs: &Arc<dyn BlobStore>) -> Result<Settled, StoreError> {
        match &*self.body {
            Body::Small(data) => Ok(Settled::Placed(Placed {
                place: blobs.put_large(data)?,
                blobs: blobs.clone(),
                kept: false,
            })),
            Body::Large(_) => self.settle(blobs),
        }
    }

    /// What it adds to the frame.
    pub(super) fn weight(&self) -> u64 {
        match &*self.body {
            Body::Small(data) if data.stored_len() <= LARGE_BLOB => data.stored_len(),
            _ => 0,
        }
    }

    /// It goes to a file of its own, which takes time.
    pub(super) fn is_large(&self) -> bool {
        match &*self.body {
            Body::Small(data) => data.stored_len() > LARGE_BLOB,
            Body::Large(_) => true,
        }
    }
}

/// Where a body is when its commit is made.
pub(super) enum Settled {
    Inline(Arc<BlobData>),
    Placed(Placed),
}

/// A body in a file of its own, which goes again unless a group that names it is in the log.
pub(super) struct Placed {
    pub(super) place: BlobPlace,
    blobs: Arc<dyn BlobStore>,
    kept: bool,
}

impl Placed {
    /// A group names it, or may.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.blobs.remove(&self.place)
        {
            tracing::warn!(%error, "the file of a message that was refused could not be removed");
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_large_message_is_summarized_in_pieces() {
        use std::io::Write;

        let part = |kind: &str| format!("--b\r\nContent-Type: {kind}\r\n\r\nx\r\n");
        let line = format!("{}\r\n", "A".repeat(76)).repeat(60_000);
        let top =
            "From: Ann <a@x.test>\r\nSubject: Pieces\r\nContent-Type: multipart/mixed; boundary=b";
        let raw = format!(
            "{top}\r\n\r\n{}{}{line}\r\n--b--\r\n",
            part("text/plain"),
            part("text/html; charset=utf-8")
        );
        assert!(raw.len() as u64 > LARGE_BLOB);
        let spooled = |head: usize| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&raw.as_bytes()[head..]).unwrap();
            file.rewind().unwrap();
            let head = raw.as_bytes()[..head].to_vec();
            let len = raw.len() - head.len();
            Prepared::from_spool(head, file, len as u64).unwrap()
        };
        for head in [0, 10, top.len() + 3] {
            let summary = spooled(head).summary.unpack();
            assert_eq!(summary, summary_of(raw.as_bytes()).unpack());
            let kept = summary.plain().unwrap();
            assert_eq!((&*kept.from, &*kept.subject), ("Ann", "Pieces"));
        }
    }

    #[test]
    fn large_is_what_goes_to_a_file_of_its_own() {
        let noise = |len: u64| {
            let mut state = 1u64;
            let bytes = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005) | 1;
                state = state.wrapping_add(state >> 29);
                (state >> 40) as u8
            });
            Prepared::from_bytes(bytes.take(len as usize).collect::<Vec<_>>().into())
        };
        // With its header it is over the limit, without it is not.
        assert!(noise(LARGE_BLOB - 10).is_large());
        assert!(!noise(LARGE_BLOB - 100_000).is_large());
        let shrinks = Prepared::from_bytes(vec![b'x'; LARGE_BLOB as usize + 10].into());
        assert!(!shrinks.is_large());
    }
}
