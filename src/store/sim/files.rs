//! Files of which it is known what a power cut may leave.
//!
//! A write is in sectors that come to the disk or not, each for itself; a change of a length
//! comes or not; so does each name that was made, changed or removed. Only a sync of the file
//! makes content durable, only one of the directory a name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rng::Rng;

const SECTOR: u64 = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Arc<Vec<u8>> },
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Arc<Vec<u8>>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Named {
    Put(OsString, u64),
    Remove(OsString),
    Rename(OsString, OsString, u64),
}

#[derive(Clone, Debug, Default)]
struct Dir {
    now: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<Named>,
}

/// What is on the disk, and what is on its way there.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

/// What reads see now. Not part of what a crash leaves.
#[derive(Default)]
pub(super) struct Live(BTreeMap<u64, Vec<u8>>);

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

fn parts(path: &Path) -> (PathBuf, OsString) {
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    (dir, path.file_name().unwrap_or_default().to_owned())
}

impl Dir {
    fn apply(to: &mut BTreeMap<OsString, u64>, change: &Named) {
        match change {
            Named::Put(name, inode) => {
                to.insert(name.clone(), *inode);
            }
            Named::Remove(name) => {
                to.remove(name);
            }
            Named::Rename(from, name, inode) => {
                to.remove(from);
                to.insert(name.clone(), *inode);
            }
        }
    }

    fn change(&mut self, change: Named) {
        Self::apply(&mut self.now, &change);
        self.pending.push(change);
    }
}

impl Files {
    pub(super) fn live(&self) -> Live {
        let content = |inode: &Inode| {
            assert!(
                inode.pending.is_empty(),
                "after a crash nothing is under way"
            );
            (*inode.durable).clone()
        };
        Live(self.inodes.iter().map(|(n, i)| (*n, content(i))).collect())
    }

    pub(super) fn has_dir(&self, path: &Path) -> bool {
        self.dirs.contains_key(path)
    }

