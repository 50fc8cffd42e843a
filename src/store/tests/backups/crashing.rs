//! A disk that is gone after so many changes.

use super::*;

/// A disk that stops after so many changes; the last one is done by half.
pub(super) struct Failing {
    pub(super) left: AtomicUsize,
}

pub(super) struct FailingFile {
    disk: Arc<Failing>,
    file: Arc<dyn DiskFile>,
}

/// Shared, so that files know of it.
#[derive(Clone)]
pub(super) struct Crashing(pub(super) Arc<Failing>);

impl Failing {
    fn step(&self) -> io::Result<()> {
        let stepped = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        stepped.map(drop).map_err(|_| io::Error::other("crashed"))
    }
}

impl DiskFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let stepped = self.disk.step();
        let torn = match stepped {
            Ok(()) => bytes,
            Err(_) => &bytes[..bytes.len() / 2],
        };
        self.file.write_all_at(torn, offset)?;
        stepped
    }

    fn write_gathered_at(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.step()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.step()
    }
}

impl Disk for Crashing {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FailingFile {
            disk: self.0.clone(),
            file: RealDisk.open_write(path)?,
        }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.step()?;
        Ok(Arc::new(FailingFile {
            disk: self.0.clone(),
            file: RealDisk.create_new(path)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match path.exists() {
            true => self.0.step().and_then(|()| RealDisk.remove(path)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.0.step()
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        None
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.link(from, to)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        RealDisk.stamp(path)
    }

    fn set_modified(&self, path: &Path, modified: std::time::SystemTime) -> io::Result<()> {
        self.0.step()?;
        RealDisk.set_modified(path, modified)
    }
}
