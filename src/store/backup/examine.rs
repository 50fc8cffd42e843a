//! Looks whether a backup is good, in a directory or an archive. Nothing is written.
//!
//! May import: the parent, the log's and the images' files, types.
//!
//! Memory: some fifty bytes a message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::manifest::{Entry, Kind, Manifest, kind_of};
use super::tar::{self, BLOCK, Member};
use super::{ARCHIVE, BackupError, STORE_ID, Tell, Work, read_manifest, read_through};
use crate::store::damage;
use crate::store::disk::{Disk, DiskFile, Listed, RealDisk};
use crate::store::identity;
use crate::store::image::files::{self as images, Image};
use crate::store::image::tally::{self, Tally};
use crate::store::keys::{self, BlobRecord};
use crate::store::log::{self, BlobPlace, BlobStore, LogError, LogRead};
use crate::types::BlobId;

/// Problems that are told; the others are counted.
const NAMED: usize = 1000;

/// What a check of a backup found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Nothing is wrong.
    pub ok: bool,
    /// All bytes were read.
    pub deep: bool,
    /// The group whose state it is.
    pub group: u64,
    /// When it was made, in milliseconds since 1970.
    pub made: u64,
    pub accounts: u64,
    pub mailboxes: u64,
    pub messages: u64,
    pub bodies: u64,
    /// Of all its files.
    pub bytes: u64,
    /// What is wrong, for people.
    pub problems: Vec<String>,
}

/// What the state image of a backup says.
pub(super) struct Survey {
    pub tally: Tally,
    pub accounts: u64,
    pub complaints: Vec<String>,
}

/// Reads the image through. `body` gets every body that has a message.
pub(super) fn survey(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
    body: &mut dyn FnMut(BlobId, BlobPlace),
) -> Result<Survey, BackupError> {
    let path = images::directory(dir).join(images::name(manifest.group));
    let image = Image::open(disk, &path)?;
    let header = image.header;
    if (header.store_id, header.seq, header.at) != (manifest.store_id, manifest.group, manifest.at)
    {
        return Err(BackupError::bad(&path, "it is not that of the backup"));
    }
    let mut tally = Tally::default();
    let (mut accounts, mut lost) = (0, false);
    image.read(&mut |key, value| {
        if !tally::concerns(key) {
            return;
        }
        tally.add(key, value);
        accounts += u64::from(key.first() == Some(&b'A'));
        lost |= damage::is_remembered_by(key);
        let id = key.get(1..).and_then(|id| id.first_chunk());
        if let (Some(b'b'), Some(id)) = (key.first(), id)
            && let Ok(record) = keys::decode::<BlobRecord>(value)
        {
            body(BlobId(*id), record.place);
        }
    })?;
    let complaints = tally.complaints(lost);
    Ok(Survey {
        tally,
        accounts,
        complaints,
    })
}

/// Checks the backup at `path`, a directory or an archive. Without `deep`: lengths, headers, the
/// state image, all groups of the log, and that every body has its place in one of them; with it,
/// every byte. An error: there is no backup that could be looked at.
pub fn check(path: &Path, deep: bool, tell: Tell<'_>) -> Result<BackupReport, BackupError> {
    let metadata = std::fs::metadata(path).map_err(BackupError::io(path))?;
    let disk: Arc<dyn Disk> = match metadata.is_dir() {
        true => Arc::new(RealDisk),
        false => Arc::new(ArchiveDisk::open(path)?),
    };
    let manifest = read_manifest(&*disk, path)?
        .ok_or_else(|| BackupError::bad(path, "it has no complete backup"))?;
    let all = match deep {
        true => manifest.bytes(),
        false => 0,
    };
    let mut examine = Examine {
        dir: path,
        work: Work::new(tell, 0, all),
        left_out: 0,
        report: BackupReport {
            deep,
            group: manifest.group,
            made: manifest.made.0,
            bytes: manifest.bytes(),
            ..BackupReport::default()
        },
        manifest: &manifest,
        disk,
    };
    examine.run();
    let mut report = examine.report;
    if examine.left_out > 0 {
        let text = format!("and {} more", examine.left_out);
        report.problems.push(text);
    }
    report.ok = report.problems.is_empty();
    Ok(report)
}

