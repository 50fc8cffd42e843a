//! Segments as files: names, reading, writing, and making one of several.
//!
//! May import: `format`, the disk, types.
//!
//! `fulltext/<account>-<mailbox>-<from>-<to>.tri`; unfinished ones end in `.tmp`. A segment never
//! changes, so whoever has one open reads on when its name is gone.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::format::{
    self, Bad, BlockEntry, Decompressor, Encoder, Entries, Footer, Origin, TAIL, unpack,
};
use crate::store::disk::{Disk, DiskFile};
use crate::types::{AccountId, LogPos, MailboxId, MailboxKey};

const DIR: &str = "fulltext";
const SUFFIX: &str = ".tri";
pub(super) const UNFINISHED: &str = ".tmp";
/// What is written at a time.
const WRITE: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Bad(#[from] Bad),
}

pub(super) fn directory(data: &Path) -> PathBuf {
    data.join(DIR)
}

/// UIDs that were looked at, the first and the last.
pub(super) type Span = (u32, u32);

pub(super) fn name(mailbox: MailboxKey, (from, to): Span) -> String {
    let (account, mailbox) = (mailbox.account.0, mailbox.mailbox.0);
    format!("{account:08x}-{mailbox:08x}-{from:08x}-{to:08x}{SUFFIX}")
}

pub(super) fn parse_name(name: &str) -> Option<(MailboxKey, Span)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-');
    let mut next = || {
        let part = parts.next()?;
        let fine = part.len() == 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
        fine.then(|| u32::from_str_radix(part, 16).ok()).flatten()
    };
    let (account, mailbox, from, to) = (next()?, next()?, next()?, next()?);
    let key = MailboxKey {
        account: AccountId(account),
        mailbox: MailboxId(mailbox),
    };
    (parts.next().is_none() && 0 < from && from <= to).then_some((key, (from, to)))
}

struct Block {
    entry: BlockEntry,
    offset: u64,
}

/// An open segment.
pub(super) struct Segment {
    file: Arc<dyn DiskFile>,
    span: Span,
    log: LogPos,
    covered: RoaringBitmap,
    blocks: Vec<Block>,
}

impl Segment {
    /// Of `origin` and no other.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        origin: Origin,
        span: Span,
    ) -> Result<Self, SegmentError> {
        let file = disk.open(&dir.join(name(origin.mailbox, span)))?;
        Self::read(file, origin, span)
    }

    fn read(file: Arc<dyn DiskFile>, origin: Origin, span: Span) -> Result<Self, SegmentError> {
        let len = file.len()?;
        let cut_off = Bad("it is cut off");
        let body = len.checked_sub(TAIL as u64).ok_or(cut_off)?;
        let mut tail = [0; TAIL];
        file.read_exact_beside(&mut tail, body)?;
        let footer_len = Footer::length(&tail)?;
        let start = body.checked_sub(footer_len as u64).ok_or(cut_off)?;
        let mut footer = vec![0; footer_len];
        file.read_exact_beside(&mut footer, start)?;
        let footer = Footer::decode(&footer, &tail, len)?;
        if (footer.origin, (footer.from, footer.to)) != (origin, span) {
            return Err(Bad("it is of something else").into());
        }
        let mut offset = 0;
        let placed = |entry: BlockEntry| {
            let block = Block { entry, offset };
            offset += u64::from(entry.len);
            block
        };
        Ok(Self {
            file,
            span,
            log: footer.log,
            covered: unpack(&footer.covered, span.0, span.1)?,
            blocks: footer.blocks.into_iter().map(placed).collect(),
        })
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Where the log ended when it was made.
    pub(super) fn log(&self) -> LogPos {
        self.log
    }

    /// The messages that are in it.
    pub(super) fn covered(&self) -> &RoaringBitmap {
        &self.covered
    }

    fn block(&self, n: usize, with: &mut Decompressor) -> Result<Option<Vec<u8>>, SegmentError> {
        let Some(Block { entry, offset }) = self.blocks.get(n) else {
            return Ok(None);
        };
        let mut stored = vec![0; entry.len as usize];
        self.file.read_exact_beside(&mut stored, *offset)?;
        Ok(Some(format::open_block(entry, &stored, with)?))
    }

    fn entries<'a>(&self, n: usize, block: &'a [u8]) -> Option<Entries<'a>> {
        let entry = &self.blocks.get(n)?.entry;
        Some(Entries::new(entry, self.span, block))
    }

    /// The messages that have all of the numbers, which are rising.
    pub(super) fn with_all(
        &self,
        numbers: &[u32],
        with: &mut Decompressor,
    ) -> Result<RoaringBitmap, SegmentError> {
        let mut all = self.covered.clone();
        let mut at = numbers.iter().copied().peekable();
        while let Some(first) = at.peek().copied() {
            let n = self.blocks.partition_point(|b| b.entry.first <= first);
            let Some(n) = n.checked_sub(1) else {
                return Ok(RoaringBitmap::new());
            };
            let next = self.blocks.get(n + 1).map(|b| b.entry.first);
            let Some(block) = self.block(n, with)? else {
                return Ok(RoaringBitmap::new());
            };
            let Some(mut entries) = self.entries(n, &block) else {
                return Ok(RoaringBitmap::new());
            };
            // Those that can only be in this block.
            while let Some(number) = at.next_if(|number| next.is_none_or(|next| *number < next)) {
                let uids = loop {
                    match entries.next(|found| found == number)? {
                        Some((found, uids)) if found >= number => break uids,
                        Some(_) => {}
                        None => break None,
                    }
                };
                let Some(uids) = uids else {
                    return Ok(RoaringBitmap::new());
                };
                all &= uids;
                if all.is_empty() {
                    return Ok(all);
                }
            }
        }
        Ok(all)
    }
}

