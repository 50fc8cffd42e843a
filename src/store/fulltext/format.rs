//! A segment of the full-text index: for each number of three letters (`mail::Trigrams`) the UIDs
//! of the messages that have it. It is written once and never changed.
//!
//! Machine: no IO, no clock, no randomness. May import: types.
//!
//! Blocks (zstd) of about [`BLOCK`] bytes, one after the other; the footer (postcard) with what
//! the segment is of, its messages, and of each block the first number, its length and checksum;
//! the footer's length and checksum, and [`MAGIC`]. In a block, of each number, rising: what it
//! is more than the one before; how many messages; of up to [`FEW`] their UIDs, each as what it
//! is more than the one before, of more than that 0, the length of a roaring bitmap, and it.
//! Integers have seven bits to a byte, the lowest first.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::store::integers::u32_at;
use crate::types::{LogPos, MailboxKey, UidValidity};

pub(super) const MAGIC: [u8; 8] = *b"PHTRIG1\n";
/// Behind the footer.
pub(super) const TAIL: usize = 16;
pub(super) const MAX_FOOTER: usize = 64 * 1024 * 1024;
/// A block ends with the number that fills it.
const BLOCK: usize = 16 * 1024;
/// Only one bitmap of some tens of millions of messages is longer.
pub(super) const MAX_BLOCK: usize = 8 * 1024 * 1024;
const FEW: u64 = 16;
const LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Bad(pub &'static str);

/// What a segment is of, and who made it: another program may read texts differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub maker: u32,
    pub store: [u8; 16],
    pub mailbox: MailboxKey,
    pub uid_validity: UidValidity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockEntry {
    pub first: u32,
    pub len: u32,
    pub raw_len: u32,
    pub crc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    pub origin: Origin,
    /// UIDs that were looked at.
    pub from: u32,
    pub to: u32,
    /// Where the log ended by then: a store that is not so far is another one.
    pub log: LogPos,
    /// Those that are in it: a roaring bitmap.
    pub covered: Vec<u8>,
    pub blocks: Vec<BlockEntry>,
}

impl Footer {
    /// With what follows it.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Bad> {
        let mut out = postcard::to_stdvec(self).map_err(|_| Bad("the footer has no form"))?;
        let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
        if len as usize > MAX_FOOTER {
            return Err(Bad("the footer is too long"));
        }
        let crc = crc32fast::hash(&out);
        out.extend(len.to_be_bytes());
        out.extend(crc.to_be_bytes());
        out.extend(MAGIC);
        Ok(out)
    }

    /// Of a file of so many bytes.
    pub(super) fn decode(bytes: &[u8], tail: &[u8], file: u64) -> Result<Self, Bad> {
        if crc32fast::hash(bytes) != u32_at(tail, 4) {
            return Err(Bad("the footer's checksum is wrong"));
        }
        let footer: Self =
            postcard::from_bytes(bytes).map_err(|_| Bad("the footer can't be read"))?;
        let blocks = &footer.blocks;
        let stored: u64 = blocks.iter().map(|b| u64::from(b.len)).sum();
        let sound = footer.from <= footer.to
            && stored + (bytes.len() + TAIL) as u64 == file
            && blocks.windows(2).all(|two| two[0].first < two[1].first)
            && blocks.iter().all(|b| b.raw_len as usize <= MAX_BLOCK);
        match sound {
            true => Ok(footer),
            false => Err(Bad("the footer does not add up")),
        }
    }

    /// The length of the footer that stands before the last bytes of a file.
    pub(super) fn length(tail: &[u8]) -> Result<usize, Bad> {
        let len = u32_at(tail, 0) as usize;
        match tail.len() == TAIL && tail.ends_with(&MAGIC) && len <= MAX_FOOTER {
            true => Ok(len),
            false => Err(Bad("it is no whole segment of this version")),
        }
    }
}

pub(super) fn pack(uids: &RoaringBitmap) -> Vec<u8> {
    let mut out = Vec::with_capacity(uids.serialized_size());
    // Into memory nothing fails.
    let _ = uids.serialize_into(&mut out);
    out
}

/// Not of others than `from..=to`.
pub(super) fn unpack(bytes: &[u8], from: u32, to: u32) -> Result<RoaringBitmap, Bad> {
    let mut rest = bytes;
    let found = RoaringBitmap::deserialize_from(&mut rest);
    let found = found.map_err(|_| Bad("a bitmap can't be read"))?;
    let within = |uid: Option<u32>| uid.is_none_or(|uid| (from..=to).contains(&uid));
    match rest.is_empty() && within(found.min()) && within(found.max()) {
        true => Ok(found),
        false => Err(Bad("a bitmap is of other messages")),
    }
}

fn put(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, Bad> {
    let mut n = 0;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Bad("a number is cut off"))?;
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(Bad("a number is too long"))
}

/// Makes blocks.
pub(super) struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    block: Vec<u8>,
    first: u32,
    last: u32,
    pub blocks: Vec<BlockEntry>,
}

impl Encoder {
    pub(super) fn new() -> Result<Self, Bad> {
        let compressor = zstd::bulk::Compressor::new(LEVEL);
        Ok(Self {
            compressor: compressor.map_err(|_| Bad("there is no memory to compress with"))?,
            block: Vec::new(),
            first: 0,
            last: 0,
            blocks: Vec::new(),
        })
    }

