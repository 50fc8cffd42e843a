//! Bodies: read from any file of the log, large ones written to files of their own.
//!
//! May import: `files`, `frame`, `record`, the disk and the parent's types.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{self, Shared, failed};
use super::frame::{FILE_HEADER, FileKind};
use super::record::{self, CHUNK, ChunkEntry, RecordHeader};
use super::{BlobChunk, BlobData, BlobPlace, BlobStore, LogError};
use crate::types::BlobId;

/// What is read with one call where several bodies are wanted.
const READ_NEAR: u64 = 512 * 1024;
/// What may lie between two of them.
const GAP: u64 = 8 * 1024;

/// Records up to this size are read with one call, whatever part is wanted.
const READ_WHOLE: u64 = 64 * 1024;

pub(super) struct FileBlobs {
    pub(super) shared: Arc<Shared>,
}

impl BlobStore for FileBlobs {
    fn get(&self, id: &BlobId, place: &BlobPlace, range: Range<u64>) -> Result<Bytes, LogError> {
        let (start, header) = self.record(id, place, READ_WHOLE)?;
        let (head, whole) = (
            record::header_len(place.raw_len),
            place.stored_len <= READ_WHOLE,
        );
        let wanted = range.start.min(header.raw_len)..range.end.min(header.raw_len);
        if wanted.is_empty() {
            return Ok(Bytes::new());
        }
        let chunks =
            (wanted.start / CHUNK as u64) as usize..wanted.end.div_ceil(CHUNK as u64) as usize;
        let from = head + header.stored_in(0..chunks.start);
        let stored_len = header.stored_in(chunks.clone());
        let stored = if whole {
            start
                .get(from as usize..(from + stored_len) as usize)
                .unwrap_or_default()
                .to_vec()
        } else {
            self.read(place, from, stored_len)?
        };
        unpack(&header, chunks, &stored, wanted)
    }

    fn get_many(&self, wanted: &[(BlobId, BlobPlace)]) -> Vec<Option<Bytes>> {
        let mut found = vec![None; wanted.len()];
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        let key = |n: &usize| wanted.get(*n).map(|(_, p)| (p.segment, p.offset));
        order.sort_unstable_by_key(key);
        let mut rest = order.as_slice();
        while let Some(near) = side_by_side(rest, wanted).filter(|near| !near.is_empty()) {
            rest = rest.get(near.len()..).unwrap_or_default();
            self.read_near(near, wanted, &mut found);
        }
        found
    }

    fn stored(&self, id: &BlobId, place: &BlobPlace) -> Result<BlobData, LogError> {
        let (bytes, header) = self.record(id, place, u64::MAX)?;
        let bytes = Bytes::from(bytes);
        let mut at = record::header_len(place.raw_len) as usize;
        let mut chunks = Vec::with_capacity(header.chunks.len());
        for chunk in &header.chunks {
            let end = at + chunk.stored_len as usize;
            let stored = bytes.get(at..end);
            let right = stored.is_some_and(|stored| crc32fast::hash(stored) == chunk.crc);
            if !right {
                return Err(LogError::Damaged("a chunk's checksum is wrong"));
            }
            chunks.push(BlobChunk {
                codec: chunk.codec,
                raw_len: chunk.raw_len,
                crc: chunk.crc,
                bytes: bytes.slice(at..end),
            });
            at = end;
        }
        Ok(BlobData {
            id: *id,
            raw_len: header.raw_len,
            chunks,
        })
    }

    fn check(&self, id: &BlobId, place: &BlobPlace) -> Result<(), LogError> {
        let (_, header) = self.record(id, place, 0)?;
        let mut at = record::header_len(place.raw_len);
        for chunk in &header.chunks {
            let len = u64::from(chunk.stored_len);
            let stored = self.read(place, at, len)?;
            if crc32fast::hash(&stored) != chunk.crc {
                return Err(LogError::Damaged("a chunk's checksum is wrong"));
            }
            at += len;
        }
        Ok(())
    }

    fn remove_segment(&self, segment: u64) -> Result<(), LogError> {
        let shared = &self.shared;
        if segment >= shared.end().segment {
            return Err(LogError::Damaged("a segment that is in use does not go"));
        }
        shared.forget_file(segment);
        let path = shared.dir.join(files::name(FileKind::Segment, segment));
        let gone = match shared.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        gone.and_then(|()| shared.disk.sync_dir(&shared.dir))
            .map_err(|e| failed(&path, e))
    }

    fn put_large(&self, blob: &BlobData) -> Result<BlobPlace, LogError> {
        let mut chunks = blob.chunks.iter();
        self.write_file(blob.id, blob.raw_len, &mut || Ok(chunks.next().cloned()))
    }

