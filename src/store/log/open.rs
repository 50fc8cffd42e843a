//! Opens the log: finds its end and puts the tail in order.
//!
//! May import: everything in this folder.
//!
//! Only the newest segment with frames is looked through, and of its frames only the headers
//! and the last one's content: one group at most is under way when the power goes. What is
//! wrong with older content is found by whoever reads it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::blob::FileBlobs;
use super::files::{self, Shared};
use super::frame::{BadHeader, FILE_HEADER, FileHeader, FileKind, Seed, VERSION};
use super::reader::FileReader;
use super::scan::Scan;
use super::writer::{Active, FileLog};
use super::{LARGE_BLOB, LogError, OpenError, OpenReport, Opened};
use crate::types::LogPos;

/// More than this after the last good frame is no torn group, it is damage.
const TORN_MAX: u64 = 8 * LARGE_BLOB;

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
            reader: Arc::new(FileReader {
                shared: shared.clone(),
            }),
            blobs: Arc::new(FileBlobs { shared }),
            log: Box::new(self.log),
        }
    }
}

pub(super) fn open(
    dir: &Path,
    segment_bytes: u64,
    store_id_if_new: [u8; 16],
) -> Result<Parts, OpenError> {
    let dir = dir.join("log");
    let io = |source| failed(&dir, source);
    files::create_dir(&dir).map_err(io)?;
    let mut listing = files::list(&dir).map_err(io)?;
    for path in &listing.unfinished {
        std::fs::remove_file(path).map_err(|e| failed(path, e))?;
    }
    let mut report = OpenReport::default();
    let numbers = listing.segments.iter().chain(&listing.blobs);
    let next_number = numbers.max().map_or(1, |n| n + 1);
    let known = read_headers(&dir, &mut listing.segments, &mut report)?;
    if listing.segments.is_empty() && !listing.blobs.is_empty() {
        return Err(foreign(&dir, "it has message bodies but no segments"));
    }
    let store_id = match known {
        Some(id) => id,
        None if listing.segments.is_empty() => store_id_if_new,
        None => return Err(foreign(&dir, "no segment has a header that can be read")),
    };
    let shared = Arc::new(Shared::new(
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
    let tail = find_tail(&shared, &listing.segments, &mut report)?;
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
    dir: &Path,
    segments: &mut Vec<u64>,
    report: &mut OpenReport,
) -> Result<Option<[u8; 16]>, OpenError> {
    let mut store_id = None;
    let mut useful = Vec::new();
    let mut unmade = Vec::new();
    for number in segments.drain(..) {
        let path = dir.join(files::name(FileKind::Segment, number));
        let io = |source| failed(&path, source);
        let file = File::open(&path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut bytes = [0; FILE_HEADER];
        let there = len.min(FILE_HEADER as u64) as usize;
        file.read_exact_at(&mut bytes[..there], 0).map_err(io)?;
        match FileHeader::decode(&bytes[..there]) {
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
        std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
    }
    *segments = useful;
    Ok(store_id)
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
    report: &mut OpenReport,
) -> Result<Tail, OpenError> {
    let mut tail = Tail {
        active: None,
        last_seq: 0,
        last_start: None,
        end: LogPos::default(),
        spare: VecDeque::new(),
    };
    let mut stopped_at = None;
    for number in segments.iter().rev().copied() {
        let path = shared.dir.join(files::name(FileKind::Segment, number));
        let ends = look_through(shared, number, &path)?;
        let cut = ends.file_len - ends.good_end;
        if cut == 0 && ends.last.is_none() && ends.damaged_bytes == 0 {
            tail.spare.push_front(number);
            continue;
        }
        report.damaged_bytes += ends.damaged_bytes;
        let newest = stopped_at.is_none();
        let torn = newest && cut > 0 && cut <= TORN_MAX;
        if torn {
            truncate(&path, ends.good_end).map_err(|e| failed(&path, e))?;
            report.torn_bytes += cut;
        } else {
            report.damaged_bytes += ends.tail_bytes;
        }
        if newest {
            stopped_at = Some(number);
            if torn || cut == 0 {
                tail.active = Some((number, ends.good_end));
                tail.last_start = ends.last.map(|(_, start)| start);
            }
            tail.end = LogPos {
                segment: number,
                offset: if torn { ends.good_end } else { ends.file_len },
            };
        }
        if let Some((seq, _)) = ends.last {
            tail.last_seq = seq;
            break;
        }
    }
    // A spare one may be older than where writing stopped only if it was never written to and
    // its successors were: it has lost its turn.
    tail.spare.retain(|number| Some(*number) > stopped_at);
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
    /// The last good frame's number and start.
    last: Option<(u64, u64)>,
}

fn look_through(shared: &Shared, number: u64, path: &Path) -> Result<Ends, OpenError> {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    let file_len = file.metadata().map_err(|e| failed(path, e))?.len();
    let read = || {
        let path = path.to_path_buf();
        let mut scan = Scan::new(&file, path, &shared.store_id, number, 0, u64::MAX)?;
        let mut before = None;
        let mut last = None;
        while let Some(found) = scan.next_header()? {
            before = last.replace(found);
        }
        let mut good_end = scan.good_end;
        let mut tail_bytes = scan.tail_bytes;
        if let Some(found) = &last
            && !scan.is_whole(found)?
        {
            // The content did not come as far as the header.
            tail_bytes = file_len - found.offset;
            good_end = found.offset;
            last = before;
        }
        Ok(Ends {
            file_len,
            good_end: good_end.min(file_len),
            damaged_bytes: scan.damaged_bytes,
            tail_bytes,
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
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
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

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
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
