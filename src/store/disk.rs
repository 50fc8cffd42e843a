//! The files under the store: a thin layer, so that tests can put a disk under it that fails,
//! cuts short, delays, and forgets what was not synced.
//!
//! May import: `beside`.
//!
//! What a file system promises, and no more: bytes are durable when a sync of their file came
//! back, a name (made, changed, removed) when a sync of its directory did. After a sync that
//! failed nothing is known of what was written before it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::beside;

/// An open file.
pub(crate) trait DiskFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Fills `into`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
    /// The same; what is not in memory is waited for beside the runtime.
    fn read_exact_beside(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The pieces one after the other, without putting them together.
    fn write_gathered_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Content and length (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// All of it (fsync).
    fn sync_all(&self) -> io::Result<()>;
}

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub name: OsString,
    pub len: u64,
}

/// What tells a file from others, and from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub len: u64,
    pub modified: SystemTime,
    /// Of the device, and on it.
    pub identity: (u64, u64),
}

/// Where files are.
pub(crate) trait Disk: Send + Sync {
    /// For reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// One that is there, for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// One that is not there, for reading and writing, private to its owner (0600).
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files (no directories, nothing that is no plain file) of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;
    /// A directory, private to its owner (0700), with those above it; its name is durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes free for us on the file system of `dir`. None: it can't be told.
    fn free_bytes(&self, dir: &Path) -> Option<u64>;
    /// A second name of a file. An error: it has to be copied.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// An error: it can't be told.
    fn stamp(&self, _path: &Path) -> io::Result<Stamp> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// So that a copy is known to be one.
    fn set_modified(&self, _path: &Path, _modified: SystemTime) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Size of the file system of `dir`. None: it can't be told.
    fn total_bytes(&self, _dir: &Path) -> Option<u64> {
        None
    }
    /// Makes a file that takes so much room and holds nothing.
    fn take_room(&self, _path: &Path, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The machine's own.
pub(crate) struct RealDisk;

/// Slices of one gathering write; the system allows 1024.
const SLICES: usize = 512;

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, into, offset)
    }

    fn read_exact_beside(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        beside::read_exact_at(self, into, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn write_gathered_at(&self, pieces: &[&[u8]], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        // Also drops empty slices in front, so that no write of nothing looks like a full disk.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = rest.len().min(SLICES);
            match rustix::io::pwritev(self, &rest[..some], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}

/// A small file whole, or its first `most` bytes. None: there is none.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.len()?.min(most) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Puts a small file into `dir`, in place of one that is there: a crash leaves one or the other.
/// Durable when it returns.
pub(crate) fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.tmp")));
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create_new(&unfinished)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)
}

fn dir_or_here(dir: &Path) -> &Path {
    match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // It may be unlinked meanwhile. What is no file would be waited for for ever.
            let Ok(metadata) = std::fs::metadata(entry.path()) else {
                continue;
            };
            if metadata.is_file() {
                found.push(Listed {
                    name: entry.file_name(),
                    len: metadata.len(),
                });
            }
        }
        Ok(found)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        path.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir_or_here(dir))?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(dir_or_here(dir)).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let metadata = std::fs::metadata(path)?;
        Ok(Stamp {
            len: metadata.len(),
            modified: metadata.modified()?,
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    fn set_modified(&self, path: &Path, modified: SystemTime) -> io::Result<()> {
        File::options()
            .write(true)
            .open(path)?
            .set_modified(modified)
    }

    fn total_bytes(&self, dir: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(dir_or_here(dir)).ok()?;
        Some(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn take_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()
    }
}
