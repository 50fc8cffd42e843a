//! The log: append-only segment files that hold every message body and every change of state.
//!
//! May import: types, the parent's disk and `OpenError`. Nothing outside this folder names its files.
//!
//! Invariants:
//! - A commit group is one frame. It is durable when `append` returned, and only then visible
//!   to readers.
//! - A frame's checksums depend on the store's id and on the frame's own place, so bytes that a
//!   stranger sent as mail never pass for a frame when damage is searched for the next good one.
//! - A file is never shortened except where nothing after the cut was ever acknowledged, as far
//!   as the log and the index can tell.
//! - Sequence numbers start at 1 and only grow; a gap means groups that are missing.

mod blob;
mod files;
mod frame;
mod open;
mod outside;
mod reader;
mod record;
mod scan;
mod versions;
mod writer;

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use outside::{check_header, directory, files_of, number_of, read_only};

use super::disk::Disk;
use super::error::OpenError;
use crate::types::{BlobId, LogPos};

pub(crate) use frame::VERSION;
pub(crate) use versions::look;

/// Of the frames that are written.
pub(crate) const FRAME_VERSION: u32 = frame::FRAME_VERSION as u32;

/// A message body as it will be stored. Made outside the committer, which only copies it.
#[derive(Clone, Debug)]
pub(crate) struct BlobData {
    pub id: BlobId,
    pub raw_len: u64,
    pub chunks: Vec<BlobChunk>,
}

/// One piece of a body, readable alone.
#[derive(Clone, Debug)]
pub(crate) struct BlobChunk {
    /// 0 raw, 1 zstd.
    pub codec: u8,
    pub raw_len: u32,
    /// crc32 of the stored bytes.
    pub crc: u32,
    pub bytes: Bytes,
}

/// Where a body lies: `offset` is that of its record's header, `stored_len` the whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobPlace {
    pub segment: u64,
    pub offset: u64,
    pub stored_len: u64,
    pub raw_len: u64,
}

/// What `append` did: the new end, and the places in order of the blobs.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    pub end: LogPos,
    pub places: Vec<BlobPlace>,
}

/// One commit group as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub seq: u64,
    pub end: LogPos,
    pub blobs: Vec<(BlobId, BlobPlace)>,
    pub ops: Vec<u8>,
}

/// What reading met on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadReport {
    pub frames: u64,
    /// Bytes that belong to no good frame.
    pub damaged_bytes: u64,
    /// Groups that should be there by the sequence numbers around them.
    pub missing_groups: u64,
}

/// What opening met and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenReport {
    pub created: bool,
    pub segments: u64,
    pub blob_files: u64,
    /// Cut off the end: a group that was being written when the power went.
    pub torn_bytes: u64,
    /// Damage that was seen and left as it is, in the newest segment or in headers. `read_from`
    /// finds the rest.
    pub damaged_bytes: u64,
    /// Groups at the end that were acknowledged and can't be read any more.
    pub lost_groups: u64,
    /// The index is of another store, or the place that it gave is not that of its group.
    pub misfit: bool,
}

/// What is known of the log before it is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// The store's id, if it had one.
    pub id: Option<[u8; 16]>,
    /// The id of a store that is new.
    pub new_id: [u8; 16],
    /// The id of the store that the index is of.
    pub index_id: Option<[u8; 16]>,
    /// How far the index had the log: up to there it was acknowledged and is never cut off.
    pub acked: Option<(LogPos, u64)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("an earlier write failed and the log was not recovered yet")]
    Poisoned,
    #[error("a group of {0} bytes is larger than a frame may be")]
    TooLarge(u64),
    #[error("group {given} was given to a log whose last one is {last}")]
    OutOfOrder { given: u64, last: u64 },
    #[error("no file with number {0}")]
    Missing(u64),
    #[error("damaged: {0}")]
    Damaged(&'static str),
    #[error("written by a newer posthorn (format {0})")]
    Newer(u32),
}

impl LogError {
    /// True where the disk had no room for the write.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ))
    }
}

/// The writing end. One per store, owned by the committer.
pub(crate) trait CommitLog: Send {
    /// Writes one commit group and syncs it (fdatasync): when this returns Ok it is durable.
    /// After an error the log refuses every further append until `recover`, and the group that
    /// failed is not in it: its number is to be used again.
    fn append(&mut self, seq: u64, blobs: &[&BlobData], ops: &[u8]) -> Result<Appended, LogError>;
    /// After a failed write: re-reads the tail with fresh descriptors, cuts off what was not
    /// acknowledged, and gives the last good frame's sequence number and end.
    fn recover(&mut self) -> Result<(u64, LogPos), LogError>;
    fn end(&self) -> LogPos;
    /// The next group begins a new segment: the one before it is complete then.
    fn seal(&mut self);
}