    fn remove(&self, place: &BlobPlace) -> Result<(), LogError> {
        if !super::has_own_file(place) {
            return Ok(());
        }
        self.shared.forget_file(place.segment);
        let name = files::name(FileKind::Blob, place.segment);
        let path = self.shared.dir.join(name);
        match self.shared.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    fn own_files(&self) -> Result<Vec<(Option<BlobId>, BlobPlace)>, LogError> {
        let shared = &self.shared;
        let listing =
            files::list(&*shared.disk, &shared.dir).map_err(|e| failed(&shared.dir, e))?;
        let mut found = Vec::with_capacity(listing.blobs.len());
        for number in listing.blobs {
            let path = shared.dir.join(files::name(FileKind::Blob, number));
            let read = || {
                let file = shared.disk.open(&path).ok()?;
                let mut fixed = [0; record::FIXED_HEADER];
                file.read_exact_at(&mut fixed, FILE_HEADER as u64).ok()?;
                let raw_len = record::raw_len(&fixed)?;
                let len = file.len().ok()?;
                let head = record::header_len(raw_len);
                if head > len {
                    return None;
                }
                let mut bytes = vec![0; usize::try_from(head).ok()?];
                file.read_exact_at(&mut bytes, FILE_HEADER as u64).ok()?;
                RecordHeader::decode(&bytes)
            };
            let header = read();
            let place = BlobPlace {
                segment: number,
                offset: FILE_HEADER as u64,
                stored_len: header.as_ref().map_or(0, RecordHeader::record_len),
                raw_len: header.as_ref().map_or(0, |h| h.raw_len),
            };
            found.push((header.map(|h| h.id), place));
        }
        Ok(found)
    }

    fn put_large_from(
        &self,
        id: BlobId,
        raw: &mut dyn Read,
        raw_len: u64,
    ) -> Result<BlobPlace, LogError> {
        let mut rest = raw_len;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(raw_len).unwrap_or(CHUNK))];
        self.write_file(id, raw_len, &mut || {
            if rest == 0 {
                return Ok(None);
            }
            let len = rest.min(CHUNK as u64) as usize;
            let piece = &mut buffer[..len];
            raw.read_exact(piece)
                .map_err(|e| failed(Path::new("message"), e))?;
            rest -= len as u64;
            Ok(Some(record::pack(piece)))
        })
    }
}

/// A body from its whole record.
fn whole(id: &BlobId, place: &BlobPlace, record: &[u8]) -> Option<Bytes> {
    let header = RecordHeader::decode(record)?;
    let right = header.id == *id
        && header.raw_len == place.raw_len
        && header.record_len() == place.stored_len;
    let stored = record.get(record::header_len(place.raw_len) as usize..)?;
    if !right {
        return None;
    }
    unpack(&header, 0..header.chunks.len(), stored, 0..header.raw_len).ok()
}

fn unpack(
    header: &RecordHeader,
    chunks: Range<usize>,
    mut stored: &[u8],
    wanted: Range<u64>,
) -> Result<Bytes, LogError> {
    let base = chunks.start as u64 * CHUNK as u64;
    let mut raw = Vec::with_capacity(chunks.len() * CHUNK.min(header.raw_len as usize));
    for chunk in header.chunks.get(chunks).unwrap_or_default() {
        let (bytes, rest) = stored
            .split_at_checked(chunk.stored_len as usize)
            .ok_or(LogError::Damaged("a body is cut off"))?;
        stored = rest;
        chunk.unpack(bytes, &mut raw)?;
    }
    let part = (wanted.start - base) as usize..(wanted.end - base) as usize;
    if part.len() * 2 < raw.len() {
        // A small part must not keep the whole chunk in memory.
        return Ok(Bytes::copy_from_slice(&raw[part]));
    }
    Ok(Bytes::from(raw).slice(part))
}

/// The first of `order` with those behind it that can be read with one call.
fn side_by_side<'a>(order: &'a [usize], wanted: &[(BlobId, BlobPlace)]) -> Option<&'a [usize]> {
    let place = |n: &usize| wanted.get(*n).map(|(_, place)| *place);
    let first = order.first().and_then(place)?;
    let mut end = first.offset.checked_add(first.stored_len)?;
    let joins = |n: &&usize| {
        let Some(next) = place(n) else {
            return false;
        };
        let Some(next_end) = next.offset.checked_add(next.stored_len) else {
            return false;
        };
        let near = next.segment == first.segment
            && next.offset <= end.saturating_add(GAP)
            && next_end - first.offset <= READ_NEAR;
        end = end.max(next_end);
        near
    };
    let more = order.iter().skip(1).take_while(joins).count();
    order.get(..=more)
}

