//! Bytes of a state image: a header, blocks of records, an end. All integers are big-endian.
//!
//! May import: the parent's types. Machine: no IO, no clock, no randomness.
//!
//! The first [`HEADER`] bytes keep their shape in all versions of the format, so that any version
//! can tell a newer image from a damaged one.
//!
//! A block is its stored and its raw length, the number of its records, a checksum, and the
//! records compressed (zstd). The checksum starts from the store's id, the image's group and the
//! block's number, so a block is good only where it was written. A record is the key's and the
//! value's length (u16 each) and both. The end is a block of length nothing with the number of
//! blocks and of records, so that an image that was cut off is never taken for a whole one.

use crate::store::integers::{u32_at, u64_at};
use crate::types::{LogPos, UnixMillis};

/// Version of the format that is written.
pub(in crate::store) const VERSION: u32 = 1;
pub(super) const HEADER: usize = 80;
pub(super) const BLOCK_HEADER: usize = 16;
/// The end's own words: blocks and records.
const END: usize = 16;
/// Bytes of records that are put into one block, roughly.
pub(super) const BLOCK: usize = 256 * 1024;
/// No block that was written is larger: one more record than [`BLOCK`], and what zstd may add.
pub(super) const MAX_BLOCK: usize = BLOCK + 128 * 1024;
const LEVEL: i32 = 3;

const MAGIC: [u8; 8] = *b"\x89PHIMG\r\n";

/// What an image is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Header {
    /// Layout of the records (`engine::SCHEMA`).
    pub schema: u16,
    pub store_id: [u8; 16],
    /// The place in the log whose state it holds, and the number of the group that ends there.
    pub at: LogPos,
    pub seq: u64,
    pub made: UnixMillis,
}

/// Why bytes are not an image that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum BadImage {
    #[error("it is cut off")]
    Short,
    #[error("it is no state image")]
    Foreign,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it was written by a newer posthorn (format {0})")]
    Newer(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[12..14].copy_from_slice(&self.schema.to_be_bytes());
        out[16..32].copy_from_slice(&self.store_id);
        out[32..40].copy_from_slice(&self.at.segment.to_be_bytes());
        out[40..48].copy_from_slice(&self.at.offset.to_be_bytes());
        out[48..56].copy_from_slice(&self.seq.to_be_bytes());
        out[56..64].copy_from_slice(&self.made.0.to_be_bytes());
        let crc = crc32fast::hash(&out[..HEADER - 4]);
        out[HEADER - 4..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadImage> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(BadImage::Short)?;
        if bytes[..8] != MAGIC {
            return Err(BadImage::Foreign);
        }
        if crc32fast::hash(&bytes[..HEADER - 4]) != u32_at(bytes, HEADER - 4) {
            return Err(BadImage::Damaged("its header"));
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(BadImage::Newer(version));
        }
        let mut store_id = [0; 16];
        store_id.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            schema: u16::from_be_bytes([bytes[12], bytes[13]]),
            store_id,
            at: LogPos {
                segment: u64_at(bytes, 32),
                offset: u64_at(bytes, 40),
            },
            seq: u64_at(bytes, 48),
            made: UnixMillis(u64_at(bytes, 56)),
        })
    }

    fn crc(&self, block: u64, start: &[u8], stored: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.store_id);
        hasher.update(&self.seq.to_be_bytes());
        hasher.update(&block.to_be_bytes());
        hasher.update(start);
        hasher.update(stored);
        hasher.finalize()
    }
}

/// What stands before a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// 0: it is the end.
    pub(super) stored_len: u32,
    raw_len: u32,
    count: u32,
    crc: u32,
}

impl BlockHeader {
    pub(super) fn decode(bytes: &[u8; BLOCK_HEADER]) -> Result<Self, BadImage> {
        let header = Self {
            stored_len: u32_at(bytes, 0),
            raw_len: u32_at(bytes, 4),
            count: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
        };
        let most = MAX_BLOCK as u32;
        if header.stored_len > most || header.raw_len > most {
            return Err(BadImage::Damaged("a block is too long"));
        }
        Ok(header)
    }

    /// Bytes that follow it.
    pub(super) fn body_len(&self) -> usize {
        match self.stored_len {
            0 => END,
            len => len as usize,
        }
    }

