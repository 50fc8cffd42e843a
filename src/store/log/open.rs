//! Opens the log: finds its end and puts the tail in order.
//!
//! May import: everything in this folder.
//!
//! Only the newest segment with frames is looked through, and of its frames only the headers
//! and the last one's content: one group at most is under way when the power goes. What is
//! wrong with older content is found by whoever reads it.
//!
//! What is not whole at the end is a torn group only as long as the index does not know better:
//! groups that it has were acknowledged, so if they can't be read that is damage. Then the file
//! is kept as it is, and writing goes on in a new one with numbers above theirs. The same where
//! the tail has more than one frame's beginning: one group at most was being written. (Mail may
//! hold those bytes on purpose; then a torn group is taken for damage, which costs nothing.)

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile};
use super::blob::FileBlobs;
use super::files::{self, Shared};
use super::frame::{BadHeader, FILE_HEADER, FRAME_HEADER, FileHeader, FileKind, Seed, VERSION};
use super::reader::FileReader;
use super::scan::Scan;
use super::writer::{Active, FileLog};
use super::{Known, LARGE_BLOB, LogError, OpenError, OpenReport, Opened};
use crate::types::LogPos;

/// More than this after the last good frame is no torn group, it is damage.
const TORN_MAX: u64 = 8 * LARGE_BLOB;

/// Groups that may be where the end of the log can't be read, which the index has not either: it
/// lags by less than a second.
const UNREAD_MAX: u64 = 4096;

/// An open log before its parts are put behind their traits.
pub(super) struct Parts {
    pub(super) log: FileLog,
    bytes: u64,
    report: OpenReport,
}

impl Parts {
    pub(super) fn finish(self) -> Opened {
        let shared = self.log.shared.clone();
        Opened {
            last_seq: self.log.last_seq,
            end: shared.end(),
            bytes: self.bytes,
            report: self.report,
            store_id: shared.store_id,
            reader: Arc::new(FileReader {
                shared: shared.clone(),
            }),
            blobs: Arc::new(FileBlobs { shared }),
            log: Box::new(self.log),
        }
    }
}

pub(super) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    segment_bytes: u64,
    known: Known,
) -> Result<Parts, OpenError> {
    let dir = dir.join("log");
    let io = |source| failed(&dir, source);
    disk.create_dir(&dir).map_err(io)?;
    let mut listing = files::list(&**disk, &dir).map_err(io)?;
    for path in &listing.unfinished {
        disk.remove(path).map_err(|e| failed(path, e))?;
    }
    let mut report = OpenReport::default();
    let numbers = listing.segments.iter().chain(&listing.blobs).copied();
    let acked_segment = known.acked.map(|(at, _)| at.segment);
    let next_number = numbers.chain(acked_segment).max().map_or(1, |n| n + 1);
    let told = read_headers(&**disk, &dir, &mut listing.segments, known.id, &mut report)?;
    let id = known
        .id
        .or(told)
        .or_else(|| blob_header(&**disk, &dir, &listing));
    let id = id.or(known.index_id);
    let had_groups = known.acked.is_some() || !listing.blobs.is_empty();
    let store_id = match id {
        _ if listing.segments.is_empty() && (had_groups || known.id.is_some()) => {
            return Err(OpenError::LogMissing { path: dir });
        }
        Some(id) => id,
        None if listing.segments.is_empty() => known.new_id,
        None => return Err(foreign(&dir, "no segment has a header that can be read")),
    };
    let shared = Arc::new(Shared::new(
        disk.clone(),
        dir.clone(),
        store_id,
        LogPos::default(),
        next_number,
    ));
    if listing.segments.is_empty() {
        report.created = true;
        let (number, _) = shared
            .create_segment()
            .map_err(|e| from_log(&shared.dir, e))?;
        listing.segments.push(number);
        listing.bytes += FILE_HEADER as u64;
    }
    report.segments = listing.segments.len() as u64;
    report.blob_files = listing.blobs.len() as u64;
    report.misfit = known.index_id.is_some_and(|id| id != store_id);
    let acked = known.acked.filter(|_| !report.misfit).filter(|acked| {
        match fits(&shared, &listing.segments, *acked) {
            // Not even that can be told where it can't be read.
            Ok(fits) => {
                report.misfit = !fits;
                fits
            }
            Err(_) => true,
        }
    });
    let tail = find_tail(&shared, &listing.segments, acked, &mut report)?;
    let log = start_writing(&shared, segment_bytes, tail)?;
    Ok(Parts {
        log,
        bytes: listing.bytes.saturating_sub(report.torn_bytes),
        report,
    })
}

