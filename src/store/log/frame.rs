//! Bytes of file headers and frames. A frame is a header, then the blob records, then its tail:
//! a directory of the records and the operations of one commit group. All integers are
//! big-endian.
//!
//! The header's second checksum covers the tail alone; bodies have their own in their records.
//! So a damaged body costs one message and not the group, and replay reads no bodies.
//!
//! May import: the parent's types.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! The first [`FILE_HEADER`] bytes of a file keep their shape in all versions of the format, so
//! that any version can tell a newer file from a damaged one.

use super::super::integers::{u32_at, u64_at};
use super::{BlobPlace, Frame};
use crate::types::{BlobId, LogPos};

/// Version of the format that is written.
pub(crate) const VERSION: u32 = 1;
pub(super) const FILE_HEADER: usize = 64;
pub(super) const FRAME_HEADER: usize = 48;
/// One record's line in a frame's directory: id, stored length, length.
pub(super) const DIRECTORY_ENTRY: usize = 32;
/// Larger frames are neither written nor read.
pub(super) const MAX_PAYLOAD: u64 = 256 * 1024 * 1024;

const FILE_MAGIC: [u8; 8] = *b"\x89PHLOG\r\n";
pub(super) const FRAME_MAGIC: [u8; 8] = [0xf5, b'P', b'H', 0xff, b'F', b'R', 0x00, 0xfa];
pub(super) const FRAME_VERSION: u16 = 1;

/// What a file of the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileKind {
    Segment = 1,
    Blob = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) kind: FileKind,
    pub(super) number: u64,
    pub(super) store_id: [u8; 16],
}

/// Why bytes are not a file header that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Shorter than a header.
    Short,
    /// Not one of our files.
    Foreign,
    /// One of ours, with flipped bits.
    Damaged,
    Newer(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut out = [0; FILE_HEADER];
        out[..8].copy_from_slice(&FILE_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[12] = self.kind as u8;
        out[16..24].copy_from_slice(&self.number.to_be_bytes());
        out[24..40].copy_from_slice(&self.store_id);
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes: &[u8; FILE_HEADER] = bytes.first_chunk().ok_or(BadHeader::Short)?;
        if bytes[..8] != FILE_MAGIC {
            return Err(BadHeader::Foreign);
        }
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        let kind = match bytes[12] {
            1 => FileKind::Segment,
            2 => FileKind::Blob,
            _ => return Err(BadHeader::Damaged),
        };
        let mut store_id = [0; 16];
        store_id.copy_from_slice(&bytes[24..40]);
        Ok(Self {
            kind,
            number: u64_at(bytes, 16),
            store_id,
        })
    }
}

/// What the checksums of a frame start from. It holds the store's id, which no stranger knows,
/// and the place, so a frame is good only where it was written.
#[derive(Clone)]
pub(super) struct Seed {
    header: crc32fast::Hasher,
    tail: crc32fast::Hasher,
}

impl Seed {
    pub(super) fn new(store_id: &[u8; 16], segment: u64) -> Self {
        let seeded = |half: &[u8]| {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(half);
            hasher.update(&segment.to_be_bytes());
            hasher
        };
        Self {
            header: seeded(&store_id[..8]),
            tail: seeded(&store_id[8..]),
        }
    }

    fn header_crc(&self, offset: u64, header: &[u8]) -> u32 {
        let mut hasher = self.header.clone();
        hasher.update(&offset.to_be_bytes());
        hasher.update(header);
        hasher.finalize()
    }

    /// The checksum of the tail of the frame that starts at `offset`.
    pub(super) fn tail_crc(&self, offset: u64, tail: &[&[u8]]) -> u32 {
        let mut hasher = self.tail.clone();
        hasher.update(&offset.to_be_bytes());
        tail.iter().for_each(|piece| hasher.update(piece));
        hasher.finalize()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) seq: u64,
    pub(super) blob_count: u32,
    pub(super) blobs_len: u64,
    pub(super) ops_len: u64,
    pub(super) tail_crc: u32,
}

/// Why bytes are not a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    Damaged,
    Newer(u32),
}

impl FrameHeader {
    /// Everything after the header.
    pub(super) fn payload_len(&self) -> u64 {
        self.blobs_len.saturating_add(self.tail_len())
    }

    /// Directory and operations.
    pub(super) fn tail_len(&self) -> u64 {
        (u64::from(self.blob_count) * DIRECTORY_ENTRY as u64).saturating_add(self.ops_len)
    }