    fn start(&self) -> [u8; BLOCK_HEADER - 4] {
        let mut out = [0; BLOCK_HEADER - 4];
        out[..4].copy_from_slice(&self.stored_len.to_be_bytes());
        out[4..8].copy_from_slice(&self.raw_len.to_be_bytes());
        out[8..].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    fn seal(mut self, header: &Header, block: u64, body: &[u8]) -> Vec<u8> {
        self.crc = header.crc(block, &self.start(), body);
        let mut out = self.start().to_vec();
        out.extend_from_slice(&self.crc.to_be_bytes());
        out.extend_from_slice(body);
        out
    }
}

/// Records on their way into an image. Blocks come out as they fill.
pub(super) struct Writer {
    header: Header,
    raw: Vec<u8>,
    count: u32,
    blocks: u64,
    records: u64,
}

impl Writer {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            raw: Vec::new(),
            count: 0,
            blocks: 0,
            records: 0,
        }
    }

    /// Keys come in ascending order. None: the block is not full yet. An error: the record is
    /// larger than any can be.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, BadImage> {
        let long = |_| BadImage::Damaged("a record is too long");
        let key_len = u16::try_from(key.len()).map_err(long)?;
        let value_len = u16::try_from(value.len()).map_err(long)?;
        self.raw.extend_from_slice(&key_len.to_be_bytes());
        self.raw.extend_from_slice(&value_len.to_be_bytes());
        self.raw.extend_from_slice(key);
        self.raw.extend_from_slice(value);
        self.count += 1;
        self.records += 1;
        match self.raw.len() >= BLOCK {
            true => self.block().map(Some),
            false => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Vec<u8>, BadImage> {
        let packed = zstd::bulk::compress(&self.raw, LEVEL)
            .map_err(|_| BadImage::Damaged("a block can't be compressed"))?;
        let block = BlockHeader {
            stored_len: packed.len() as u32,
            raw_len: self.raw.len() as u32,
            count: self.count,
            crc: 0,
        };
        let bytes = block.seal(&self.header, self.blocks, &packed);
        self.blocks += 1;
        self.count = 0;
        self.raw.clear();
        Ok(bytes)
    }

    /// The rest: a last block, if there is one, and the end.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, u64), BadImage> {
        let mut out = match self.count {
            0 => Vec::new(),
            _ => self.block()?,
        };
        let mut end = [0; END];
        end[..8].copy_from_slice(&self.blocks.to_be_bytes());
        end[8..].copy_from_slice(&self.records.to_be_bytes());
        let header = BlockHeader {
            stored_len: 0,
            raw_len: 0,
            count: 0,
            crc: 0,
        };
        out.extend(header.seal(&self.header, self.blocks, &end));
        Ok((out, self.records))
    }
}

/// An image on its way out: what was read is checked block by block.
pub(super) struct Reader {
    pub(super) header: Header,
    blocks: u64,
    records: u64,
    last: Vec<u8>,
}

impl Reader {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            blocks: 0,
            records: 0,
            last: Vec::new(),
        }
    }

    /// Checks a block without unpacking it. True: that was the end.
    pub(super) fn check(&mut self, header: &BlockHeader, body: &[u8]) -> Result<bool, BadImage> {
        if self.header.crc(self.blocks, &header.start(), body) != header.crc {
            return Err(BadImage::Damaged("a block's checksum is wrong"));
        }
        if header.stored_len > 0 {
            self.blocks += 1;
            self.records += u64::from(header.count);
            return Ok(false);
        }
        match (u64_at(body, 0), u64_at(body, 8)) == (self.blocks, self.records) {
            true => Ok(true),
            false => Err(BadImage::Damaged("blocks are missing")),
        }
    }

    /// The records of a block that was checked, in order.
    pub(super) fn unpack(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), BadImage> {
        let bad = BadImage::Damaged("a block makes no sense");
        let raw = zstd::bulk::decompress(body, header.raw_len as usize).map_err(|_| bad.clone())?;
        let mut rest = &raw[..];
        let mut count = 0;
        while let Some((start, after)) = rest.split_first_chunk::<4>() {
            let key_len = usize::from(u16::from_be_bytes([start[0], start[1]]));
            let value_len = usize::from(u16::from_be_bytes([start[2], start[3]]));
            let (key, after) = after.split_at_checked(key_len).ok_or(bad.clone())?;
            let (value, after) = after.split_at_checked(value_len).ok_or(bad.clone())?;
            if key <= &self.last[..] {
                return Err(BadImage::Damaged("its keys are not in order"));
            }
            self.last.clear();
            self.last.extend_from_slice(key);
            each(key, value);
            count += 1;
            rest = after;
        }
        let whole = rest.is_empty() && raw.len() == header.raw_len as usize;
        match whole && count == header.count {
            true => Ok(()),
            false => Err(bad),
        }
    }
}