/// Reads all segments' headers; gives the store's id. Files too short to hold a frame whose
/// header is bad are left out; those at the end, which a power cut left while they were made,
/// are removed.
fn read_headers(
    disk: &dyn Disk,
    dir: &Path,
    segments: &mut Vec<u64>,
    mut store_id: Option<[u8; 16]>,
    report: &mut OpenReport,
) -> Result<Option<[u8; 16]>, OpenError> {
    let mut useful = Vec::new();
    let mut unmade = Vec::new();
    for number in segments.drain(..) {
        let path = dir.join(files::name(FileKind::Segment, number));
        let io = |source| failed(&path, source);
        let file = disk.open(&path).map_err(io)?;
        let len = file.len().map_err(io)?;
        let mut bytes = [0; FILE_HEADER];
        let there = len.min(FILE_HEADER as u64) as usize;
        let header = match read_start(&*file, &path, &mut bytes[..there]) {
            Err(error) if files::is_unreadable(&error) => Err(BadHeader::Damaged),
            done => done
                .map_err(io)
                .map(|()| FileHeader::decode(&bytes[..there]))?,
        };
        match header {
            Ok(header) => {
                if header.kind != FileKind::Segment || header.number != number {
                    return Err(foreign(&path, "the file has been renamed"));
                }
                if store_id.is_some_and(|id| id != header.store_id) {
                    return Err(foreign(&path, "it belongs to another store"));
                }
                store_id = Some(header.store_id);
                useful.push(number);
                unmade.clear();
            }
            Err(BadHeader::Newer(found)) => return Err(newer(&path, found)),
            Err(BadHeader::Short | BadHeader::Foreign | BadHeader::Damaged) => {
                if len > FILE_HEADER as u64 {
                    report.damaged_bytes += FILE_HEADER as u64;
                    useful.push(number);
                    unmade.clear();
                } else {
                    unmade.push(path);
                }
            }
        }
    }
    for path in unmade {
        disk.remove(&path).map_err(|e| failed(&path, e))?;
    }
    *segments = useful;
    Ok(store_id)
}

fn read_start(file: &dyn DiskFile, path: &Path, into: &mut [u8]) -> io::Result<()> {
    #[cfg(test)]
    super::faulty::on_read(path, 0..into.len() as u64)?;
    #[cfg(not(test))]
    let _ = path;
    file.read_exact_at(into, 0)
}

/// The store's id from a file of a large body.
fn blob_header(disk: &dyn Disk, dir: &Path, listing: &files::Listing) -> Option<[u8; 16]> {
    listing.blobs.iter().find_map(|number| {
        let file = disk
            .open(&dir.join(files::name(FileKind::Blob, *number)))
            .ok()?;
        let mut bytes = [0; FILE_HEADER];
        file.read_exact_at(&mut bytes, 0).ok()?;
        FileHeader::decode(&bytes).ok().map(|h| h.store_id)
    })
}