    pub(super) fn encode(&self, seed: &Seed, offset: u64) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        out[..8].copy_from_slice(&FRAME_MAGIC);
        out[8..10].copy_from_slice(&FRAME_VERSION.to_be_bytes());
        // 10..12: flags, none yet.
        out[12..16].copy_from_slice(&self.blob_count.to_be_bytes());
        out[16..24].copy_from_slice(&self.blobs_len.to_be_bytes());
        out[24..32].copy_from_slice(&self.ops_len.to_be_bytes());
        out[32..40].copy_from_slice(&self.seq.to_be_bytes());
        out[40..44].copy_from_slice(&self.tail_crc.to_be_bytes());
        let crc = seed.header_crc(offset, &out[..44]);
        out[44..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8], seed: &Seed, offset: u64) -> Result<Self, BadFrame> {
        let bytes: &[u8; FRAME_HEADER] = bytes.first_chunk().ok_or(BadFrame::Damaged)?;
        if bytes[..8] != FRAME_MAGIC || seed.header_crc(offset, &bytes[..44]) != u32_at(bytes, 44) {
            return Err(BadFrame::Damaged);
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        let flags = u16::from_be_bytes([bytes[10], bytes[11]]);
        if version > FRAME_VERSION || flags != 0 {
            return Err(BadFrame::Newer(u32::from(version)));
        }
        let header = Self {
            seq: u64_at(bytes, 32),
            blob_count: u32_at(bytes, 12),
            blobs_len: u64_at(bytes, 16),
            ops_len: u64_at(bytes, 24),
            tail_crc: u32_at(bytes, 40),
        };
        if header.payload_len() > MAX_PAYLOAD {
            return Err(BadFrame::Damaged);
        }
        Ok(header)
    }

    /// Takes a tail apart whose checksum was found right. `segment` and `offset` are the
    /// frame's place. None where the parts don't add up.
    pub(super) fn take_apart(&self, tail: &[u8], segment: u64, offset: u64) -> Option<Frame> {
        if tail.len() as u64 != self.tail_len() {
            return None;
        }
        let entries = usize::try_from(self.blob_count).ok()? * DIRECTORY_ENTRY;
        let (directory, ops) = tail.split_at_checked(entries)?;
        let start = offset.checked_add(FRAME_HEADER as u64)?;
        let mut at = start;
        let mut blobs = Vec::with_capacity(directory.len() / DIRECTORY_ENTRY);
        for entry in directory.chunks_exact(DIRECTORY_ENTRY) {
            let mut id = [0; 16];
            id.copy_from_slice(&entry[..16]);
            let stored_len = u64_at(entry, 16);
            let place = BlobPlace {
                segment,
                offset: at,
                stored_len,
                raw_len: u64_at(entry, 24),
            };
            blobs.push((BlobId(id), place));
            at = at.checked_add(stored_len)?;
        }
        let offset = at.checked_add(tail.len() as u64)?;
        (at - start == self.blobs_len).then(|| Frame {
            seq: self.seq,
            end: LogPos { segment, offset },
            blobs,
            ops: ops.to_vec(),
        })
    }
}

/// A frame's directory of its records.
pub(super) fn directory(records: impl Iterator<Item = (BlobId, u64, u64)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, stored_len, raw_len) in records {
        out.extend_from_slice(&id.0);
        out.extend_from_slice(&stored_len.to_be_bytes());
        out.extend_from_slice(&raw_len.to_be_bytes());
    }
    out
}