/// Reads a segment from its beginning.
struct Reading<'a> {
    segment: &'a Segment,
    block: usize,
    ready: VecDeque<(u32, RoaringBitmap)>,
}

impl Reading<'_> {
    /// The number that comes next.
    fn peek(&mut self, with: &mut Decompressor) -> Result<Option<u32>, SegmentError> {
        while self.ready.is_empty() {
            let Some(block) = self.segment.block(self.block, with)? else {
                return Ok(None);
            };
            if let Some(mut entries) = self.segment.entries(self.block, &block) {
                while let Some((number, Some(uids))) = entries.next(|_| true)? {
                    self.ready.push_back((number, uids));
                }
            }
            self.block += 1;
        }
        Ok(self.ready.front().map(|(number, _)| *number))
    }
}

/// Writes a segment.
pub(super) struct Writing {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    encoder: Encoder,
    out: Vec<u8>,
    written: u64,
    footer: Footer,
}

impl Writing {
    pub(super) fn begin(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        origin: Origin,
        (from, to): Span,
        log: LogPos,
    ) -> Result<Self, SegmentError> {
        disk.create_dir(dir)?;
        let unfinished = dir.join(name(origin.mailbox, (from, to)) + UNFINISHED);
        let _ = disk.remove(&unfinished);
        Ok(Self {
            file: disk.create_new(&unfinished)?,
            disk: disk.clone(),
            dir: dir.to_owned(),
            encoder: Encoder::new()?,
            out: Vec::new(),
            written: 0,
            footer: Footer {
                origin,
                from,
                to,
                log,
                covered: Vec::new(),
                blocks: Vec::new(),
            },
        })
    }

    /// Numbers come in rising order, each once.
    pub(super) fn put(&mut self, number: u32, mut uids: RoaringBitmap) -> Result<(), SegmentError> {
        self.encoder.put(number, &mut uids, &mut self.out)?;
        match self.out.len() >= WRITE {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), SegmentError> {
        self.file.write_all_at(&self.out, self.written)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn unfinished(&self) -> (PathBuf, PathBuf) {
        let footer = &self.footer;
        let name = name(footer.origin.mailbox, (footer.from, footer.to));
        let unfinished = self.dir.join(format!("{name}{UNFINISHED}"));
        (unfinished, self.dir.join(name))
    }

    /// Puts it under its name, whole and durable, and tells its size; `covered` are its messages.
    pub(super) fn end(mut self, mut covered: RoaringBitmap) -> Result<u64, SegmentError> {
        self.encoder.end(&mut self.out)?;
        covered.optimize();
        self.footer.covered = format::pack(&covered);
        self.footer.blocks = std::mem::take(&mut self.encoder.blocks);
        self.out.extend(self.footer.encode()?);
        self.write()?;
        self.file.sync_all()?;
        let (unfinished, path) = self.unfinished();
        self.disk.rename(&unfinished, &path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.written)
    }
}

impl Drop for Writing {
    /// What was not ended goes; what was has no such name any more.
    fn drop(&mut self) {
        let _ = self.disk.remove(&self.unfinished().0);
    }
}

/// Makes one segment of some that lie side by side, with those messages only that are `live`.
pub(super) fn merge(
    segments: &[Arc<Segment>],
    live: &RoaringBitmap,
    mut into: Writing,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<u64>, SegmentError> {
    let mut with = Decompressor::new()?;
    let reading = |segment| Reading {
        segment,
        block: 0,
        ready: VecDeque::new(),
    };
    let mut all: Vec<Reading<'_>> = segments.iter().map(|s| reading(s)).collect();
    loop {
        let mut lowest = None;
        for one in &mut all {
            lowest = match (lowest, one.peek(&mut with)?) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u32>(a, b)),
                (a, b) => a.or(b),
            };
        }
        let Some(number) = lowest else {
            break;
        };
        let mut uids = RoaringBitmap::new();
        for one in &mut all {
            let ours = one.ready.front().is_some_and(|(n, _)| *n == number);
            if ours && let Some((_, more)) = one.ready.pop_front() {
                uids |= more;
            }
        }
        uids &= live;
        into.put(number, uids)?;
        if !go_on() {
            return Ok(None);
        }
    }
    let mut covered = RoaringBitmap::new();
    for segment in segments {
        covered |= segment.covered();
    }
    covered &= live;
    into.end(covered).map(Some)
}