/// False where the log shows that no group with this number ends in this place. Where the log
/// is damaged there it can't be told.
fn fits(shared: &Shared, segments: &[u64], (at, seq): (LogPos, u64)) -> Result<bool, LogError> {
    if !segments.contains(&at.segment) {
        return Ok(true);
    }
    let path = shared.dir.join(files::name(FileKind::Segment, at.segment));
    let file = shared.disk.open(&path);
    let file = file.map_err(|e| files::failed(&path, e))?;
    let mut scan = Scan::new(&*file, path, &shared.store_id, at.segment, 0, u64::MAX)?;
    while let Some(found) = scan.next_header()? {
        if found.offset >= at.offset {
            return Ok(found.header.seq > seq);
        }
        let ends_there = found.end() == at.offset && found.header.seq == seq;
        let before = found.end() < at.offset && found.header.seq < seq;
        if !ends_there && !before {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where writing goes on.
struct Tail {
    /// The segment to write to, and where; none where that must be a new segment.
    active: Option<(u64, u64)>,
    last_seq: u64,
    last_start: Option<u64>,
    end: LogPos,
    spare: VecDeque<u64>,
}

/// Walks from the newest segment back to the first one with a good frame. Segments that are
/// wholly empty were prepared ahead; the newest other one is where writing stopped.
fn find_tail(
    shared: &Shared,
    segments: &[u64],
    acked: Option<(LogPos, u64)>,
    report: &mut OpenReport,
) -> Result<Tail, OpenError> {
    let (acked_at, acked_seq) = acked.unwrap_or_default();
    let mut spare = VecDeque::new();
    let mut written = Vec::new();
    for number in segments.iter().rev().copied() {
        let path = shared.dir.join(files::name(FileKind::Segment, number));
        let ends = look_through(shared, number, &path, acked_seq)?;
        if ends.is_empty() {
            spare.push_front(number);
            continue;
        }
        let found = ends.last.is_some();
        written.push((number, path, ends));
        if found {
            break;
        }
    }
    let last_good = written
        .iter()
        .find_map(|(_, _, ends)| ends.last)
        .map_or(0, |(seq, _)| seq);
    report.lost_groups = acked_seq.saturating_sub(last_good);
    let mut tail = Tail {
        active: None,
        last_seq: last_good.max(acked_seq),
        last_start: None,
        end: acked_at,
        spare,
    };
    let stopped_at = written.first().map(|(number, ..)| *number);
    for (number, path, ends) in &written {
        let cut = ends.file_len - ends.good_end;
        let newest = stopped_at == Some(*number);
        let one_group = cut <= TORN_MAX && ends.tail_frames == 0;
        // What the disk does not give may be whole.
        let torn = newest && cut > 0 && one_group && report.lost_groups == 0 && !ends.unreadable;
        report.damaged_bytes += ends.damaged_bytes;
        if torn {
            truncate(&*shared.disk, path, ends.good_end).map_err(|e| failed(path, e))?;
            report.torn_bytes += cut;
        } else {
            report.damaged_bytes += ends.tail_bytes;
        }
        if newest {
            if ends.unreadable {
                // No number that a group may have there is used again.
                tail.last_seq += (cut / FRAME_HEADER as u64).min(UNREAD_MAX);
            } else if torn || (cut == 0 && report.lost_groups == 0) {
                tail.active = Some((*number, ends.good_end));
                tail.last_start = ends.last.map(|(_, start)| start);
            }
            let offset = if torn { ends.good_end } else { ends.file_len };
            tail.end = tail.end.max(LogPos {
                segment: *number,
                offset,
            });
        }
    }
    // A spare one may be older than where writing stopped only if it was never written to and
    // its successors were: it has lost its turn.
    let after = stopped_at.max(acked.map(|(at, _)| at.segment));
    tail.spare.retain(|number| Some(*number) > after);
    if tail.active.is_none() {
        let next = tail.spare.pop_front();
        tail.active = next.map(|number| (number, FILE_HEADER as u64));
    }
    Ok(tail)
}

struct Ends {
    file_len: u64,
    good_end: u64,
    damaged_bytes: u64,
    tail_bytes: u64,
    tail_frames: u64,
    /// The disk could not give some of the bytes.
    unreadable: bool,
    /// The last good frame's number and start.
    last: Option<(u64, u64)>,
}

impl Ends {
    /// It was prepared ahead and never written to.
    fn is_empty(&self) -> bool {
        self.file_len == self.good_end && self.last.is_none() && self.damaged_bytes == 0
    }
}

fn look_through(
    shared: &Shared,
    number: u64,
    path: &Path,
    acked_seq: u64,
) -> Result<Ends, OpenError> {
    let file = shared.disk.open(path).map_err(|e| failed(path, e))?;
    let file_len = file.len().map_err(|e| failed(path, e))?;
    let read = || {
        let path = path.to_path_buf();
        let mut scan = Scan::new(&*file, path, &shared.store_id, number, 0, u64::MAX)?;
        let mut before = None;
        let mut last = None;
        while let Some(found) = scan.next_header()? {
            before = last.replace(found);
        }
        let mut good_end = scan.good_end;
        let mut tail_bytes = scan.tail_bytes;
        let whole = match &last {
            // It was acknowledged: a body that is damaged is no reason to lose the group.
            Some(found) if found.header.seq <= acked_seq => scan.is_good(found)?,
            Some(found) => scan.is_whole(found)?,
            None => true,
        };
        if let Some(found) = &last
            && !whole
        {
            // The content did not come as far as the header.
            tail_bytes = file_len - found.offset;
            good_end = found.offset;
            if let Some(before) = &before
                && !scan.is_good(before)?
            {
                // That one was synced before this one was begun.
                scan.tail_frames += 1;
            }
            last = before;
        }
        Ok(Ends {
            file_len,
            good_end: good_end.min(file_len),
            damaged_bytes: scan.damaged_bytes,
            tail_bytes,
            tail_frames: scan.tail_frames,
            unreadable: scan.met_unreadable(),
            last: last.map(|found| (found.header.seq, found.offset)),
        })
    };
    read().map_err(|e| from_log(path, e))
}

fn start_writing(
    shared: &Arc<Shared>,
    segment_bytes: u64,
    tail: Tail,
) -> Result<FileLog, OpenError> {
    let (number, file, offset, last_start) = match tail.active {
        Some((number, offset)) => {
            let path = shared.dir.join(files::name(FileKind::Segment, number));
            let open = || {
                let file = shared.disk.open_write(&path)?;
                // The last frame may have been written but not synced.
                file.sync_all()?;
                Ok(file)
            };
            let file = open().map_err(|e| failed(&path, e))?;
            (number, file, offset, tail.last_start)
        }
        None => {
            let (number, file) = shared
                .create_segment()
                .map_err(|e| from_log(&shared.dir, e))?;
            (number, file, FILE_HEADER as u64, None)
        }
    };
    shared.set_end(tail.end.max(LogPos {
        segment: number,
        offset,
    }));
    let active = Active {
        number,
        file,
        offset,
        seed: Seed::new(&shared.store_id, number),
    };
    Ok(FileLog::new(
        shared.clone(),
        segment_bytes,
        active,
        tail.last_seq,
        last_start,
        tail.spare,
    ))
}

fn truncate(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
    let file = disk.open_write(path)?;
    file.set_len(len)?;
    file.sync_all()
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn foreign(path: &Path, reason: &str) -> OpenError {
    OpenError::Foreign {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

fn newer(path: &Path, found: u32) -> OpenError {
    OpenError::Newer {
        path: path.to_path_buf(),
        found,
        known: VERSION,
    }
}

fn from_log(path: &Path, error: LogError) -> OpenError {
    match error {
        LogError::Io { path, source } => OpenError::Io { path, source },
        LogError::Newer(found) => newer(path, found),
        other => failed(path, io::Error::other(other.to_string())),
    }
}
