//! Backups: a directory or an archive with one state image, the log up to its place, and a
//! manifest. Files are copied by whoever asks, with their rights; the server only holds them still.
//!
//! May import: the rest of the store, telemetry, types. `manifest` and `tar` are machines; `plan`
//! says what belongs to a backup, `make` and `archive` write it, `restore` puts it back, `examine` looks
//! whether it is good.
//!
//! | state of the directory | on disk | a crash here leaves |
//! |---|---|---|
//! | before | what the manifest there names | the older backup |
//! | copying | new names beside it; a segment that the older one names may be longer than it says | the older backup |
//! | copied | all files of the new one, their names synced | the older backup |
//! | told | the new manifest under its name, the directory synced | the newer backup |
//! | tidied | what the new manifest does not name is removed | the newer backup |

mod archive;
mod examine;
mod hold;
mod make;
mod manifest;
mod plan;
mod restore;
mod tar;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, replace};
use super::error::OpenError;
use super::image::files::ImageError;
use super::versions;
pub use archive::{to_archive, to_file};
pub use examine::{BackupReport, check};
pub use hold::Hold;
#[cfg(test)]
pub(in crate::store) use make::make_on;
pub use make::{BackedUp, to_directory};
use manifest::{BadManifest, Manifest};
pub(in crate::store) use restore::no_half;
pub use restore::{Restored, Source, restore};

/// Names in a backup, and of the directory that an archive unpacks to.
const MANIFEST: &str = "backup";
const STORE_ID: &str = "store-id";
const ARCHIVE: &str = "posthorn-backup";

/// A manifest of more files than any store has.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;

/// Read and written at once.
const PIECE: usize = 1024 * 1024;

/// How a backup is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Copy what could be linked.
    pub copy: bool,
    /// Bytes that are read a second; 0: as many as can.
    pub rate: u64,
    /// The group whose state image is the backup's; somebody holds its files.
    pub group: u64,
}

/// Told how far it is: bytes of how many.
pub type Tell<'a> = &'a dyn Fn(u64, u64);

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Bad { path: PathBuf, reason: String },
    /// Nothing was touched.
    #[error("{0}")]
    Refused(String),
    #[error(
        "the server has stopped or let go of the files meanwhile; run it again, what was copied stays"
    )]
    Gone,
    #[error(transparent)]
    Store(#[from] OpenError),
}

impl BackupError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn bad(path: &Path, reason: impl ToString) -> Self {
        Self::Bad {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl From<ImageError> for BackupError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Io { path, source } => Self::Io { path, source },
            ImageError::Bad { path, source } => Self::bad(&path, source),
        }
    }
}

/// What a backup adds up to, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// The manifest of a backup. None: there is none.
fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, BackupError> {
    let path = dir.join(MANIFEST);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::io(&path)(error)),
    };
    let len = file.len().map_err(BackupError::io(&path))?;
    if len > MAX_MANIFEST {
        return Err(BackupError::bad(&path, BadManifest::Foreign));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)
        .map_err(BackupError::io(&path))?;
    decode_manifest(&bytes, &path).map(Some)
}

/// One of a newer program's store is refused.
fn decode_manifest(bytes: &[u8], path: &Path) -> Result<Manifest, BackupError> {
    let found = Manifest::decode(bytes).map_err(|bad| BackupError::bad(path, bad))?;
    match versions::newer_of(&found.forms) {
        Some((name, found, known)) => Err(BackupError::bad(
            path,
            format!("it was made by a newer posthorn ({name} {found}, this one knows {known})"),
        )),
        None => Ok(found),
    }
}

/// Writes under a name that the next run removes, and gives it its own when it is durable.
fn write_manifest(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    replace(disk, dir, MANIFEST, manifest.encode().as_bytes())
        .map_err(BackupError::io(&dir.join(MANIFEST)))
}

/// Whether it was there or not.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), BackupError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io(path)(error)),
        _ => Ok(()),
    }
}

/// The pace of reading, and how far it is.
#[derive(Clone, Copy)]
struct Work<'a> {
    tell: Tell<'a>,
    rate: u64,
    started: Instant,
    /// Bytes that were read, for the pace.
    read: u64,
    done: u64,
    all: u64,
}

impl<'a> Work<'a> {
    fn new(tell: Tell<'a>, rate: u64, all: u64) -> Self {
        Self {
            tell,
            rate,
            started: Instant::now(),
            read: 0,
            done: 0,
            all,
        }
    }

    /// So much needs no reading.
    fn skip(&mut self, bytes: u64) {
        self.done += bytes;
        (self.tell)(self.done, self.all);
    }

    fn went(&mut self, bytes: u64) {
        self.read += bytes;
        self.skip(bytes);
        if self.rate > 0 {
            let due = Duration::from_secs_f64(self.read as f64 / self.rate as f64);
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
    }
}

/// Checksums of the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums {
    /// Of all that was wanted.
    crc: u32,
    /// Of so much of it as was asked for beside that.
    mark: Option<u32>,
}

/// What is done with each piece: where it lies, and its bytes.
type EachPiece<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), BackupError>;

/// Reads the first `len` bytes piece by piece; also the checksum of the first `mark` of them.
fn read_through(
    file: &dyn DiskFile,
    path: &Path,
    len: u64,
    mark: Option<u64>,
    work: &mut Work<'_>,
    each: EachPiece<'_>,
) -> Result<Sums, BackupError> {
    let mut hasher = crc32fast::Hasher::new();
    let mut marked = (mark == Some(0)).then(|| hasher.clone().finalize());
    let mut buffer = vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE))];
    let mut at = 0;
    while at < len {
        let until = match mark {
            Some(mark) if at < mark => mark.min(len),
            _ => len,
        };
        let piece = &mut buffer[..(until - at).min(PIECE as u64) as usize];
        file.read_exact_at(piece, at)
            .map_err(BackupError::io(path))?;
        hasher.update(piece);
        each(at, piece)?;
        at += piece.len() as u64;
        work.went(piece.len() as u64);
        if mark == Some(at) {
            marked = Some(hasher.clone().finalize());
        }
    }
    Ok(Sums {
        crc: hasher.finalize(),
        mark: marked,
    })
}
