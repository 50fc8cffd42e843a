//! Writes a backup: into a directory, where what is there already is not copied again, or as one
//! archive.
//!
//! May import: the parent, the disk.
//!
//! Invariant: what the manifest in the directory names is there, as it names it, at any time. So
//! nothing goes before the next manifest is durable; a file under a name that the manifest has is
//! replaced only by one that begins with the same bytes, and written to only behind them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::manifest::{Entry, Kind, Manifest, kind_of};
use super::plan::{Plan, Planned, plan};
use super::{
    Amount, BackupError, How, MANIFEST, STORE_ID, Sums, Tell, Work, read_manifest, read_through,
    remove, write_manifest,
};
use crate::store::clock::now;
use crate::store::disk::{Disk, RealDisk};
use crate::store::{identity, image, log};

/// What a backup did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// The group whose state it is.
    pub group: u64,
    /// All of the backup.
    pub all: Amount,
    /// What of it was copied, linked, and there already.
    pub copied: Amount,
    pub linked: Amount,
    pub kept: Amount,
    /// Files of before that this one does not need.
    pub removed: u64,
    /// Files of large messages that the store itself has lost.
    pub missing: u64,
    pub millis: u64,
}

/// Says that a directory is one of ours before there is a manifest.
const BEGUN: &str = "backup.new";
/// Unfinished files end so.
const UNFINISHED: &str = ".tmp";

/// Writes a backup of the store in `data` into `dir`, beside or over what is there. `held` says
/// whether the files are still held.
pub fn to_directory(
    data: &Path,
    dir: &Path,
    how: How,
    held: &dyn Fn() -> bool,
    tell: Tell<'_>,
) -> Result<BackedUp, BackupError> {
    RealDisk.create_dir(dir).map_err(BackupError::io(dir))?;
    let _alone = alone(dir)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BackupError::io(dir))? {
        let entry = entry.map_err(BackupError::io(dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    let ours = names.iter().any(|name| name == MANIFEST || name == BEGUN);
    // A file system of its own has that one.
    let other = names.iter().find(|name| *name != "lost+found");
    if let (false, Some(other)) = (ours, other) {
        return Err(BackupError::Refused(format!(
            "{} is not empty and has no backup in it ({other}): choose another directory",
            dir.display()
        )));
    }
    make_on(&RealDisk, data, &RealDisk, dir, how, held, tell)
}

/// One at a time writes there, until what it gives is dropped.
fn alone(dir: &Path) -> Result<std::fs::File, BackupError> {
    let opened = std::fs::File::open(dir).map_err(BackupError::io(dir))?;
    let taken = rustix::fs::flock(
        &opened,
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    );
    match taken {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::Refused(format!(
            "another backup is being written to {}",
            dir.display()
        ))),
        // Not every file system can lock a directory.
        _ => Ok(opened),
    }
}

/// The same from and to disks that are given.
pub(in crate::store) fn make_on(
    from: &dyn Disk,
    data: &Path,
    to: &dyn Disk,
    dir: &Path,
    how: How,
    held: &dyn Fn() -> bool,
    tell: Tell<'_>,
) -> Result<BackedUp, BackupError> {
    let started = Instant::now();
    let found = read_source(from, data, how.group, held)?;
    let old = read_manifest(to, dir)?;
    if let Some(old) = &old {
        fits(dir, old, &found)?;
    }
    let io = |path: &'static str| BackupError::io(Path::new(path));
    let mut make = Make {
        from,
        data,
        to,
        dir,
        link: !how.copy,
        old: old.as_ref(),
        same_place: old
            .as_ref()
            .is_some_and(|old| (old.group, old.at) == (found.header.seq, found.header.at)),
        work: Work::new(tell, how.rate, found.bytes()),
        did: BackedUp {
            group: found.header.seq,
            missing: found.missing,
            ..BackedUp::default()
        },
    };
    if old.is_none() {
        match to.create_new(&dir.join(BEGUN)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BackupError::io(&dir.join(BEGUN))(error));
            }
            _ => to.sync_dir(dir).map_err(BackupError::io(dir))?,
        }
    }
    let subdirs = [log::directory(dir), image::files::directory(dir)];
    for subdir in &subdirs {
        to.create_dir(subdir).map_err(BackupError::io(subdir))?;
        make.remove_unfinished(subdir)?;
    }
    let mut files = BTreeMap::new();
    for planned in &found.files {
        let entry = make.file(planned).map_err(|error| gone(error, held))?;
        files.insert(planned.name.clone(), entry);
    }
    for subdir in &subdirs {
        to.sync_dir(subdir).map_err(BackupError::io(subdir))?;
    }
    let id = identity::line(found.header.store_id);
    let known = identity::read(to, dir).map_err(BackupError::io(dir))?;
    if known != Some(found.header.store_id) {
        identity::write(to, dir, found.header.store_id).map_err(io(STORE_ID))?;
    }
    files.insert(STORE_ID.into(), line_entry(&id));
    let manifest = manifest_of(&found, files);
    write_manifest(to, dir, &manifest)?;
    make.tidy(&manifest, &subdirs)?;
    make.did.all = Amount {
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
    };
    make.did.millis = millis(started);
    Ok(make.did)
}