/// A whole image, for tests.
#[cfg(test)]
pub(in crate::store) fn write(header: Header, records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = header.encode().to_vec();
    let mut writer = Writer::new(header);
    for (key, value) in records {
        let block = writer.push(key, value).expect("a block");
        out.extend(block.unwrap_or_default());
    }
    out.extend(writer.finish().expect("the end").0);
    out
}

/// For the fuzzer: any bytes are an image, a good one or a bad one, and never a crash. They are
/// taken as they are, and once more with their checksums made right.
pub(in crate::store) fn fuzz(data: &[u8]) {
    let _ = Header::decode(data);
    let header = Header {
        schema: 1,
        store_id: [7; 16],
        at: LogPos::default(),
        seq: 3,
        made: UnixMillis(0),
    };
    for seal in [false, true] {
        let mut reader = Reader::new(header);
        let mut rest = data;
        while let Some((start, after)) = rest.split_first_chunk::<BLOCK_HEADER>() {
            let Ok(mut block) = BlockHeader::decode(start) else {
                break;
            };
            let (body, after) = after.split_at(block.body_len().min(after.len()));
            rest = after;
            if seal {
                block.crc = header.crc(reader.blocks, &block.start(), body);
            }
            match reader.check(&block, body) {
                Ok(false) => {
                    let _ = reader.unpack(&block, body, &mut |_, _| {});
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            schema: 1,
            store_id: [5; 16],
            at: LogPos {
                segment: 3,
                offset: 77,
            },
            seq: 12,
            made: UnixMillis(5),
        }
    }

    fn blocks(records: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let mut writer = Writer::new(header());
        let mut out = Vec::new();
        for (key, value) in records {
            out.extend(writer.push(key, value).unwrap().unwrap_or_default());
        }
        out.extend(writer.finish().unwrap().0);
        out
    }

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    /// The records, or what is wrong.
    fn read(mut bytes: &[u8]) -> Result<Records, BadImage> {
        let mut reader = Reader::new(header());
        let mut out = Vec::new();
        loop {
            let (start, after) = bytes.split_first_chunk().ok_or(BadImage::Short)?;
            let block = BlockHeader::decode(start)?;
            let (body, after) = after
                .split_at_checked(block.body_len())
                .ok_or(BadImage::Short)?;
            bytes = after;
            if reader.check(&block, body)? {
                return Ok(out);
            }
            reader.unpack(&block, body, &mut |key, value| {
                out.push((key.to_vec(), value.to_vec()));
            })?;
        }
    }

    #[test]
    fn the_header_comes_back_and_damage_is_seen() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "{bit}");
        }
        let mut newer = bytes;
        newer[11] = 2;
        let crc = crc32fast::hash(&newer[..HEADER - 4]);
        newer[HEADER - 4..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Header::decode(&newer), Err(BadImage::Newer(2)));
    }

    #[test]
    fn many_blocks() {
        let records = (0..40_000_u32)
            .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; (n % 100) as usize]))
            .collect();
        let bytes = blocks(&records);
        assert_eq!(
            read(&bytes).unwrap(),
            records.into_iter().collect::<Vec<_>>()
        );
        // Without its last block but with an end.
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            records in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..40),
                proptest::collection::vec(any::<u8>(), 0..300), 0..60),
            place in any::<prop::sample::Index>(),
        ) {
            let bytes = blocks(&records);
            prop_assert_eq!(read(&bytes), Ok(records.into_iter().collect::<Vec<_>>()));
            let mut bad = bytes.clone();
            let bit = place.index(bytes.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bad).is_err());
            prop_assert!(read(&bytes[..place.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz(&data);
        }
    }
}