impl FileBlobs {
    /// Bodies that lie side by side.
    fn read_near(
        &self,
        near: &[usize],
        wanted: &[(BlobId, BlobPlace)],
        found: &mut [Option<Bytes>],
    ) {
        let of = |n: &usize| wanted.get(*n).copied();
        let (Some((_, first)), Some(end)) = (
            near.first().and_then(of),
            near.iter()
                .filter_map(of)
                .map(|(_, p)| p.offset + p.stored_len)
                .max(),
        ) else {
            return;
        };
        let len = end - first.offset;
        let in_file = self.shared.file(first.segment).and_then(|file| {
            let whole = file.len().map_err(|e| failed(&self.shared.dir, e))?;
            Ok(end <= whole && len <= READ_NEAR)
        });
        let Ok(true) = in_file else {
            return;
        };
        let Ok(bytes) = self.read(&first, 0, len) else {
            return;
        };
        for n in near {
            let (Some((id, place)), Some(slot)) = (of(n), found.get_mut(*n)) else {
                continue;
            };
            let at = (place.offset - first.offset) as usize;
            let record = bytes.get(at..at + place.stored_len as usize);
            *slot = record.and_then(|record| whole(&id, &place, record));
        }
    }

    fn read(&self, place: &BlobPlace, from: u64, len: u64) -> Result<Vec<u8>, LogError> {
        let file = self.shared.file(place.segment)?;
        let mut bytes = vec![0; len as usize];
        match file.read_exact_beside(&mut bytes, place.offset + from) {
            Ok(()) => Ok(bytes),
            Err(error) if files::is_unreadable(&error) => {
                Err(LogError::Damaged("the disk can't read it"))
            }
            Err(error) => Err(failed(&self.shared.dir, error)),
        }
    }

    /// The header of a record, held against what the index says, and what was read: all of the
    /// record where it is no longer than `whole`, else no more than the header.
    fn record(
        &self,
        id: &BlobId,
        place: &BlobPlace,
        whole: u64,
    ) -> Result<(Vec<u8>, RecordHeader), LogError> {
        let file = self.shared.file(place.segment)?;
        let len = file.len().map_err(|e| failed(&self.shared.dir, e))?;
        let head = record::header_len(place.raw_len);
        // The place comes from the index: nothing is allocated before it was held to the file.
        let ends = place.offset.checked_add(place.stored_len);
        if ends.is_none_or(|end| end > len) || head > place.stored_len {
            return Err(LogError::Damaged("a body lies beyond its file's end"));
        }
        let wanted = match place.stored_len <= whole {
            true => place.stored_len,
            false => head,
        };
        let start = self.read(place, 0, wanted)?;
        let header = RecordHeader::decode(&start)
            .ok_or(LogError::Damaged("a body's header is not right"))?;
        if header.id != *id {
            return Err(LogError::Damaged("another body lies in this place"));
        }
        if header.raw_len != place.raw_len || header.record_len() != place.stored_len {
            return Err(LogError::Damaged("a body is not as long as it should be"));
        }
        Ok((start, header))
    }

    /// Writes under a name that the next start removes, and gives the file its real one when it
    /// is complete and durable.
    fn write_file(
        &self,
        id: BlobId,
        raw_len: u64,
        next: &mut dyn FnMut() -> Result<Option<BlobChunk>, LogError>,
    ) -> Result<BlobPlace, LogError> {
        if record::chunk_count(raw_len) > u64::from(u32::MAX) {
            return Err(LogError::TooLarge(raw_len));
        }
        let disk = &*self.shared.disk;
        let number = self.shared.next_number();
        let name = files::name(FileKind::Blob, number);
        let path = self.shared.dir.join(&name);
        let unfinished = self.shared.dir.join(format!("{name}.tmp"));
        let written = self
            .fill(&unfinished, number, id, raw_len, next)
            .and_then(|stored_len| {
                disk.rename(&unfinished, &path)
                    .map_err(|e| failed(&path, e))?;
                disk.sync_dir(&self.shared.dir)
                    .map_err(|e| failed(&path, e))?;
                Ok(stored_len)
            });
        match written {
            Ok(stored_len) => Ok(BlobPlace {
                segment: number,
                offset: FILE_HEADER as u64,
                stored_len,
                raw_len,
            }),
            Err(error) => {
                // Nobody knows of it yet.
                let _ = disk.remove(&unfinished);
                let _ = disk.remove(&path);
                Err(error)
            }
        }
    }

    fn fill(
        &self,
        path: &Path,
        number: u64,
        id: BlobId,
        raw_len: u64,
        next: &mut dyn FnMut() -> Result<Option<BlobChunk>, LogError>,
    ) -> Result<u64, LogError> {
        let io = |source| failed(path, source);
        let file = self.shared.disk.create_new(path).map_err(io)?;
        let start = FILE_HEADER as u64;
        let mut at = start + record::header_len(raw_len);
        let mut chunks = Vec::new();
        while let Some(chunk) = next()? {
            file.write_all_at(&chunk.bytes, at).map_err(io)?;
            at += chunk.bytes.len() as u64;
            chunks.push(ChunkEntry::of(&chunk));
        }
        let header = RecordHeader {
            id,
            raw_len,
            chunks,
        };
        file.write_all_at(&header.encode(), start).map_err(io)?;
        file.write_all_at(&self.shared.header(FileKind::Blob, number), 0)
            .map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(at - start)
    }
}