pub(super) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn line_entry(line: &str) -> Entry {
    Entry {
        len: line.len() as u64,
        crc: crc32fast::hash(line.as_bytes()),
    }
}

pub(super) fn manifest_of(found: &Plan, files: BTreeMap<String, Entry>) -> Manifest {
    Manifest {
        store_id: found.header.store_id,
        group: found.header.seq,
        at: found.header.at,
        made: now(),
        by: concat!("posthorn ", env!("CARGO_PKG_VERSION")).into(),
        forms: found.forms.clone(),
        files,
    }
}

/// A file that is gone while nobody holds them any more is nothing wrong with the store.
pub(super) fn gone(error: BackupError, held: &dyn Fn() -> bool) -> BackupError {
    match error {
        BackupError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound && !held() => {
            BackupError::Gone
        }
        other => other,
    }
}

pub(super) fn read_source(
    from: &dyn Disk,
    data: &Path,
    group: u64,
    held: &dyn Fn() -> bool,
) -> Result<Plan, BackupError> {
    let found = plan(from, data, group).map_err(|error| gone(error, held))?;
    match found.missing > 0 && !held() {
        true => Err(BackupError::Gone),
        false => Ok(found),
    }
}

/// Whether the newer state may take the older one's place.
fn fits(dir: &Path, old: &Manifest, found: &Plan) -> Result<(), BackupError> {
    let refuse = |why: &str| {
        Err(BackupError::Refused(format!(
            "{} has a backup of {why}; it stays as it is: choose another directory",
            dir.display()
        )))
    };
    if old.store_id != found.header.store_id {
        return refuse("another store");
    }
    if old.group > found.header.seq || old.at > found.header.at {
        return refuse("a newer state of this store");
    }
    Ok(())
}

struct Make<'a> {
    from: &'a dyn Disk,
    data: &'a Path,
    to: &'a dyn Disk,
    dir: &'a Path,
    /// Cleared where the file system can't.
    link: bool,
    old: Option<&'a Manifest>,
    /// Nothing was committed since the older one.
    same_place: bool,
    work: Work<'a>,
    did: BackedUp,
}

