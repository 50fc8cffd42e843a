//! The log's directory: names, modes, creation that survives a power cut, and open descriptors
//! for readers.
//!
//! May import: `frame`, the disk and the parent's types.
//!
//! Segments `seg-<number>` and files of one large body `blob-<number>` share one sequence of
//! numbers, so a place needs no kind. A file under its final name is complete in its header and,
//! for bodies, in its content; unfinished ones end in `.tmp` and are removed at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::disk::{Disk, DiskFile};
use super::LogError;
use super::frame::{FILE_HEADER, FileHeader, FileKind};
use crate::types::LogPos;

/// No store comes so far: a file with a higher number is none of ours, and leaves no next one.
const MAX_NUMBER: u64 = 1 << 50;

/// Descriptors kept open for readers.
const KEPT_OPEN: usize = 64;

/// A segment that is ready for frames.
pub(super) type Made = (u64, Arc<dyn DiskFile>);

/// What the parts of an open log share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) store_id: [u8; 16],
    /// End of what is durable and acknowledged. Readers go no further.
    end: Mutex<LogPos>,
    next_number: AtomicU64,
    /// Most recently used last.
    open: Mutex<Vec<(u64, Arc<dyn DiskFile>)>>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        store_id: [u8; 16],
        end: LogPos,
        next_number: u64,
    ) -> Self {
        Self {
            disk,
            dir,
            store_id,
            end: Mutex::new(end),
            next_number: AtomicU64::new(next_number),
            open: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn end(&self) -> LogPos {
        *self.end.lock()
    }

    pub(super) fn set_end(&self, end: LogPos) {
        *self.end.lock() = end;
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn header(&self, kind: FileKind, number: u64) -> [u8; FILE_HEADER] {
        FileHeader {
            kind,
            number,
            store_id: self.store_id,
        }
        .encode()
    }

    /// Makes a segment that is ready for frames: header and name are durable.
    pub(super) fn create_segment(&self) -> Result<Made, LogError> {
        let number = self.next_number();
        let path = self.dir.join(name(FileKind::Segment, number));
        let make = || {
            let file = self.disk.create_new(&path)?;
            file.write_all_at(&self.header(FileKind::Segment, number), 0)?;
            file.sync_all()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        };
        match make() {
            Ok(file) => Ok((number, file)),
            Err(source) => {
                // Its number is not used again; an incomplete one is removed at the next start.
                let _ = self.disk.remove(&path);
                Err(failed(&path, source))
            }
        }
    }

    /// A descriptor for reading, from the cache or fresh.
    pub(super) fn file(&self, number: u64) -> Result<Arc<dyn DiskFile>, LogError> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().rposition(|(n, _)| *n == number) {
            let entry = open.remove(at);
            let file = entry.1.clone();
            open.push(entry);
            return Ok(file);
        }
        drop(open);
        let file = self.open_fresh(number)?;
        let mut open = self.open.lock();
        if open.iter().all(|(n, _)| *n != number) {
            if open.len() >= KEPT_OPEN {
                open.remove(0);
            }
            open.push((number, file.clone()));
        }
        Ok(file)
    }

    /// Lets go of all cached descriptors, as after a failed write.
    pub(super) fn forget_files(&self) {
        self.open.lock().clear();
    }

    /// Lets go of one: its file is to be removed.
    pub(super) fn forget_file(&self, number: u64) {
        self.open.lock().retain(|(n, _)| *n != number);
    }

    fn open_fresh(&self, number: u64) -> Result<Arc<dyn DiskFile>, LogError> {
        for kind in [FileKind::Segment, FileKind::Blob] {
            let path = self.dir.join(name(kind, number));
            match self.disk.open(&path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LogError::Io { path, source }),
            }
        }
        Err(LogError::Missing(number))
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// EIO: a bad sector, or a disk that is gone.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

pub(super) fn name(kind: FileKind, number: u64) -> String {
    match kind {
        FileKind::Segment => format!("seg-{number:012}"),
        FileKind::Blob => format!("blob-{number:012}"),
    }
}

pub(super) fn number_of(name: &str) -> Option<(FileKind, u64)> {
    let (kind, digits) = if let Some(digits) = name.strip_prefix("seg-") {
        (FileKind::Segment, digits)
    } else {
        (FileKind::Blob, name.strip_prefix("blob-")?)
    };
    let plain = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok()).flatten();
    number.filter(|n| *n <= MAX_NUMBER).map(|n| (kind, n))
}

/// The files of a log, numbers ascending.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: Vec<u64>,
    /// Length of each segment.
    pub(super) sizes: Vec<(u64, u64)>,
    pub(super) blobs: Vec<u64>,
    pub(super) unfinished: Vec<PathBuf>,
    pub(super) bytes: u64,
}

pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for file in disk.list(dir)? {
        let Some(text) = file.name.to_str() else {
            continue;
        };
        match number_of(text) {
            Some((kind, number)) => {
                listing.bytes += file.len;
                match kind {
                    FileKind::Segment => {
                        listing.segments.push(number);
                        listing.sizes.push((number, file.len));
                    }
                    FileKind::Blob => listing.blobs.push(number),
                }
            }
            None if text.strip_suffix(".tmp").and_then(number_of).is_some() => {
                listing.unfinished.push(dir.join(text));
            }
            None => {}
        }
    }
    listing.segments.sort_unstable();
    listing.sizes.sort_unstable();
    listing.blobs.sort_unstable();
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::RealDisk;
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("seg-000000000007", Some((FileKind::Segment, 7))),
            (
                "blob-1234567890123",
                Some((FileKind::Blob, 1_234_567_890_123)),
            ),
            ("seg-7", None),
            ("seg-00000000000x", None),
            ("seg-+00000000007", None),
            ("seg-99999999999999999999999", None),
            ("blob-18446744073709551615", None),
            ("lock", None),
        ];
        for (text, want) in cases {
            assert_eq!(number_of(text), want, "{text}");
        }
        assert_eq!(name(FileKind::Segment, 7), "seg-000000000007");
    }

    #[test]
    fn descriptors_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::new(
            Arc::new(RealDisk),
            dir.path().into(),
            [0; 16],
            LogPos::default(),
            1,
        );
        for _ in 0..80 {
            let (number, _) = shared.create_segment().unwrap();
            shared.file(number).unwrap();
            shared.file(1).unwrap();
        }
        assert_eq!(shared.open.lock().len(), KEPT_OPEN);
        assert!(shared.open.lock().iter().any(|(n, _)| *n == 1));
        assert!(matches!(shared.file(999), Err(LogError::Missing(999))));
    }
}
