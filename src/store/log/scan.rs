//! Finds the frames of one segment, over damage where there is some.
//!
//! May import: `frame`, `record`, `files`, the disk and the parent's types.
//!
//! A frame is good when its header and its tail are: bodies are checked by whoever reads them,
//! and at the log's end, where a group that was being written may lack some.
//!
//! Memory is bounded by the frame at hand, and that by what the file can hold.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use super::super::disk::DiskFile;
use super::files::{self, failed};
use super::frame::{self, BadFrame, FILE_HEADER, FRAME_HEADER, FrameHeader, Seed};
use super::record::{self, RecordHeader};
use super::{BlobPlace, Frame, LogError};
use crate::types::BlobId;

const WINDOW: usize = 64 * 1024;
/// What a disk can't give is so large, or a multiple of it.
const BLOCK: u64 = 4096;

/// One segment while it is read.
pub(super) struct Scan<'a> {
    file: &'a dyn DiskFile,
    path: PathBuf,
    seed: Seed,
    segment: u64,
    /// Nothing from here on is looked at.
    limit: u64,
    at: u64,
    tail: Vec<u8>,
    /// Bytes passed over between good frames.
    pub(super) damaged_bytes: u64,
    /// Bytes after the last good frame, unless they are all zero. Known once no frame is left.
    pub(super) tail_bytes: u64,
    /// Places in the tail, its beginning aside, where another frame may have begun: then it is
    /// more than one group that was being written.
    pub(super) tail_frames: u64,
    /// End of the last good frame.
    pub(super) good_end: u64,
    unreadable: Cell<bool>,
}

/// A frame that was found.
pub(super) struct Found {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
}

impl Found {
    pub(super) fn end(&self) -> u64 {
        self.offset + FRAME_HEADER as u64 + self.header.payload_len()
    }
}