/// A body and where it lies, in order of the places.
type Body = (BlobPlace, BlobId);

fn order(body: &Body) -> (u64, u64) {
    (body.0.segment, body.0.offset)
}

struct Examine<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    manifest: &'a Manifest,
    work: Work<'a>,
    report: BackupReport,
    left_out: u64,
}

impl Examine<'_> {
    fn problem(&mut self, what: impl ToString) {
        match self.report.problems.len() < NAMED {
            true => self.report.problems.push(what.to_string()),
            false => self.left_out += 1,
        }
    }

    fn run(&mut self) {
        let manifest = self.manifest;
        let mut bodies: Vec<Body> = Vec::new();
        let surveyed = survey(&*self.disk, self.dir, manifest, &mut |id, place| {
            bodies.push((place, id));
        });
        match surveyed {
            Ok(found) => {
                self.report.accounts = found.accounts;
                self.report.mailboxes = found.tally.mailboxes();
                self.report.messages = found.tally.messages;
                self.report.bodies = found.tally.bodies;
                for what in found.complaints {
                    self.problem(format!("the state image does not add up: {what}"));
                }
            }
            Err(error) => self.problem(error),
        }
        bodies.sort_unstable_by_key(order);
        let store_id = manifest.store_id;
        let (reader, blobs) = log::read_only(&self.disk, self.dir, store_id, manifest.at);
        match identity::read(&*self.disk, self.dir) {
            Ok(Some(id)) if id == store_id => {}
            Ok(_) => self.problem(format!("{STORE_ID} is damaged or of another store")),
            Err(error) => self.problem(format!("{STORE_ID}: {error}")),
        }
        let mut of_files: BTreeMap<u64, &[Body]> = BTreeMap::new();
        for some in bodies.chunk_by(|a, b| a.0.segment == b.0.segment) {
            if let Some((place, _)) = some.first() {
                of_files.insert(place.segment, some);
            }
        }
        for (name, entry) in &manifest.files {
            let there = self.file(name, entry);
            let number = match kind_of(name) {
                Some(Kind::Segment(number) | Kind::Large(number)) => number,
                _ => continue,
            };
            let wanted = of_files.remove(&number).unwrap_or_default();
            match (there, kind_of(name)) {
                (false, _) => self.lost(name, wanted.len()),
                (true, Some(Kind::Large(_))) => self.large(name, wanted, &*blobs),
                (true, _) => self.segment(name, number, wanted, &*reader, &*blobs),
            }
        }
        for (number, wanted) in of_files {
            self.lost(&format!("file {number} of the log"), wanted.len());
        }
    }

    fn lost(&mut self, name: &str, bodies: usize) {
        if bodies > 0 {
            self.problem(format!("{name}: {bodies} bodies of messages are not there"));
        }
    }

    /// Length, header, and checksum. False: nothing can be read from it.
    fn file(&mut self, name: &str, entry: &Entry) -> bool {
        let path = self.dir.join(name);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) => {
                self.problem(format!("{name}: {error}"));
                return false;
            }
        };
        match file.len() {
            Ok(len) if len >= entry.len => {}
            Ok(len) => {
                self.problem(format!("{name} has {len} bytes instead of {}", entry.len));
            }
            Err(error) => self.problem(format!("{name}: {error}")),
        }
        let of_log = matches!(kind_of(name), Some(Kind::Segment(_) | Kind::Large(_)));
        if of_log && let Err(error) = log::check_header(&*file, &path, &self.manifest.store_id) {
            self.problem(format!("{name}: {error}"));
        }
        if self.report.deep {
            let nothing = &mut |_, _: &[u8]| Ok(());
            let read = read_through(&*file, &path, entry.len, None, &mut self.work, nothing);
            match read {
                Ok(sums) if sums.crc == entry.crc => {}
                Ok(_) => self.problem(format!("{name} is not what was backed up")),
                Err(error) => self.problem(error),
            }
        }
        true
    }

    fn large(&mut self, name: &str, wanted: &[Body], blobs: &dyn BlobStore) {
        for (place, id) in wanted {
            let read = match self.report.deep {
                true => blobs.check(id, place),
                // Its header.
                false => blobs.get(id, place, 0..0).map(drop),
            };
            self.body(name, *id, read);
        }
    }

    fn body(&mut self, name: &str, id: BlobId, read: Result<(), LogError>) {
        if let Err(error) = read {
            self.problem(format!("{name}: the body {id} of a message: {error}"));
        }
    }

    /// Its groups, and the bodies that should be in them.
    fn segment(
        &mut self,
        name: &str,
        number: u64,
        wanted: &[Body],
        reader: &dyn LogRead,
        blobs: &dyn BlobStore,
    ) {
        let (found, read) = match reader.bodies_in(number) {
            Ok(found) => found,
            Err(error) => return self.problem(format!("{name}: {error}")),
        };
        if read.damaged_bytes > 0 {
            let bytes = read.damaged_bytes;
            self.problem(format!("{name}: {bytes} bytes belong to no good group"));
        }
        let mut there = vec![false; wanted.len()];
        for (id, place) in found {
            if let Ok(at) = wanted.binary_search_by_key(&order(&(place, id)), order)
                && wanted.get(at) == Some(&(place, id))
                && let Some(there) = there.get_mut(at)
            {
                *there = true;
            }
        }
        self.lost(name, there.iter().filter(|there| !**there).count());
        if self.report.deep {
            for (place, id) in wanted {
                let read = blobs.check(id, place);
                self.body(name, *id, read);
            }
        }
    }
}

