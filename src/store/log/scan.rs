//! Finds the frames of one segment, over damage where there is some.
//!
//! May import: `frame`, `files` and the parent's types.
//!
//! Memory is bounded by the frame at hand, and that by what the file can hold.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::files::failed;
use super::frame::{self, BadFrame, FILE_HEADER, FRAME_HEADER, FrameHeader, Seed};
use super::{Frame, LogError};

const WINDOW: usize = 64 * 1024;

/// One segment while it is read.
pub(super) struct Scan<'a> {
    file: &'a File,
    path: PathBuf,
    seed: Seed,
    segment: u64,
    /// Nothing from here on is looked at.
    limit: u64,
    at: u64,
    payload: Vec<u8>,
    /// Bytes passed over between good frames.
    pub(super) damaged_bytes: u64,
    /// Bytes after the last good frame, unless they are all zero. Known once no frame is left.
    pub(super) tail_bytes: u64,
    /// End of the last good frame.
    pub(super) good_end: u64,
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
        file: &'a File,
        path: PathBuf,
        store_id: &[u8; 16],
        segment: u64,
        from: u64,
        limit: u64,
    ) -> Result<Self, LogError> {
        let len = file.metadata().map_err(|e| failed(&path, e))?.len();
        let from = from.max(FILE_HEADER as u64);
        Ok(Self {
            file,
            path,
            seed: Seed::new(store_id, segment),
            segment,
            limit: limit.min(len),
            at: from,
            payload: Vec::new(),
            damaged_bytes: 0,
            tail_bytes: 0,
            good_end: from,
        })
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

    /// The next frame that is wholly right, with its content.
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
            // `resync` has left the proven payload in the buffer.
            Some(found) => found
                .header
                .take_apart(&self.payload, self.segment, found.offset),
            None => None,
        })
    }

    /// True where the content of `found` is right too.
    pub(super) fn is_whole(&mut self, found: &Found) -> Result<bool, LogError> {
        Ok(self.content(found)?.is_some())
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
        let len = found.header.payload_len() as usize;
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len, 0);
        let there = self.read(&mut payload, found.offset + FRAME_HEADER as u64);
        self.payload = payload;
        if !there? {
            return Ok(None);
        }
        let mut crc = self.seed.payload(found.offset);
        crc.update(&self.payload);
        if crc.finalize() != found.header.payload_crc {
            return Ok(None);
        }
        Ok(found
            .header
            .take_apart(&self.payload, self.segment, found.offset))
    }

    /// Looks for the next whole frame after a bad one at `self.at`. Without one, the rest of the
    /// segment is tail, unless it is all zeros: space that was never written.
    fn resync(&mut self) -> Result<Option<Found>, LogError> {
        let start = self.at;
        if start >= self.limit {
            return Ok(None);
        }
        let mut window = vec![0; WINDOW];
        let mut at = start + 1;
        let mut all_zero = self.byte_is_zero(start)?;
        while at < self.limit {
            let len = (self.limit - at).min(WINDOW as u64) as usize;
            if !self.read(&mut window[..len], at)? {
                break;
            }
            all_zero &= window[..len].iter().all(|byte| *byte == 0);
            let mut from = 0;
            while let Some(place) = frame::find_magic(&window[..len], from) {
                if let Some(found) = self.header_at(at + place as u64)?
                    && self.is_whole(&found)?
                {
                    self.damaged_bytes += found.offset - start;
                    self.step_over(&found);
                    return Ok(Some(found));
                }
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
        Ok(offset >= self.limit || !self.read(&mut byte, offset)? || byte == [0])
    }

    /// False where the file is shorter than it was.
    fn read(&self, into: &mut [u8], offset: u64) -> Result<bool, LogError> {
        match self.file.read_exact_at(into, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed(&self.path, error)),
        }
    }
}
