//! Whether a newer program has written to the log. Reads only.
//!
//! May import: everything in this folder.
//!
//! All files' headers are looked at, and of the newest segment that has any all frames' headers
//! and the last one's operations: who is too old for a group writes none after it.

use std::path::Path;

use super::super::disk::Disk;
use super::files;
use super::frame::{BadHeader, FILE_HEADER, FileHeader, FileKind, VERSION};
use super::scan::Scan;
use super::{LogError, OpenError};

/// `operations` is the newest form of operations that the caller knows.
pub(crate) fn look(disk: &dyn Disk, dir: &Path, operations: u8) -> Result<(), OpenError> {
    let dir = dir.join("log");
    // What can't be read is for whoever opens the log to tell.
    let Ok(listing) = files::list(disk, &dir) else {
        return Ok(());
    };
    let segments = listing.segments.iter().map(|n| (FileKind::Segment, *n));
    let blobs = listing.blobs.iter().map(|n| (FileKind::Blob, *n));
    let mut store_id = None;
    for (kind, number) in segments.chain(blobs) {
        let path = dir.join(files::name(kind, number));
        let mut bytes = [0; FILE_HEADER];
        let read = disk
            .open(&path)
            .and_then(|f| f.read_exact_at(&mut bytes, 0));
        if read.is_err() {
            continue;
        }
        match FileHeader::decode(&bytes) {
            Ok(header) => store_id = Some(header.store_id),
            Err(BadHeader::Newer(found)) => return Err(newer(&path, found, VERSION)),
            Err(_) => {}
        }
    }
    let Some(store_id) = store_id else {
        return Ok(());
    };
    for number in listing.segments.iter().rev() {
        let path = dir.join(files::name(FileKind::Segment, *number));
        let Ok(file) = disk.open(&path) else { continue };
        let mut last = None;
        let mut read = || -> Result<Option<u8>, LogError> {
            let mut scan = Scan::new(&*file, path.clone(), &store_id, *number, 0, u64::MAX)?;
            while let Some(found) = scan.next_header()? {
                last = Some(found.offset);
            }
            let Some(at) = last else { return Ok(None) };
            let mut scan = Scan::new(&*file, path.clone(), &store_id, *number, at, u64::MAX)?;
            let frame = scan.next_frame()?;
            Ok(frame.and_then(|frame| frame.ops.first().copied()))
        };
        match read() {
            Err(LogError::Newer(found)) => {
                return Err(newer(&path, found, super::FRAME_VERSION));
            }
            Ok(Some(found)) if found > operations => {
                return Err(newer(&path, u32::from(found), u32::from(operations)));
            }
            _ => {}
        }
        if last.is_some() {
            break;
        }
    }
    Ok(())
}

fn newer(path: &Path, found: u32, known: u32) -> OpenError {
    OpenError::Newer {
        path: path.to_owned(),
        found,
        known,
    }
}
