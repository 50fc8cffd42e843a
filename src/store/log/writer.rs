//! Appends commit groups to segments.
//!
//! May import: `files`, `frame`, `record`, `scan`, the disk and the parent's types.
//!
//! | after | on disk | next |
//! |---|---|---|
//! | `append` Ok | the frame, synced | `append` |
//! | `append` Err | perhaps part of the frame, after the durable end | `recover` only |
//! | `recover` Ok | nothing after the durable end | `append`, into a new segment |
//! | `recover` Err | as before | `recover` again |
//!
//! A descriptor on which a write or a sync failed is never written to again: the kernel may have
//! dropped the pages and call the next sync a success. That is also why `recover` does not keep
//! a frame that it finds whole but that was not acknowledged.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::super::disk::DiskFile;
use super::files::{self, Made, Shared, failed};
use super::frame::{self, FILE_HEADER, FRAME_HEADER, FileKind, FrameHeader, MAX_PAYLOAD, Seed};
use super::record::RecordHeader;
use super::scan::Scan;
use super::{Appended, BlobData, BlobPlace, CommitLog, LogError};
use crate::types::LogPos;

/// Frames up to this size are put together in a buffer; larger ones are written from where
/// their parts are.
const GATHER: u64 = 256 * 1024;

pub(super) struct FileLog {
    pub(super) shared: Arc<Shared>,
    pub(super) segment_bytes: u64,
    /// The segment that is written to.
    pub(super) active: Active,
    pub(super) last_seq: u64,
    /// Where the last frame starts; none where the active segment has no frame yet.
    pub(super) last_start: Option<u64>,
    /// Empty segments that are on disk already, all newer than the active one.
    pub(super) spare: VecDeque<u64>,
    preparing: Option<JoinHandle<Result<Made, LogError>>>,
    poisoned: bool,
    must_roll: bool,
    buffer: Vec<u8>,
    #[cfg(test)]
    pub(super) faults: Option<Arc<super::faulty::Faults>>,
}

pub(super) struct Active {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) offset: u64,
    pub(super) seed: Seed,
}

impl FileLog {
    pub(super) fn new(
        shared: Arc<Shared>,
        segment_bytes: u64,
        active: Active,
        last_seq: u64,
        last_start: Option<u64>,
        spare: VecDeque<u64>,
    ) -> Self {
        Self {
            shared,
            segment_bytes,
            active,
            last_seq,
            last_start,
            spare,
            preparing: None,
            poisoned: false,
            must_roll: false,
            buffer: Vec::new(),
            #[cfg(test)]
            faults: None,
        }
    }

    fn path(&self) -> PathBuf {
        self.shared
            .dir
            .join(files::name(FileKind::Segment, self.active.number))
    }

    /// Goes on to the next segment, which is made now unless it was prepared.
    fn roll(&mut self) -> Result<(), LogError> {
        let prepared = match self.preparing.take() {
            Some(thread) => thread.join().ok().and_then(Result::ok),
            None => None,
        };
        let (number, file) = if let Some(number) = self.spare.pop_front() {
            if let Some((later, _)) = prepared {
                self.spare.push_back(later);
            }
            let path = self.shared.dir.join(files::name(FileKind::Segment, number));
            let file = self.shared.disk.open_write(&path);
            (number, file.map_err(|e| failed(&path, e))?)
        } else if let Some(prepared) = prepared {
            prepared
        } else {
            self.shared.create_segment()?
        };
        self.active = Active {
            number,
            file,
            offset: FILE_HEADER as u64,
            seed: Seed::new(&self.shared.store_id, number),
        };
        self.last_start = None;
        self.must_roll = false;
        Ok(())
    }

    /// Makes the next segment beside the work, so that no group waits for its two syncs.
    fn prepare_ahead(&mut self) {
        let near = self.active.offset > self.segment_bytes / 4 * 3;
        if !near || self.preparing.is_some() || !self.spare.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        // Without a thread the segment is made when it is needed.
        self.preparing = std::thread::Builder::new()
            .name("log-prepare".into())
            .spawn(move || shared.create_segment())
            .ok();
    }