/// First place where a frame may start, from `from` on.
pub(super) fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes
        .get(at..)?
        .iter()
        .position(|byte| *byte == FRAME_MAGIC[0])
    {
        at += found;
        if bytes[at..].starts_with(&FRAME_MAGIC) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Any bytes, as they are and with their checksums made right, so that what lies behind the
/// checksums is reached too.
pub(super) fn fuzz(data: &[u8]) {
    let _ = FileHeader::decode(data);
    let _ = find_magic(data, 0);
    let seed = Seed::new(&[7; 16], 3);
    let mut sealed = data.to_vec();
    for round in 0..2 {
        if let Ok(header) = FrameHeader::decode(&sealed, &seed, 64) {
            let start = FRAME_HEADER.saturating_add(header.blobs_len as usize);
            let end = FRAME_HEADER.saturating_add(header.payload_len() as usize);
            if let Some(tail) = sealed.get(start..end)
                && let Some(frame) = header.take_apart(tail, 3, 64)
            {
                assert_eq!(frame.end.offset, 64 + end as u64);
            }
        }
        if round == 0 && sealed.len() >= FRAME_HEADER {
            sealed[..8].copy_from_slice(&FRAME_MAGIC);
            sealed[8..12].copy_from_slice(&[0, 1, 0, 0]);
            let crc = seed.header_crc(64, &sealed[..44]);
            sealed[44..48].copy_from_slice(&crc.to_be_bytes());
        }
    }
    // The tail alone, with lengths that fit.
    if let Some((count, tail)) = data.split_first() {
        let blob_count = u32::from(*count).min((tail.len() / DIRECTORY_ENTRY) as u32);
        let directory = blob_count as usize * DIRECTORY_ENTRY;
        let lens = tail[..directory].chunks_exact(DIRECTORY_ENTRY);
        let header = FrameHeader {
            seq: 1,
            blob_count,
            blobs_len: lens.fold(0, |sum, entry| u64_at(entry, 16).saturating_add(sum)),
            ops_len: (tail.len() - directory) as u64,
            tail_crc: 0,
        };
        let _ = header.take_apart(tail, 3, 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::super::fuzz_frame(&data);
        }

        #[test]
        fn headers_round_trip(
            seq in any::<u64>(), blob_count in 0..1_000_000_u32, blobs_len in 0..MAX_PAYLOAD / 4,
            ops_len in 0..MAX_PAYLOAD / 2, tail_crc in any::<u32>(), offset in any::<u64>(),
            flip in 0..FRAME_HEADER * 8,
        ) {
            let seed = Seed::new(&[9; 16], 5);
            let header = FrameHeader { seq, blob_count, blobs_len, ops_len, tail_crc };
            let mut bytes = header.encode(&seed, offset);
            prop_assert_eq!(FrameHeader::decode(&bytes, &seed, offset), Ok(header));
            // Good only where it was written, and only in its store.
            prop_assert!(FrameHeader::decode(&bytes, &seed, offset ^ 1).is_err());
            prop_assert!(FrameHeader::decode(&bytes, &Seed::new(&[9; 16], 6), offset).is_err());
            prop_assert!(FrameHeader::decode(&bytes, &Seed::new(&[8; 16], 5), offset).is_err());
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(FrameHeader::decode(&bytes, &seed, offset).is_err());
        }
    }

    #[test]
    fn file_headers() {
        let header = FileHeader {
            kind: FileKind::Segment,
            number: 77,
            store_id: [3; 16],
        };
        let good = header.encode();
        assert_eq!(FileHeader::decode(&good), Ok(header));
        assert_eq!(FileHeader::decode(&good[..63]), Err(BadHeader::Short));
        assert_eq!(FileHeader::decode(&[0; 64]), Err(BadHeader::Foreign));
        let mut flipped = good;
        flipped[9] ^= 1;
        assert_eq!(FileHeader::decode(&flipped), Err(BadHeader::Damaged));
        let mut newer = good;
        newer[11] = 2;
        let crc = crc32fast::hash(&newer[..60]);
        newer[60..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(FileHeader::decode(&newer), Err(BadHeader::Newer(2)));
    }

    #[test]
    fn a_frame_of_a_newer_version_is_told_from_damage() {
        let seed = Seed::new(&[9; 16], 5);
        let header = FrameHeader {
            seq: 1,
            blob_count: 0,
            blobs_len: 0,
            ops_len: 0,
            tail_crc: 0,
        };
        let mut bytes = header.encode(&seed, 64);
        bytes[9] = 2;
        assert_eq!(
            FrameHeader::decode(&bytes, &seed, 64),
            Err(BadFrame::Damaged)
        );
        let crc = seed.header_crc(64, &bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(
            FrameHeader::decode(&bytes, &seed, 64),
            Err(BadFrame::Newer(2))
        );
    }

    #[test]
    fn magic_is_found_wherever_it_is() {
        let mut bytes = vec![FRAME_MAGIC[0]; 40];
        assert_eq!(find_magic(&bytes, 0), None);
        bytes.extend_from_slice(&FRAME_MAGIC);
        bytes.extend_from_slice(b"x");
        bytes.extend_from_slice(&FRAME_MAGIC[..7]);
        assert_eq!(find_magic(&bytes, 0), Some(40));
        assert_eq!(find_magic(&bytes, 40), Some(40));
        assert_eq!(find_magic(&bytes, 41), None);
        assert_eq!(find_magic(&bytes, 1000), None);
    }
}
