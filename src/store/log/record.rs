//! A body's record: header, table of chunks, checksum, chunks. It is complete in itself, so one
//! message can be read and checked alone, and copied to another file as it is.
//!
//! May import: the parent's types.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! All chunks but the last hold exactly [`CHUNK`] bytes of the body, so the chunks of a range
//! are found without looking at the table.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::integers::{u32_at, u64_at};
use super::{BlobChunk, BlobData, LogError};
use crate::types::BlobId;

pub(super) const CHUNK: usize = 256 * 1024;
/// Header before the table.
pub(super) const FIXED_HEADER: usize = 32;
const TABLE_ENTRY: usize = 13;
const CRC: usize = 4;
const MAGIC: [u8; 4] = [b'P', b'H', b'b', 1];

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// At level 3 bodies are a hundredth smaller, and packed and read a third and a fifth slower.
const LEVEL: i32 = 1;
/// Not worth the time below this.
const COMPRESS_OVER: usize = 1024;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkEntry {
    pub(super) codec: u8,
    pub(super) stored_len: u32,
    pub(super) raw_len: u32,
    pub(super) crc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) id: BlobId,
    pub(super) raw_len: u64,
    pub(super) chunks: Vec<ChunkEntry>,
}

/// Number of chunks of a body.
pub(super) fn chunk_count(raw_len: u64) -> u64 {
    raw_len.div_ceil(CHUNK as u64)
}

/// Bytes of a record before its first chunk.
pub(super) fn header_len(raw_len: u64) -> u64 {
    chunk_count(raw_len)
        .saturating_mul(TABLE_ENTRY as u64)
        .saturating_add((FIXED_HEADER + CRC) as u64)
}

/// The body's length, from the start of a record's header that was not checked yet.
pub(super) fn raw_len(fixed: &[u8; FIXED_HEADER]) -> Option<u64> {
    (fixed[..4] == MAGIC).then(|| u64_at(fixed, 8))
}

impl RecordHeader {
    pub(super) fn of(blob: &BlobData) -> Self {
        Self {
            id: blob.id,
            raw_len: blob.raw_len,
            chunks: blob.chunks.iter().map(ChunkEntry::of).collect(),
        }
    }

    pub(super) fn record_len(&self) -> u64 {
        header_len(self.raw_len) + self.stored_in(0..self.chunks.len())
    }