    fn write(&mut self, pieces: &[&[u8]], len: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fault) = self.faults.as_ref().and_then(|faults| faults.on_append()) {
            return Err(fault.strike(&*self.active.file, self.active.offset, pieces));
        }
        let Active { file, offset, .. } = &self.active;
        if len <= GATHER {
            self.buffer.clear();
            pieces
                .iter()
                .for_each(|piece| self.buffer.extend_from_slice(piece));
            file.write_all_at(&self.buffer, *offset)?;
        } else {
            file.write_gathered_at(pieces, *offset)?;
        }
        file.sync_data()
    }
}

impl CommitLog for FileLog {
    fn append(&mut self, seq: u64, blobs: &[&BlobData], ops: &[u8]) -> Result<Appended, LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        // From here on only success lifts it.
        self.poisoned = true;
        if seq <= self.last_seq {
            return Err(LogError::OutOfOrder {
                given: seq,
                last: self.last_seq,
            });
        }
        let blobs_len: u64 = blobs.iter().map(|blob| blob.stored_len()).sum();
        let directory = frame::directory(
            blobs
                .iter()
                .map(|blob| (blob.id, blob.stored_len(), blob.raw_len)),
        );
        let payload_len = blobs_len + (directory.len() + ops.len()) as u64;
        if payload_len > MAX_PAYLOAD {
            return Err(LogError::TooLarge(payload_len));
        }
        let frame_len = FRAME_HEADER as u64 + payload_len;
        let full = self.active.offset.saturating_add(frame_len) > self.segment_bytes;
        if self.active.offset > FILE_HEADER as u64 && (full || self.must_roll) {
            self.roll()?;
        }

        let start = self.active.offset;
        let headers: Vec<Vec<u8>> = blobs
            .iter()
            .map(|blob| RecordHeader::of(blob).encode())
            .collect();
        let mut places = Vec::with_capacity(blobs.len());
        let mut at = start + FRAME_HEADER as u64;
        let mut pieces: Vec<&[u8]> = vec![&[]];
        for (blob, header) in blobs.iter().zip(&headers) {
            let stored_len = blob.stored_len();
            places.push(BlobPlace {
                segment: self.active.number,
                offset: at,
                stored_len,
                raw_len: blob.raw_len,
            });
            at += stored_len;
            pieces.extend(blob.pieces(header));
        }
        let tail = [&directory[..], ops];
        pieces.extend(tail);
        let header = FrameHeader {
            seq,
            blob_count: blobs.len() as u32,
            blobs_len,
            ops_len: ops.len() as u64,
            tail_crc: self.active.seed.tail_crc(start, &tail),
        }
        .encode(&self.active.seed, start);
        pieces[0] = &header;

        self.write(&pieces, frame_len)
            .map_err(|e| failed(&self.path(), e))?;
        self.active.offset = start + frame_len;
        self.last_seq = seq;
        self.last_start = Some(start);
        self.poisoned = false;
        let end = LogPos {
            segment: self.active.number,
            offset: self.active.offset,
        };
        self.shared.set_end(end);
        self.prepare_ahead();
        Ok(Appended { end, places })
    }

    fn recover(&mut self) -> Result<(u64, LogPos), LogError> {
        self.poisoned = true;
        self.shared.forget_files();
        let path = self.path();
        let io = |source| failed(&path, source);
        let file = self.shared.disk.open_write(&path).map_err(io)?;
        let keep = self.active.offset;
        if file.len().map_err(io)? < keep {
            return Err(LogError::Damaged("the log is shorter than what was synced"));
        }
        file.set_len(keep).map_err(io)?;
        file.sync_all().map_err(io)?;
        if let Some(start) = self.last_start {
            let (id, number) = (&self.shared.store_id, self.active.number);
            let mut scan = Scan::new(&*file, path.clone(), id, number, start, keep)?;
            let last = scan.next_frame()?;
            let other = last.is_none_or(|f| f.seq != self.last_seq || f.end.offset != keep);
            // What the disk does not give now was synced, and is not written to again.
            if other && !scan.met_unreadable() {
                return Err(LogError::Damaged(
                    "the last group that was synced is not there",
                ));
            }
        }
        self.active.file = file;
        self.must_roll = keep > FILE_HEADER as u64;
        self.poisoned = false;
        Ok((self.last_seq, self.end()))
    }

    fn end(&self) -> LogPos {
        self.shared.end()
    }

    fn seal(&mut self) {
        // An empty one is new enough.
        self.must_roll |= self.active.offset > FILE_HEADER as u64;
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        if let Some(thread) = self.preparing.take() {
            let _ = thread.join();
        }
    }
}
