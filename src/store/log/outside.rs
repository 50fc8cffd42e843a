//! What others may know of the log's files: which there are, whose they are, and how to read
//! those of a copy.
//!
//! May import: everything in this folder, the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile};
use super::blob::FileBlobs;
use super::files::{self, Shared, failed};
use super::frame::{BadHeader, FILE_HEADER, FileHeader, FileKind};
use super::reader::FileReader;
use super::{BlobStore, LogError, LogRead};
use crate::types::LogPos;

/// A file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub name: String,
    pub number: u64,
    /// It holds one body, and no frames.
    pub large: bool,
    pub len: u64,
}

/// Where the log of a store is.
pub(crate) fn directory(data: &Path) -> PathBuf {
    data.join("log")
}

/// Number of the file, and whether it holds one body alone. None: no file of a log is called so.
pub(crate) fn number_of(name: &str) -> Option<(u64, bool)> {
    let (kind, number) = files::number_of(name)?;
    // One name for one file.
    (files::name(kind, number) == name).then_some((number, kind == FileKind::Blob))
}

/// All files, numbers ascending; none that is unfinished.
pub(crate) fn files_of(disk: &dyn Disk, data: &Path) -> io::Result<Vec<LogFile>> {
    let mut found: Vec<LogFile> = disk
        .list(&directory(data))?
        .iter()
        .filter_map(|file| {
            let name = file.name.to_str()?;
            let (number, large) = number_of(name)?;
            Some(LogFile {
                name: name.to_owned(),
                number,
                large,
                len: file.len,
            })
        })
        .collect();
    found.sort_by_key(|file| file.number);
    Ok(found)
}

/// Whether the file that is called `name` is what its name says, and of this store.
pub(crate) fn check_header(
    file: &dyn DiskFile,
    path: &Path,
    store_id: &[u8; 16],
) -> Result<(), LogError> {
    let mut bytes = [0; FILE_HEADER];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(LogError::Damaged("it is too short"));
        }
        read => read.map_err(|e| failed(path, e))?,
    }
    let header = match FileHeader::decode(&bytes) {
        Ok(header) => header,
        Err(BadHeader::Newer(found)) => return Err(LogError::Newer(found)),
        Err(_) => return Err(LogError::Damaged("its header is not right")),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    if name != Some(&files::name(header.kind, header.number)) {
        return Err(LogError::Damaged("it has been renamed"));
    }
    match header.store_id == *store_id {
        true => Ok(()),
        false => Err(LogError::Damaged("it belongs to another store")),
    }
}

/// The reading ends of a log that nobody writes to, up to `end`.
pub(crate) fn read_only(
    disk: &Arc<dyn Disk>,
    data: &Path,
    store_id: [u8; 16],
    end: LogPos,
) -> (Arc<dyn LogRead>, Arc<dyn BlobStore>) {
    let dir = directory(data);
    let shared = Arc::new(Shared::new(disk.clone(), dir, store_id, end, u64::MAX));
    let reader = FileReader {
        shared: shared.clone(),
    };
    (Arc::new(reader), Arc::new(FileBlobs { shared }))
}