    /// Stored bytes of some chunks.
    pub(super) fn stored_in(&self, chunks: Range<usize>) -> u64 {
        self.chunks
            .get(chunks)
            .unwrap_or_default()
            .iter()
            .map(|chunk| u64::from(chunk.stored_len))
            .sum()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(header_len(self.raw_len) as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(self.chunks.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.raw_len.to_be_bytes());
        out.extend_from_slice(&self.id.0);
        for chunk in &self.chunks {
            out.push(chunk.codec);
            out.extend_from_slice(&chunk.stored_len.to_be_bytes());
            out.extend_from_slice(&chunk.raw_len.to_be_bytes());
            out.extend_from_slice(&chunk.crc.to_be_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a header from the start of `bytes`, which may go on. Memory is bounded by `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED_HEADER] = bytes.first_chunk()?;
        if fixed[..4] != MAGIC {
            return None;
        }
        let raw_len = u64_at(fixed, 8);
        let count = u64::from(u32_at(fixed, 4));
        if count != chunk_count(raw_len) {
            return None;
        }
        let header = bytes.get(..usize::try_from(header_len(raw_len)).ok()?)?;
        let (checked, crc) = header.split_at(header.len() - CRC);
        if crc32fast::hash(checked) != u32_at(crc, 0) {
            return None;
        }
        let mut rest = raw_len;
        let mut chunks = Vec::with_capacity(count as usize);
        for entry in checked[FIXED_HEADER..].chunks_exact(TABLE_ENTRY) {
            let chunk = ChunkEntry {
                codec: entry[0],
                stored_len: u32_at(entry, 1),
                raw_len: u32_at(entry, 5),
                crc: u32_at(entry, 9),
            };
            let want = rest.min(CHUNK as u64);
            let fits = match chunk.codec {
                RAW => chunk.stored_len == chunk.raw_len,
                ZSTD => chunk.stored_len < chunk.raw_len,
                _ => false,
            };
            if u64::from(chunk.raw_len) != want || !fits {
                return None;
            }
            rest -= want;
            chunks.push(chunk);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&fixed[16..32]);
        Some(Self {
            id: BlobId(id),
            raw_len,
            chunks,
        })
    }
}

impl ChunkEntry {
    pub(super) fn of(chunk: &BlobChunk) -> Self {
        Self {
            codec: chunk.codec,
            stored_len: chunk.bytes.len() as u32,
            raw_len: chunk.raw_len,
            crc: chunk.crc,
        }
    }

    /// Appends the body's bytes to `out`.
    pub(super) fn unpack(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), LogError> {
        if stored.len() != self.stored_len as usize || crc32fast::hash(stored) != self.crc {
            return Err(LogError::Damaged("a chunk's checksum is wrong"));
        }
        let raw_len = self.raw_len as usize;
        if raw_len > CHUNK {
            return Err(LogError::Damaged("a chunk is too long"));
        }
        match self.codec {
            RAW => {
                out.extend_from_slice(stored);
                Ok(())
            }
            // The first piece needs no copy.
            ZSTD if out.is_empty() => match decompress_into(stored, raw_len, out) {
                Some(()) if out.len() == raw_len => Ok(()),
                _ => Err(LogError::Damaged("a chunk can't be decompressed")),
            },
            ZSTD => match decompress(stored, raw_len) {
                Some(raw) if raw.len() == raw_len => {
                    out.extend_from_slice(&raw);
                    Ok(())
                }
                _ => Err(LogError::Damaged("a chunk can't be decompressed")),
            },
            _ => Err(LogError::Damaged("a chunk is in an unknown form")),
        }
    }
}

/// One chunk of a body made ready.
pub(super) fn pack(raw: &[u8]) -> BlobChunk {
    debug_assert!(raw.len() <= CHUNK);
    let compressed = (raw.len() > COMPRESS_OVER)
        .then(|| compress(raw))
        .flatten()
        .filter(|packed| packed.len() <= raw.len() - raw.len() / 10);
    let (codec, bytes) = match compressed {
        Some(packed) => (ZSTD, Bytes::from(packed)),
        None => (RAW, Bytes::copy_from_slice(raw)),
    };
    BlobChunk {
        codec,
        raw_len: raw.len() as u32,
        crc: crc32fast::hash(&bytes),
        bytes,
    }
}

impl BlobData {
    /// Chunks of 256 KiB; each is compressed where it is over 1 KiB and that saves a tenth.
    pub(crate) fn compress(id: BlobId, raw: &[u8]) -> Self {
        Self {
            id,
            raw_len: raw.len() as u64,
            chunks: raw.chunks(CHUNK).map(pack).collect(),
        }
    }

    /// Bytes of the whole record.
    pub(crate) fn stored_len(&self) -> u64 {
        let chunks: u64 = self.chunks.iter().map(|c| c.bytes.len() as u64).sum();
        header_len(self.raw_len) + chunks
    }

    /// The record as it lies in a file, in pieces; `header` is `RecordHeader::of(self).encode()`.
    pub(super) fn pieces<'a>(&'a self, header: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(header).chain(self.chunks.iter().map(|chunk| &chunk.bytes[..]))
    }
}

/// Contexts are over a MiB each and slow to make, so a few are kept; a thread that finds none
/// makes its own.
const KEPT: usize = 4;
static COMPRESSORS: Mutex<Vec<zstd::bulk::Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<zstd::bulk::Decompressor<'static>>> = Mutex::new(Vec::new());

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    let kept = COMPRESSORS.lock().pop();
    let mut context = match kept {
        Some(context) => context,
        None => zstd::bulk::Compressor::new(LEVEL).ok()?,
    };
    let packed = context.compress(raw).ok()?;
    keep(&COMPRESSORS, context);
    Some(packed)
}

fn decompress(stored: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    decompress_into(stored, raw_len, &mut raw)?;
    Some(raw)
}

/// Into what is empty.
fn decompress_into(stored: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Option<()> {
    let kept = DECOMPRESSORS.lock().pop();
    let mut context = match kept {
        Some(context) => context,
        None => zstd::bulk::Decompressor::new().ok()?,
    };
    raw.reserve(raw_len);
    context.decompress_to_buffer(stored, raw).ok()?;
    keep(&DECOMPRESSORS, context);
    Some(())
}

fn keep<T>(pool: &Mutex<Vec<T>>, context: T) {
    let mut pool = pool.lock();
    if pool.len() < KEPT {
        pool.push(context);
    }
}

/// Any bytes are a record, a good one or a bad one.
pub(super) fn fuzz(data: &[u8]) {
    let mut sealed = data.to_vec();
    for _ in 0..2 {
        if let Some(header) = RecordHeader::decode(&sealed) {
            assert!(header.record_len() >= header_len(header.raw_len));
            let mut rest = &sealed[header_len(header.raw_len) as usize..];
            let mut out = Vec::new();
            for chunk in &header.chunks {
                let len = (chunk.stored_len as usize).min(rest.len());
                let (stored, after) = rest.split_at(len);
                rest = after;
                let right = ChunkEntry {
                    crc: crc32fast::hash(stored),
                    stored_len: len as u32,
                    ..*chunk
                };
                let _ = chunk.unpack(stored, &mut out);
                let _ = right.unpack(stored, &mut out);
            }
        }
        if sealed.len() < FIXED_HEADER {
            return;
        }
        // Seal the header so that the second round gets past the checksum.
        sealed[..4].copy_from_slice(&MAGIC);
        let raw_len = u64_at(&sealed, 8) % (4 * CHUNK as u64);
        sealed[8..16].copy_from_slice(&raw_len.to_be_bytes());
        sealed[4..8].copy_from_slice(&(chunk_count(raw_len) as u32).to_be_bytes());
        let len = header_len(raw_len) as usize;
        if sealed.len() < len {
            return;
        }
        let crc = crc32fast::hash(&sealed[..len - CRC]);
        sealed[len - CRC..len].copy_from_slice(&crc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(blob: &BlobData) -> Vec<u8> {
        let header = RecordHeader::of(blob).encode();
        blob.pieces(&header).flatten().copied().collect()
    }

    fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
        let header = RecordHeader::decode(bytes)?;
        let mut rest = &bytes[header_len(header.raw_len) as usize..];
        let mut out = Vec::new();
        for chunk in &header.chunks {
            let (stored, after) = rest.split_at_checked(chunk.stored_len as usize)?;
            rest = after;
            chunk.unpack(stored, &mut out).ok()?;
        }
        Some(out)
    }

    #[test]
    fn what_does_not_shrink_stays_raw() {
        let id = BlobId([1; 16]);
        let text = b"the quick brown fox\r\n".repeat(200);
        assert_eq!(BlobData::compress(id, &text).chunks[0].codec, ZSTD);
        assert_eq!(BlobData::compress(id, &text[..1024]).chunks[0].codec, RAW);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(5000)
        .collect();
        assert_eq!(BlobData::compress(id, &noise).chunks[0].codec, RAW);
        assert!(BlobData::compress(id, b"").chunks.is_empty());
    }

    #[test]
    fn lengths_around_a_chunk() {
        for len in [
            0,
            1,
            1025,
            CHUNK - 1,
            CHUNK,
            CHUNK + 1,
            3 * CHUNK,
            3 * CHUNK + 7,
        ] {
            let raw: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
            let blob = BlobData::compress(BlobId([2; 16]), &raw);
            let bytes = bytes_of(&blob);
            assert_eq!(bytes.len() as u64, blob.stored_len());
            assert_eq!(unpack(&bytes).unwrap(), raw, "{len}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(
            raw in proptest::collection::vec(any::<u8>(), 0..3000), place in any::<prop::sample::Index>(),
        ) {
            let mut bytes = bytes_of(&BlobData::compress(BlobId([3; 16]), &raw));
            prop_assert_eq!(unpack(&bytes), Some(raw));
            let bit = place.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(unpack(&bytes), None);
        }
    }
}