impl Make<'_> {
    /// Makes sure that it is there.
    fn file(&mut self, planned: &Planned) -> Result<Entry, BackupError> {
        let (source, target) = (self.data.join(&planned.name), self.dir.join(&planned.name));
        let known = self.old.and_then(|old| old.files.get(&planned.name));
        let known = known.copied();
        if let Some(entry) = self.keep(planned, known, &source, &target)? {
            self.did.kept.add(planned.len);
            return Ok(entry);
        }
        if known.is_some_and(|known| known.len > planned.len) {
            return Err(self.differs(&source, &target));
        }
        let linked = planned.sealed && self.link && self.link(&source, &target)?;
        let grown = match known {
            Some(known) if !linked => self.grow(planned, known, &source, &target)?,
            _ => None,
        };
        let (sums, copied) = match grown {
            Some((sums, known)) => (sums, planned.len - known),
            None => (self.transfer(planned, known, linked)?, planned.len),
        };
        if known.is_some() && sums.mark != known.map(|known| known.crc) {
            remove(self.to, &unfinished(&target))?;
            return Err(self.differs(&source, &target));
        }
        if grown.is_none() {
            self.to
                .rename(&unfinished(&target), &target)
                .map_err(BackupError::io(&target))?;
        }
        match linked {
            true => self.did.linked.add(planned.len),
            false => self.did.copied.add(copied),
        }
        if copied < planned.len {
            self.did.kept.bytes += planned.len - copied;
        }
        Ok(Entry {
            len: planned.len,
            crc: sums.crc,
        })
    }

    /// Reads what was linked, or copies it, to its unfinished name.
    fn transfer(
        &mut self,
        planned: &Planned,
        known: Option<Entry>,
        linked: bool,
    ) -> Result<Sums, BackupError> {
        let (source, target) = (self.data.join(&planned.name), self.dir.join(&planned.name));
        let unfinished = unfinished(&target);
        let mark = known.map(|known| known.len);
        let file = self.from.open(&source).map_err(BackupError::io(&source))?;
        let (len, work) = (planned.len, &mut self.work);
        if linked {
            return read_through(&*file, &source, len, mark, work, &mut |_, _| Ok(()));
        }
        let io = || BackupError::io(&unfinished);
        let copy = self.to.create_new(&unfinished).map_err(io())?;
        let put = &mut |at: u64, piece: &[u8]| copy.write_all_at(piece, at).map_err(io());
        let sums = read_through(&*file, &source, len, mark, work, put)?;
        self.date(planned, &source, &unfinished);
        copy.sync_all().map_err(io())?;
        Ok(sums)
    }

    /// Adds what the older backup's copy does not have yet, behind all that its manifest names.
    /// None: it has to be another file. Else also how much was there.
    fn grow(
        &mut self,
        planned: &Planned,
        known: Entry,
        source: &Path,
        target: &Path,
    ) -> Result<Option<(Sums, u64)>, BackupError> {
        let stamps = (self.from.stamp(source), self.to.stamp(target));
        let (Ok(stamp), Ok(there)) = stamps else {
            return Ok(None);
        };
        // The store's own file is never written to.
        if stamp.identity == there.identity || there.len < known.len {
            return Ok(None);
        }
        let file = self.from.open(source).map_err(BackupError::io(source))?;
        let io = || BackupError::io(target);
        let copy = self.to.open_write(target).map_err(io())?;
        let mut work = self.work;
        let mut before = crc32fast::Hasher::new();
        let differs = || self.differs(source, target);
        let put = &mut |at: u64, piece: &[u8]| {
            if at < known.len {
                before.update(piece);
                return Ok(());
            }
            match before.clone().finalize() == known.crc {
                true => copy.write_all_at(piece, at).map_err(io()),
                false => Err(differs()),
            }
        };
        let mark = Some(known.len);
        let sums = read_through(&*file, source, planned.len, mark, &mut work, put)?;
        self.work = work;
        self.date(planned, source, target);
        copy.sync_all().map_err(io())?;
        Ok(Some((sums, known.len)))
    }

    fn differs(&self, source: &Path, target: &Path) -> BackupError {
        BackupError::Refused(format!(
            "{} is not what {} has more of, though both are of this store: one of them is damaged, \
             or the store was restored from an older backup meanwhile. The backup stays as it is: \
             see `posthorn store check {}`, or choose another directory",
            target.display(),
            source.display(),
            self.dir.display()
        ))
    }

    /// So that the next run knows the copy. Else it is read again then.
    fn date(&self, planned: &Planned, source: &Path, copy: &Path) {
        if planned.sealed
            && let Ok(stamp) = self.from.stamp(source)
        {
            let _ = self.to.set_modified(copy, stamp.modified);
        }
    }

    /// What is said of it, where it is there already.
    fn keep(
        &mut self,
        planned: &Planned,
        known: Option<Entry>,
        source: &Path,
        target: &Path,
    ) -> Result<Option<Entry>, BackupError> {
        let Ok(there) = self.to.stamp(target) else {
            return Ok(None);
        };
        if let (Kind::Image(_), Some(known)) = (planned.kind, known) {
            // Whenever it was taken, it holds the same.
            self.work.skip(planned.len);
            return Ok((there.len >= known.len).then_some(known));
        }
        if there.len < planned.len {
            return Ok(None);
        }
        let known = known.filter(|known| known.len == planned.len);
        let same = match planned.sealed {
            false => known.is_some() && self.same_place,
            true => self.from.stamp(source).is_ok_and(|stamp| {
                stamp.identity == there.identity
                    || (stamp.len, stamp.modified) == (there.len, there.modified)
            }),
        };
        if !same {
            return Ok(None);
        }
        if let Some(known) = known {
            self.work.skip(planned.len);
            return Ok(Some(known));
        }
        // From a run that was cut off.
        let file = self.to.open(target).map_err(BackupError::io(target))?;
        let nothing = &mut |_, _: &[u8]| Ok(());
        let sums = read_through(&*file, target, planned.len, None, &mut self.work, nothing)?;
        Ok(Some(Entry {
            len: planned.len,
            crc: sums.crc,
        }))
    }

    /// A second name under the unfinished one. False: it has to be copied.
    fn link(&mut self, source: &Path, target: &Path) -> Result<bool, BackupError> {
        match self.to.link(source, &unfinished(target)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BackupError::io(source)(error))
            }
            Err(_) => {
                self.link = false;
                Ok(false)
            }
        }
    }

    fn remove_unfinished(&self, subdir: &Path) -> Result<(), BackupError> {
        for file in self.to.list(subdir).map_err(BackupError::io(subdir))? {
            let name = file.name.to_string_lossy();
            if name.ends_with(UNFINISHED) {
                remove(self.to, &subdir.join(&*name))?;
            }
        }
        Ok(())
    }

    /// What the manifest does not name is of older backups, or of runs that were cut off.
    fn tidy(&mut self, manifest: &Manifest, subdirs: &[PathBuf]) -> Result<(), BackupError> {
        for subdir in subdirs {
            for file in self.to.list(subdir).map_err(BackupError::io(subdir))? {
                let path = subdir.join(&file.name);
                let name = path.strip_prefix(self.dir).unwrap_or(&path);
                let name = name.to_string_lossy().into_owned();
                if kind_of(&name).is_some() && !manifest.files.contains_key(&name) {
                    remove(self.to, &path)?;
                    self.did.removed += 1;
                }
            }
        }
        remove(self.to, &self.dir.join(BEGUN))
    }
}

pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}
