//! Reads commit groups back, beside the writer.
//!
//! May import: `files`, `frame`, `scan` and the parent's types.

use std::sync::Arc;

use super::files::{self, Shared, failed};
use super::frame::FileKind;
use super::scan::Scan;
use super::{BlobPlace, Frame, LogError, LogRead, ReadReport};
use crate::types::{BlobId, LogPos};

pub(super) struct FileReader {
    pub(super) shared: Arc<Shared>,
}

impl LogRead for FileReader {
    fn read_from(
        &self,
        from: LogPos,
        after: Option<u64>,
        each: &mut dyn FnMut(Frame) -> bool,
    ) -> Result<ReadReport, LogError> {
        let shared = &*self.shared;
        let mut report = ReadReport::default();
        let end = shared.end();
        if from >= end {
            return Ok(report);
        }
        let listing =
            files::list(&*shared.disk, &shared.dir).map_err(|e| failed(&shared.dir, e))?;
        // From the start the first group is known, from the middle the first one that is met.
        let mut last_seq = after.or((from == LogPos::default()).then_some(0));
        for number in listing.segments {
            if number < from.segment || number > end.segment {
                continue;
            }
            let file = match shared.file(number) {
                // Removed meanwhile, so nobody needs what it held. Otherwise the numbers of the
                // groups tell.
                Err(LogError::Missing(_)) => continue,
                file => file?,
            };
            let path = shared.dir.join(files::name(FileKind::Segment, number));
            let start = if number == from.segment {
                from.offset
            } else {
                0
            };
            let limit = if number == end.segment {
                end.offset
            } else {
                u64::MAX
            };
            let mut scan = Scan::new(&*file, path, &shared.store_id, number, start, limit)?;
            while let Some(frame) = scan.next_frame()? {
                if let Some(last) = last_seq {
                    if frame.seq <= last {
                        // A group is never given twice.
                        continue;
                    }
                    report.missing_groups += frame.seq - last - 1;
                }
                last_seq = Some(frame.seq);
                report.frames += 1;
                if !each(frame) {
                    report.damaged_bytes += scan.damaged_bytes;
                    return Ok(report);
                }
            }
            report.damaged_bytes += scan.damaged_bytes + scan.tail_bytes;
        }
        Ok(report)
    }

    fn segments(&self) -> Result<Vec<(u64, u64)>, LogError> {
        let shared = &*self.shared;
        let listing =
            files::list(&*shared.disk, &shared.dir).map_err(|e| failed(&shared.dir, e))?;
        Ok(listing.sizes)
    }

    fn bodies_in(&self, segment: u64) -> Result<(Vec<(BlobId, BlobPlace)>, ReadReport), LogError> {
        let shared = &*self.shared;
        let end = shared.end();
        let file = shared.file(segment)?;
        let path = shared.dir.join(files::name(FileKind::Segment, segment));
        let limit = match segment == end.segment {
            true => end.offset,
            false => u64::MAX,
        };
        let mut scan = Scan::new(&*file, path, &shared.store_id, segment, 0, limit)?;
        let mut bodies = Vec::new();
        let mut report = ReadReport::default();
        while let Some(frame) = scan.next_frame()? {
            report.frames += 1;
            bodies.extend(frame.blobs);
        }
        report.damaged_bytes = scan.damaged_bytes + scan.tail_bytes;
        Ok((bodies, report))
    }
}