    /// Numbers come in rising order, each once; a block that is full is added to `out`.
    pub(super) fn put(
        &mut self,
        number: u32,
        uids: &mut RoaringBitmap,
        out: &mut Vec<u8>,
    ) -> Result<(), Bad> {
        if uids.is_empty() {
            return Ok(());
        }
        if self.block.is_empty() {
            (self.first, self.last) = (number, number);
        }
        put(u64::from(number - self.last), &mut self.block);
        self.last = number;
        if uids.len() <= FEW {
            put(uids.len(), &mut self.block);
            let mut before = 0;
            for uid in uids.iter() {
                put(u64::from(uid - before), &mut self.block);
                before = uid;
            }
        } else {
            uids.optimize();
            let packed = pack(uids);
            put(0, &mut self.block);
            put(packed.len() as u64, &mut self.block);
            self.block.extend(packed);
        }
        match self.block.len() >= BLOCK {
            true => self.end(out),
            false => Ok(()),
        }
    }

    /// The last block too.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        if self.block.is_empty() {
            return Ok(());
        }
        if self.block.len() > MAX_BLOCK {
            return Err(Bad("there are too many messages"));
        }
        let packed = self.compressor.compress(&self.block);
        let packed = packed.map_err(|_| Bad("a block could not be compressed"))?;
        self.blocks.push(BlockEntry {
            first: self.first,
            len: packed.len() as u32,
            raw_len: self.block.len() as u32,
            crc: crc32fast::hash(&packed),
        });
        out.extend(packed);
        self.block.clear();
        Ok(())
    }
}

pub(super) type Decompressor = zstd::bulk::Decompressor<'static>;

/// A block's content.
pub(super) fn open_block(
    entry: &BlockEntry,
    stored: &[u8],
    with: &mut Decompressor,
) -> Result<Vec<u8>, Bad> {
    if crc32fast::hash(stored) != entry.crc {
        return Err(Bad("a block's checksum is wrong"));
    }
    let raw = with.decompress(stored, entry.raw_len as usize);
    let raw = raw.map_err(|_| Bad("a block can't be decompressed"))?;
    match raw.len() == entry.raw_len as usize {
        true => Ok(raw),
        false => Err(Bad("a block has another length")),
    }
}

/// Reads a block's numbers in their order.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    last: u32,
    begun: bool,
    range: (u32, u32),
}

impl<'a> Entries<'a> {
    pub(super) fn new(entry: &BlockEntry, (from, to): (u32, u32), block: &'a [u8]) -> Self {
        Self {
            rest: block,
            last: entry.first,
            begun: false,
            range: (from, to),
        }
    }

    /// The next number; its UIDs where it is one that is `wanted`.
    pub(super) fn next(
        &mut self,
        wanted: impl FnOnce(u32) -> bool,
    ) -> Result<Option<(u32, Option<RoaringBitmap>)>, Bad> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let more = take(&mut self.rest)?;
        let number = u64::from(self.last) + more;
        let number = u32::try_from(number).map_err(|_| Bad("a number is too high"))?;
        if self.begun == (more == 0) {
            return Err(Bad("a number comes twice"));
        }
        (self.last, self.begun) = (number, true);
        let wanted = wanted(number);
        let count = take(&mut self.rest)?;
        if count == 0 {
            let len = take(&mut self.rest)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let (packed, rest) = self
                .rest
                .split_at_checked(len)
                .ok_or(Bad("a bitmap is cut off"))?;
            self.rest = rest;
            let (from, to) = self.range;
            let uids = wanted.then(|| unpack(packed, from, to)).transpose()?;
            return Ok(Some((number, uids)));
        }
        if count > FEW {
            return Err(Bad("a list is too long"));
        }
        let (mut uids, mut uid) = (RoaringBitmap::new(), 0);
        for _ in 0..count {
            let more = take(&mut self.rest)?;
            uid = u32::try_from(u64::from(uid) + more).map_err(|_| Bad("a UID is too high"))?;
            if more == 0 || !(self.range.0..=self.range.1).contains(&uid) {
                return Err(Bad("a list is of other messages"));
            }
            if wanted {
                uids.insert(uid);
            }
        }
        Ok(Some((number, wanted.then_some(uids))))
    }
}

/// Any bytes as a whole file, as a footer and as a block, for the fuzzer.
pub(in crate::store) fn fuzz(data: &[u8]) {
    let (bytes, tail) = data.split_at(data.len().saturating_sub(TAIL));
    if let Ok(len) = Footer::length(tail) {
        let bytes = &bytes[bytes.len().saturating_sub(len)..];
        let _ = Footer::decode(bytes, tail, data.len() as u64);
    }
    let mut sealed = [0; TAIL];
    sealed[4..8].copy_from_slice(&crc32fast::hash(data).to_be_bytes());
    if let Ok(footer) = Footer::decode(data, &sealed, data.len() as u64) {
        let _ = unpack(&footer.covered, footer.from, footer.to);
    }
    let entry = BlockEntry {
        first: 1,
        len: data.len() as u32,
        raw_len: data.len().min(MAX_BLOCK) as u32,
        crc: crc32fast::hash(data),
    };
    if let Ok(mut with) = Decompressor::new() {
        let _ = open_block(&entry, data, &mut with);
    }
    let mut entries = Entries::new(&entry, (1, 100_000), data);
    let mut last = None;
    while let Ok(Some((number, uids))) = entries.next(|_| true) {
        assert!(last < Some(number));
        let within = |uid: Option<u32>| uid.is_none_or(|uid| (1..=100_000).contains(&uid));
        assert!(uids.is_some_and(|uids| within(uids.min()) && within(uids.max())));
        last = Some(number);
    }
}