    pub(super) fn make_dir(&mut self, path: &Path) {
        self.dirs.entry(path.to_owned()).or_default();
    }

    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        let (dir, name) = parts(path);
        self.dirs.get(&dir)?.now.get(&name).copied()
    }

    pub(super) fn list(&self, dir: &Path, live: &Live) -> Option<Vec<(OsString, u64)>> {
        let names = &self.dirs.get(dir)?.now;
        let file =
            |(name, inode): (&OsString, &u64)| (name.clone(), live.read(*inode).len() as u64);
        Some(names.iter().map(file).collect())
    }

    /// None: there is no such directory.
    pub(super) fn create(&mut self, path: &Path, live: &mut Live) -> Option<u64> {
        let (dir, name) = parts(path);
        let dir = self.dirs.get_mut(&dir)?;
        self.next += 1;
        dir.change(Named::Put(name, self.next));
        self.inodes.insert(self.next, Inode::default());
        live.0.insert(self.next, Vec::new());
        Some(self.next)
    }

    pub(super) fn remove(&mut self, path: &Path) {
        let (dir, name) = parts(path);
        if let Some(dir) = self.dirs.get_mut(&dir) {
            dir.change(Named::Remove(name));
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, inode: u64) {
        let ((dir, from), (same, to)) = (parts(from), parts(to));
        assert_eq!(dir, same, "files stay in their directories");
        if let Some(dir) = self.dirs.get_mut(&dir) {
            dir.change(Named::Rename(from, to, inode));
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        if let Some(dir) = self.dirs.get_mut(dir) {
            dir.durable = dir.now.clone();
            dir.pending.clear();
        }
    }

    pub(super) fn names_wait(&self, dir: &Path) -> bool {
        self.dirs
            .get(dir)
            .is_some_and(|dir| !dir.pending.is_empty())
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: Vec<u8>, live: &mut Live) {
        put(live.0.entry(inode).or_default(), offset, &bytes);
        let bytes = Arc::new(bytes);
        self.pending(inode, Change::Write { offset, bytes });
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64, live: &mut Live) {
        live.0.entry(inode).or_default().resize(len as usize, 0);
        self.pending(inode, Change::Len(len));
    }

    fn pending(&mut self, inode: u64, change: Change) {
        self.inodes.entry(inode).or_default().pending.push(change);
    }

    pub(super) fn sync(&mut self, inode: u64, live: &Live) {
        let file = self.inodes.entry(inode).or_default();
        if !file.pending.is_empty() {
            file.durable = Arc::new(live.read(inode).to_vec());
            file.pending.clear();
        }
    }

    /// A sync failed: what waited is forgotten, and the next one says that all is well.
    pub(super) fn forget(&mut self, inode: u64, live: &mut Live) {
        let file = self.inodes.entry(inode).or_default();
        file.pending.clear();
        live.0.insert(inode, (*file.durable).clone());
    }

    /// As the disk may be when the power comes back.
    pub(super) fn after_crash(&self, rng: &mut Rng) -> Self {
        let mut left = Self {
            next: self.next,
            ..Self::default()
        };
        for (path, dir) in &self.dirs {
            let mut names = dir.durable.clone();
            let (mode, until) = (rng.below(4), rng.below(dir.pending.len() + 1));
            for (at, change) in dir.pending.iter().enumerate() {
                let kept = match mode {
                    0 => true,
                    1 => false,
                    // In order, as a journal writes them.
                    2 => at < until,
                    _ => rng.one_in(2),
                };
                if kept {
                    Dir::apply(&mut names, change);
                }
            }
            for inode in names.values() {
                if let Some(file) = self.inodes.get(inode) {
                    let durable = file.after_crash(rng);
                    let pending = Vec::new();
                    left.inodes.insert(*inode, Inode { durable, pending });
                }
            }
            let dir = Dir {
                now: names.clone(),
                durable: names,
                pending: Vec::new(),
            };
            left.dirs.insert(path.clone(), dir);
        }
        left
    }
}

impl Live {
    pub(super) fn read(&self, inode: u64) -> &[u8] {
        self.0.get(&inode).map_or(&[], Vec::as_slice)
    }
}

impl Inode {
    fn after_crash(&self, rng: &mut Rng) -> Arc<Vec<u8>> {
        if self.pending.is_empty() {
            return self.durable.clone();
        }
        let mut content = (*self.durable).clone();
        let mode = rng.below(5);
        for change in &self.pending {
            let fate = match mode {
                0 => 0,
                1 => 1,
                _ => rng.below(4),
            };
            match (change, fate) {
                (Change::Write { offset, bytes }, 0) => put(&mut content, *offset, bytes),
                (Change::Len(len), 0 | 2) => content.resize(*len as usize, 0),
                (_, 1) | (Change::Len(_), _) => {}
                (Change::Write { offset, bytes }, fate) => {
                    tear(&mut content, *offset, bytes, fate == 2, rng);
                }
            }
        }
        Arc::new(content)
    }
}

/// Some sectors of a write: the first ones, or any.
fn tear(content: &mut Vec<u8>, offset: u64, bytes: &[u8], first: bool, rng: &mut Rng) {
    let end = offset + bytes.len() as u64;
    let sectors = offset / SECTOR..end.div_ceil(SECTOR);
    let until = sectors.start + rng.below((sectors.end - sectors.start) as usize + 1) as u64;
    // The length may come without the content; the blocks then hold anything.
    if rng.one_in(4) && (content.len() as u64) < end {
        let filler = if rng.one_in(2) { 0 } else { rng.next() as u8 };
        content.resize(end as usize, filler);
    }
    for sector in sectors {
        let kept = if first { sector < until } else { rng.one_in(2) };
        if kept {
            let from = (sector * SECTOR).max(offset);
            let to = ((sector + 1) * SECTOR).min(end);
            let piece = &bytes[(from - offset) as usize..(to - offset) as usize];
            put(content, from, piece);
        }
    }
}
