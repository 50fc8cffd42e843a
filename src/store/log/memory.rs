//! A log in memory, for tests of what is above it.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::files::failed;
use super::*;

#[derive(Default)]
struct Inner {
    frames: Vec<Frame>,
    bodies: HashMap<(u64, u64), (BlobId, Bytes)>,
    end: LogPos,
    last_seq: u64,
    large: u64,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

pub(super) fn open() -> Opened {
    let memory = Memory::default();
    let end = LogPos {
        segment: 1,
        offset: 0,
    };
    memory.0.lock().end = end;
    Opened {
        log: Box::new(memory.clone()),
        reader: Arc::new(memory.clone()),
        blobs: Arc::new(memory),
        last_seq: 0,
        end,
        bytes: 0,
        report: OpenReport {
            created: true,
            ..OpenReport::default()
        },
        store_id: [0; 16],
    }
}

fn raw(blob: &BlobData) -> Result<Bytes, LogError> {
    let mut out = Vec::new();
    for chunk in &blob.chunks {
        record::ChunkEntry::of(chunk).unpack(&chunk.bytes, &mut out)?;
    }
    Ok(out.into())
}

impl CommitLog for Memory {
    fn append(&mut self, seq: u64, blobs: &[&BlobData], ops: &[u8]) -> Result<Appended, LogError> {
        let mut inner = self.0.lock();
        if seq <= inner.last_seq {
            return Err(LogError::OutOfOrder {
                given: seq,
                last: inner.last_seq,
            });
        }
        let mut places = Vec::new();
        for blob in blobs {
            let place = BlobPlace {
                segment: 1,
                offset: inner.end.offset,
                stored_len: blob.stored_len(),
                raw_len: blob.raw_len,
            };
            inner.end.offset += place.stored_len;
            inner
                .bodies
                .insert((1, place.offset), (blob.id, raw(blob)?));
            places.push(place);
        }
        inner.end.offset += ops.len() as u64 + frame::FRAME_HEADER as u64;
        inner.last_seq = seq;
        let end = inner.end;
        let ids = blobs.iter().map(|blob| blob.id);
        inner.frames.push(Frame {
            seq,
            end,
            blobs: ids.zip(places.iter().copied()).collect(),
            ops: ops.to_vec(),
        });
        Ok(Appended { end, places })
    }

    fn recover(&mut self) -> Result<(u64, LogPos), LogError> {
        let inner = self.0.lock();
        Ok((inner.last_seq, inner.end))
    }

    fn end(&self) -> LogPos {
        self.0.lock().end
    }

    fn seal(&mut self) {}
}

impl LogRead for Memory {
    fn read_from(
        &self,
        from: LogPos,
        _after: Option<u64>,
        each: &mut dyn FnMut(Frame) -> bool,
    ) -> Result<ReadReport, LogError> {
        let frames: Vec<Frame> = {
            let inner = self.0.lock();
            let later = inner.frames.iter().filter(|frame| frame.end > from);
            later.cloned().collect()
        };
        let mut report = ReadReport::default();
        for frame in frames {
            report.frames += 1;
            if !each(frame) {
                break;
            }
        }
        Ok(report)
    }

    fn segments(&self) -> Result<Vec<(u64, u64)>, LogError> {
        Ok(vec![(1, self.0.lock().end.offset)])
    }

    fn bodies_in(&self, segment: u64) -> Result<(Vec<(BlobId, BlobPlace)>, ReadReport), LogError> {
        let inner = self.0.lock();
        let frames = inner.frames.iter().filter(|_| segment == 1);
        let bodies = frames
            .flat_map(|frame| frame.blobs.iter().copied())
            .collect();
        Ok((bodies, ReadReport::default()))
    }
}

impl BlobStore for Memory {
    fn get(&self, id: &BlobId, place: &BlobPlace, range: Range<u64>) -> Result<Bytes, LogError> {
        let inner = self.0.lock();
        let (found, body) = inner
            .bodies
            .get(&(place.segment, place.offset))
            .ok_or(LogError::Missing(place.segment))?;
        if found != id {
            return Err(LogError::Damaged("another body lies in this place"));
        }
        let len = body.len() as u64;
        let (start, end) = (range.start.min(len), range.end.min(len));
        Ok(body.slice(start as usize..end.max(start) as usize))
    }

    fn put_large(&self, blob: &BlobData) -> Result<BlobPlace, LogError> {
        let mut inner = self.0.lock();
        inner.large += 1;
        let place = BlobPlace {
            segment: 1_000_000 + inner.large,
            offset: frame::FILE_HEADER as u64,
            stored_len: blob.stored_len(),
            raw_len: blob.raw_len,
        };
        inner
            .bodies
            .insert((place.segment, place.offset), (blob.id, raw(blob)?));
        Ok(place)
    }

    fn remove(&self, place: &BlobPlace) -> Result<(), LogError> {
        let mut inner = self.0.lock();
        inner.bodies.remove(&(place.segment, place.offset));
        Ok(())
    }

    fn stored(&self, id: &BlobId, place: &BlobPlace) -> Result<BlobData, LogError> {
        let raw = self.get(id, place, 0..u64::MAX)?;
        Ok(BlobData::compress(*id, &raw))
    }

    fn check(&self, id: &BlobId, place: &BlobPlace) -> Result<(), LogError> {
        self.get(id, place, 0..u64::MAX).map(drop)
    }

    fn remove_segment(&self, segment: u64) -> Result<(), LogError> {
        Err(LogError::Missing(segment))
    }

    fn own_files(&self) -> Result<Vec<(Option<BlobId>, BlobPlace)>, LogError> {
        Ok(Vec::new())
    }

    fn put_large_from(
        &self,
        id: BlobId,
        source: &mut dyn Read,
        raw_len: u64,
    ) -> Result<BlobPlace, LogError> {
        let mut bytes = vec![0; raw_len as usize];
        source
            .read_exact(&mut bytes)
            .map_err(|e| failed(Path::new("message"), e))?;
        self.put_large(&BlobData::compress(id, &bytes))
    }
}