/// The reading end. Works while the log is appended to.
pub(crate) trait LogRead: Send + Sync {
    /// Frames after `from` (`LogPos::default()`: from the start), in order, until `each` returns
    /// false or the durable end is reached. Damage in the middle is skipped to the next good
    /// frame and counted. Where the group that ends at `from` is told, groups that are missing
    /// right after it are counted too, and none up to it is given.
    fn read_from(
        &self,
        from: LogPos,
        after: Option<u64>,
        each: &mut dyn FnMut(Frame) -> bool,
    ) -> Result<ReadReport, LogError>;
    /// Numbers and lengths of all segments, ascending, those that are empty too.
    fn segments(&self) -> Result<Vec<(u64, u64)>, LogError>;
    /// The bodies that lie in a segment, by the directories of its good frames, and what else
    /// was met there.
    fn bodies_in(&self, segment: u64) -> Result<(Vec<(BlobId, BlobPlace)>, ReadReport), LogError>;
}

/// Message bodies by place.
pub(crate) trait BlobStore: Send + Sync {
    /// Decompressed and checked; only the chunks needed are read. The range is clipped to the
    /// body's length. Fails if the record at `place` is not that of `id`.
    fn get(&self, id: &BlobId, place: &BlobPlace, range: Range<u64>) -> Result<Bytes, LogError>;
    /// Several bodies whole, as far as they are sound and not large; those that lie side by side
    /// are read with one call. Who gets none for one asks for it alone, and hears why.
    fn get_many(&self, wanted: &[(BlobId, BlobPlace)]) -> Vec<Option<Bytes>> {
        let get = |(id, place): &(BlobId, BlobPlace)| self.get(id, place, 0..place.raw_len).ok();
        wanted.iter().map(get).collect()
    }
    /// For bodies that are over [`LARGE_BLOB`] stored: written to a file of its own by the
    /// caller's thread and synced before this returns. The commit group then only names it.
    fn put_large(&self, blob: &BlobData) -> Result<BlobPlace, LogError>;
    /// Removes the file of a body that is in one of its own, and that no group names or will.
    fn remove(&self, place: &BlobPlace) -> Result<(), LogError>;
    /// The bodies that are in files of their own. None: it can't be read which body it is.
    fn own_files(&self) -> Result<Vec<(Option<BlobId>, BlobPlace)>, LogError>;
    /// The body as it is stored, checked, to be written in another place.
    fn stored(&self, id: &BlobId, place: &BlobPlace) -> Result<BlobData, LogError>;
    /// Reads it through: an error where it is not what was written.
    fn check(&self, id: &BlobId, place: &BlobPlace) -> Result<(), LogError>;
    /// Removes a segment that no place and no replay needs. What is written to, or comes after
    /// it, is refused. The name is gone for good when this returns.
    fn remove_segment(&self, segment: u64) -> Result<(), LogError>;
    /// As `put_large`, from a stream of exactly `raw_len` bytes, one chunk in memory at a time.
    fn put_large_from(
        &self,
        id: BlobId,
        raw: &mut dyn std::io::Read,
        raw_len: u64,
    ) -> Result<BlobPlace, LogError>;
}

/// Bodies that are stored in more bytes than this go to a file of their own.
pub(crate) const LARGE_BLOB: u64 = 4 * 1024 * 1024;

/// True where the body is in a file of its own: no record of a frame lies so near to the
/// beginning of a segment.
pub(crate) fn has_own_file(place: &BlobPlace) -> bool {
    place.offset == frame::FILE_HEADER as u64
}

/// An open log.
pub(crate) struct Opened {
    pub log: Box<dyn CommitLog>,
    pub reader: Arc<dyn LogRead>,
    pub blobs: Arc<dyn BlobStore>,
    /// 0 where there is no frame yet.
    pub last_seq: u64,
    pub end: LogPos,
    /// Bytes of all files of the log.
    pub bytes: u64,
    pub report: OpenReport,
    pub store_id: [u8; 16],
}

/// Opens `dir/log`, or makes it. The caller holds the store's lock.
pub(crate) fn open_files(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    segment_bytes: u64,
    known: Known,
) -> Result<Opened, OpenError> {
    open::open(disk, dir, segment_bytes, known).map(open::Parts::finish)
}

/// A log in memory, for tests.
#[cfg(test)]
pub(crate) fn open_memory() -> Opened {
    memory::open()
}

/// For the fuzzer: any bytes are a frame, a good one or a bad one, and never a crash.
#[doc(hidden)]
pub fn fuzz_frame(data: &[u8]) {
    frame::fuzz(data);
    record::fuzz(data);
}
