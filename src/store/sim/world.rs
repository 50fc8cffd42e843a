//! A machine for the store: its disk, its indexes, what was told to whoever asked, and an image
//! of all that before each step, from which a crash there is played through later.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;

use super::super::disk::{Disk, DiskFile, Listed};
use super::super::engine::{
    Applied, Batch, Engines, Index, IndexError, applied_write, check, read_applied,
};
use super::files::{Files, Live};
use super::indexes::{Harm, Indexes, Map};
use super::model::Told;
use super::rng::Rng;

/// What a step does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// EIO; of a write a part is done, after a sync nobody knows what is.
    Broken,
    /// ENOSPC after a part.
    Full,
    /// From here on the disk is gone.
    Dead,
}

/// One moment: what a crash then may leave of the disk, and what had been told by then.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) step: u64,
    pub(super) what: &'static str,
    pub(super) told: Told,
    files: Files,
    indexes: Indexes,
}

#[derive(Default)]
struct Inner {
    files: Files,
    live: Live,
    indexes: Indexes,
    steps: u64,
    /// None: none are taken.
    images: Option<Vec<Image>>,
    told: Told,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    /// The next read fails.
    unreadable: bool,
    /// Syncs take their time now and then, so that threads meet otherwise.
    delays: Option<Rng>,
    /// What happened, for whoever looks for a mistake.
    trace: Vec<String>,
}

#[derive(Default)]
pub(super) struct World(Mutex<Inner>);

pub(super) type Machine = Arc<World>;

fn eio() -> io::Error {
    Errno::IO.into()
}

impl Inner {
    /// A step begins, and may fail.
    fn step(&mut self, what: &'static str) -> Option<Fault> {
        if self.dead {
            return Some(Fault::Dead);
        }
        self.steps += 1;
        let fault = self.faults.remove(&self.steps);
        if fault == Some(Fault::Dead) {
            self.dead = true;
        }
        if fault.is_some() {
            self.trace.push(format!("{}: {what} {fault:?}", self.steps));
        }
        fault
    }

    fn record(&mut self, what: &'static str) {
        let (step, told) = (self.steps, self.told.clone());
        let (files, indexes) = (&self.files, &self.indexes);
        if let Some(images) = &mut self.images {
            images.push(Image {
                step,
                what,
                told,
                files: files.clone(),
                indexes: indexes.clone(),
            });
        }
    }

    /// A step that happens or does not.
    fn whole(&mut self, what: &'static str) -> io::Result<()> {
        match self.step(what) {
            None => Ok(()),
            Some(Fault::Full) => Err(Errno::NOSPC.into()),
            Some(_) => Err(eio()),
        }
    }
}

impl World {
    /// As a crash in `image` may leave it.
    pub(super) fn after(image: &Image, harm: Harm, rng: &mut Rng) -> Machine {
        let files = image.files.after_crash(rng);
        Arc::new(Self(Mutex::new(Inner {
            live: files.live(),
            files,
            indexes: image.indexes.after_crash(harm, rng),
            told: image.told.clone(),
            ..Inner::default()
        })))
    }

    pub(super) fn record_images(&self) {
        self.0.lock().images = Some(Vec::new());
    }

    pub(super) fn take_images(&self) -> Vec<Image> {
        let mut inner = self.0.lock();
        inner.record("the end");
        inner.images.take().unwrap_or_default()
    }

    /// Without a disk nothing new comes about: what was under way then may be there or not.
    pub(super) fn tell(&self, told: Told) {
        let mut inner = self.0.lock();
        if !inner.dead {
            inner.told = told;
        }
    }

    pub(super) fn fail(&self, after: u64, fault: Fault) {
        let mut inner = self.0.lock();
        let at = inner.steps + after;
        inner.faults.insert(at, fault);
    }

    pub(super) fn fail_read(&self) {
        self.0.lock().unreadable = true;
    }

    pub(super) fn delay(&self, rng: Rng) {
        self.0.lock().delays = Some(rng);
    }

    /// No segment is being made beside the work.
    pub(super) fn is_quiet(&self, log: &Path, segment_bytes: u64) -> bool {
        let inner = self.0.lock();
        let files = inner.files.list(log, &inner.live).unwrap_or_default();
        let segment = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("seg-");
        let newest = files.iter().rev().find(|(name, _)| segment(name));
        let room = newest.is_none_or(|(_, len)| *len <= segment_bytes / 4 * 3);
        inner.dead || room && !inner.files.names_wait(log)
    }

    pub(super) fn no_more_faults(&self) {
        self.0.lock().faults.clear();
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.0.lock().trace.clone()
    }

    pub(super) fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(SimDisk(self.clone()))
    }

    pub(super) fn engines(self: &Arc<Self>) -> Arc<dyn Engines> {
        Arc::new(SimEngines(self.clone()))
    }
}

struct SimDisk(Machine);

struct SimFile {
    world: Machine,
    inode: u64,
    writable: bool,
}