/// The files of an archive where they lie, for reading.
struct ArchiveDisk {
    file: Arc<File>,
    members: BTreeMap<PathBuf, (u64, u64)>,
}

struct Part {
    file: Arc<File>,
    start: u64,
    len: u64,
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl ArchiveDisk {
    fn open(path: &Path) -> Result<Self, BackupError> {
        let file = Arc::new(File::open(path).map_err(BackupError::io(path))?);
        let mut members = BTreeMap::new();
        let mut at = 0;
        loop {
            let mut header = [0; BLOCK];
            match DiskFile::read_exact_at(&*file, &mut header, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(BackupError::bad(path, "the archive is cut off"));
                }
                read => read.map_err(BackupError::io(path))?,
            }
            at += BLOCK as u64;
            match tar::parse(&header) {
                Ok(Member::File { name, len }) => {
                    if let Some(name) = name.strip_prefix(ARCHIVE) {
                        let name = path.join(name.trim_start_matches('/'));
                        members.insert(name, (at, len));
                    }
                    at += len + tar::padding(len) as u64;
                }
                Ok(Member::Directory) => {}
                Ok(Member::End) => return Ok(Self { file, members }),
                Err(error) => return Err(BackupError::bad(path, error)),
            }
        }
    }
}

impl Disk for ArchiveDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (start, len) = *self.members.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Part {
            file: self.file.clone(),
            start,
            len,
        }))
    }

    fn open_write(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(read_only())
    }

    fn create_new(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(read_only())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let inside = self.members.iter().filter(|(p, _)| p.parent() == Some(dir));
        Ok(inside
            .filter_map(|(path, (_, len))| {
                Some(Listed {
                    name: path.file_name()?.to_owned(),
                    len: *len,
                })
            })
            .collect())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        None
    }
}

impl DiskFile for Part {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        DiskFile::read_exact_at(&*self.file, into, self.start + offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn write_gathered_at(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}