impl<'a> Scan<'a> {
    /// From `from` to `limit`, or the file's end where that is earlier.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        path: PathBuf,
        store_id: &[u8; 16],
        segment: u64,
        from: u64,
        limit: u64,
    ) -> Result<Self, LogError> {
        let len = file.len().map_err(|e| failed(&path, e))?;
        let from = from.max(FILE_HEADER as u64);
        Ok(Self {
            file,
            path,
            seed: Seed::new(store_id, segment),
            segment,
            limit: limit.min(len),
            at: from,
            tail: Vec::new(),
            damaged_bytes: 0,
            tail_bytes: 0,
            tail_frames: 0,
            good_end: from,
            unreadable: Cell::new(false),
        })
    }

    /// True where the disk could not give some of the bytes: another time it may.
    pub(super) fn met_unreadable(&self) -> bool {
        self.unreadable.get()
    }

    /// The next frame whose header and length are right; its content is not read, except where
    /// damage before it calls for proof.
    pub(super) fn next_header(&mut self) -> Result<Option<Found>, LogError> {
        match self.header_at(self.at)? {
            Some(found) => {
                self.step_over(&found);
                Ok(Some(found))
            }
            None => self.resync(),
        }
    }

    /// The next frame that is right, with its content.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, LogError> {
        let next = match self.header_at(self.at)? {
            Some(found) => {
                if let Some(frame) = self.content(&found)? {
                    self.step_over(&found);
                    return Ok(Some(frame));
                }
                self.resync()?
            }
            None => self.resync()?,
        };
        Ok(match next {
            // `resync` has left the proven tail in the buffer.
            Some(found) => found
                .header
                .take_apart(&self.tail, self.segment, found.offset),
            None => None,
        })
    }

    /// True where the tail of `found` is right, whatever its bodies are.
    pub(super) fn is_good(&mut self, found: &Found) -> Result<bool, LogError> {
        Ok(self.content(found)?.is_some())
    }

    /// True where every byte of `found` is as it was written, bodies too.
    pub(super) fn is_whole(&mut self, found: &Found) -> Result<bool, LogError> {
        let Some(frame) = self.content(found)? else {
            return Ok(false);
        };
        for (id, place) in &frame.blobs {
            if !self.is_whole_record(*id, place)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_whole_record(&self, id: BlobId, place: &BlobPlace) -> Result<bool, LogError> {
        let head = record::header_len(place.raw_len);
        if head > place.stored_len || place.offset + place.stored_len > self.limit {
            return Ok(false);
        }
        let mut bytes = vec![0; head as usize];
        if !self.read(&mut bytes, place.offset)? {
            // A write that was cut short leaves bytes that can be read.
            return Ok(self.met_unreadable());
        }
        let right = |header: &RecordHeader| {
            header.id == id
                && header.raw_len == place.raw_len
                && header.record_len() == place.stored_len
        };
        let Some(header) = RecordHeader::decode(&bytes).filter(right) else {
            return Ok(false);
        };
        let mut at = place.offset + head;
        for chunk in &header.chunks {
            bytes.resize(chunk.stored_len as usize, 0);
            if !self.read(&mut bytes, at)? {
                return Ok(self.met_unreadable());
            }
            if crc32fast::hash(&bytes) != chunk.crc {
                return Ok(false);
            }
            at += u64::from(chunk.stored_len);
        }
        Ok(true)
    }

    fn step_over(&mut self, found: &Found) {
        self.at = found.end();
        self.good_end = self.at;
    }

    fn header_at(&self, offset: u64) -> Result<Option<Found>, LogError> {
        let mut bytes = [0; FRAME_HEADER];
        if self.limit.saturating_sub(offset) < FRAME_HEADER as u64 {
            return Ok(None);
        }
        if !self.read(&mut bytes, offset)? {
            return Ok(None);
        }
        match FrameHeader::decode(&bytes, &self.seed, offset) {
            Ok(header) => {
                let found = Found { header, offset };
                Ok((found.end() <= self.limit).then_some(found))
            }
            Err(BadFrame::Newer(version)) => Err(LogError::Newer(version)),
            Err(BadFrame::Damaged) => Ok(None),
        }
    }

    fn content(&mut self, found: &Found) -> Result<Option<Frame>, LogError> {
        // `header_at` has made sure that the file has as many bytes.
        let len = found.header.tail_len() as usize;
        let start = found.offset + FRAME_HEADER as u64 + found.header.blobs_len;
        let mut tail = std::mem::take(&mut self.tail);
        tail.resize(len, 0);
        let there = self.read(&mut tail, start);
        self.tail = tail;
        if !there? || self.seed.tail_crc(found.offset, &[&self.tail]) != found.header.tail_crc {
            return Ok(None);
        }
        Ok(found
            .header
            .take_apart(&self.tail, self.segment, found.offset))
    }

    /// Looks for the next good frame after a bad one at `self.at`. Without one, the rest of the
    /// segment is tail, unless it is all zeros: space that was never written.
    fn resync(&mut self) -> Result<Option<Found>, LogError> {
        let start = self.at;
        if start >= self.limit {
            return Ok(None);
        }
        let mut window = vec![0; WINDOW];
        let mut at = start + 1;
        let mut all_zero = self.byte_is_zero(start)?;
        self.tail_frames = 0;
        while at < self.limit {
            let len = (self.limit - at).min(WINDOW as u64) as usize;
            if !self.read(&mut window[..len], at)? {
                if !self.met_unreadable() {
                    break;
                }
                all_zero = false;
                self.read_blocks(&mut window[..len], at)?;
            }
            all_zero &= window[..len].iter().all(|byte| *byte == 0);
            let mut from = 0;
            while let Some(place) = frame::find_magic(&window[..len], from) {
                if let Some(found) = self.header_at(at + place as u64)?
                    && self.is_good(&found)?
                {
                    self.damaged_bytes += found.offset - start;
                    self.step_over(&found);
                    return Ok(Some(found));
                }
                self.tail_frames += 1;
                from = place + 1;
            }
            // A magic may lie across the windows' border.
            let overlap = frame::FRAME_MAGIC.len() - 1;
            if at + len as u64 >= self.limit || len <= overlap {
                break;
            }
            at += (len - overlap) as u64;
        }
        if !all_zero {
            self.tail_bytes = self.limit.saturating_sub(start);
        }
        self.at = self.limit;
        Ok(None)
    }

    fn byte_is_zero(&self, offset: u64) -> Result<bool, LogError> {
        let mut byte = [0];
        if offset >= self.limit {
            return Ok(true);
        }
        let there = self.read(&mut byte, offset)?;
        Ok(byte == [0] && (there || !self.met_unreadable()))
    }

    /// As much as can be read; the rest is zero.
    fn read_blocks(&self, into: &mut [u8], offset: u64) -> Result<(), LogError> {
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let len = (BLOCK - at % BLOCK).min(rest.len() as u64);
            let (block, after) = rest.split_at_mut(len as usize);
            if !self.read(block, at)? {
                block.fill(0);
            }
            (at, rest) = (at + len, after);
        }
        Ok(())
    }

    /// False where the file is shorter than it was, or the disk does not give these bytes: that
    /// is damage like any other, and what is behind it is still wanted.
    fn read(&self, into: &mut [u8], offset: u64) -> Result<bool, LogError> {
        match self.read_at(into, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) if files::is_unreadable(&error) => {
                if !self.unreadable.replace(true) {
                    tracing::error!(%error, path = %self.path.display(), offset, "the disk can't read a part of the log");
                }
                Ok(false)
            }
            Err(error) => Err(failed(&self.path, error)),
        }
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        super::faulty::on_read(&self.path, offset..offset + into.len() as u64)?;
        self.file.read_exact_at(into, offset)
    }
}