impl SimDisk {
    fn file(&self, inode: u64, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            world: self.0.clone(),
            inode,
            writable,
        })
    }

    fn find(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.0.0.lock();
        if inner.dead {
            return Err(eio());
        }
        let inode = inner.files.find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode, writable))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.find(path, false)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.find(path, true)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.0.lock();
        let inner = &mut *inner;
        inner.whole("create")?;
        if inner.files.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = inner.files.create(path, &mut inner.live);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        inner.record("create");
        Ok(self.file(inode, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        inner.whole("rename")?;
        let inode = inner.files.find(from).ok_or(io::ErrorKind::NotFound)?;
        inner.files.rename(from, to, inode);
        inner.record("rename");
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        if inner.dead {
            return Err(eio());
        }
        inner.files.find(path).ok_or(io::ErrorKind::NotFound)?;
        inner.whole("remove")?;
        inner.files.remove(path);
        inner.record("remove");
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let inner = self.0.0.lock();
        if inner.dead {
            return Err(eio());
        }
        let files = inner.files.list(dir, &inner.live);
        let files = files.ok_or(io::ErrorKind::NotFound)?;
        let listed = |(name, len)| Listed { name, len };
        Ok(files.into_iter().map(listed).collect())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        if inner.files.has_dir(path) {
            return Ok(());
        }
        inner.whole("create a directory")?;
        inner.record("create a directory");
        for dir in path.ancestors() {
            inner.files.make_dir(dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        inner.whole("sync a directory")?;
        inner.record("sync a directory");
        inner.files.sync_dir(dir);
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        Some(1 << 40)
    }
}

impl SimFile {
    fn write(&self, mut bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        assert!(self.writable, "the file is open for reading only");
        let mut inner = self.world.0.lock();
        let inner = &mut *inner;
        let fault = inner.step("write");
        match fault {
            Some(Fault::Dead) => return Err(eio()),
            // How much is done is anybody's guess; half is as good as any.
            Some(_) => bytes.truncate(bytes.len() / 2),
            None => {}
        }
        inner
            .files
            .write(self.inode, offset, bytes, &mut inner.live);
        inner.record("write");
        match fault {
            None => Ok(()),
            Some(Fault::Full) => Err(Errno::NOSPC.into()),
            Some(_) => Err(eio()),
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let inner = self.world.0.lock();
        Ok(inner.live.read(self.inode).len() as u64)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.world.0.lock();
        if inner.dead || std::mem::take(&mut inner.unreadable) {
            return Err(eio());
        }
        let content = inner.live.read(self.inode);
        let part = usize::try_from(offset).ok();
        let part = part.and_then(|at| content.get(at..)?.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes.to_vec(), offset)
    }

    fn write_gathered_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write(pieces.concat(), offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.world.0.lock();
        let inner = &mut *inner;
        inner.whole("change a length")?;
        inner.files.set_len(self.inode, len, &mut inner.live);
        inner.record("change a length");
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let delay = {
            let mut inner = self.world.0.lock();
            let rng = inner.delays.as_mut();
            rng.map_or(0, |rng| rng.below(8) * rng.below(200))
        };
        if delay > 0 {
            std::thread::sleep(Duration::from_micros(delay as u64));
        }
        let mut inner = self.world.0.lock();
        let inner = &mut *inner;
        let fault = inner.step("sync");
        inner.record("sync");
        match fault {
            None => inner.files.sync(self.inode, &inner.live),
            Some(Fault::Dead) => return Err(eio()),
            Some(_) => {
                inner.files.forget(self.inode, &mut inner.live);
                return Err(eio());
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

struct SimEngines(Machine);

struct SimIndex {
    world: Machine,
    number: u64,
    map: RwLock<Arc<Map>>,
}

fn failed(what: &str) -> IndexError {
    IndexError::Engine(format!("{what}: as planned"))
}

impl SimEngines {
    fn index(&self, number: u64, map: Map) -> Arc<dyn Index> {
        Arc::new(SimIndex {
            world: self.0.clone(),
            number,
            map: RwLock::new(Arc::new(map)),
        })
    }
}

impl Engines for SimEngines {
    fn open(&self, _: &Path, _: u64) -> Result<Arc<dyn Index>, IndexError> {
        let mut inner = self.0.0.lock();
        if inner.dead {
            return Err(failed("open"));
        }
        let number = inner.indexes.serving();
        let map = inner.indexes.content(number);
        Ok(self.index(number, map.ok_or_else(|| failed("open"))?))
    }

    fn open_fresh(&self, _: &Path, _: u64) -> Result<Arc<dyn Index>, IndexError> {
        let mut inner = self.0.0.lock();
        inner
            .whole("open a fresh index")
            .map_err(|_| failed("open"))?;
        let number = inner.indexes.fresh();
        inner.record("open a fresh index");
        Ok(self.index(number, Map::new()))
    }

    fn discard(&self, _: &Path) {}

    fn retire(&self, _: &Path) -> Result<(), IndexError> {
        let mut inner = self.0.0.lock();
        inner
            .whole("retire an index")
            .map_err(|_| failed("retire"))?;
        inner.indexes.retire();
        inner.record("retire an index");
        Ok(())
    }
}

impl SimIndex {
    fn put(&self, batch: Batch) -> Result<(), IndexError> {
        let mut inner = self.world.0.lock();
        inner.whole("apply").map_err(|_| failed("apply"))?;
        let mut map = self.map.write();
        let map = Arc::make_mut(&mut map);
        for (key, value) in &batch {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        inner.indexes.applied(self.number, batch);
        inner.record("apply");
        Ok(())
    }
}

impl Index for SimIndex {
    fn apply(&self, mut batch: Batch, applied: Applied) -> Result<(), IndexError> {
        check(&batch)?;
        batch.push(applied_write(applied));
        self.put(batch)
    }

    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        check(&batch)?;
        self.put(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.map.read().get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let start = from.map_or(prefix, |from| from.max(prefix)).to_vec();
        let map = self.map.read().clone();
        for (key, value) in map.range(start..) {
            if !key.starts_with(prefix) || !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        read_applied(self)
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        let mut inner = self.world.0.lock();
        inner
            .whole("checkpoint")
            .map_err(|_| failed("checkpoint"))?;
        inner.record("checkpoint");
        let map = self.map.read().clone();
        inner.indexes.checkpoint(self.number, &map);
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        0
    }
}
