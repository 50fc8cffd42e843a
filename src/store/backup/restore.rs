//! Puts a backup back, in place of nothing.
//!
//! May import: the parent, opening's lock, the log's and the images' files.
//!
//! | state of the data directory | on disk | a crash here leaves |
//! |---|---|---|
//! | staging | `restore.tmp/` fills | nothing to start from; the next restore begins anew |
//! | staged | all of it is there, as its manifest says, and durable | the same |
//! | set aside, if asked | what was there lies in `set-aside-N/` | the same |
//! | moving | `image`, `store-id`, then `log` get their places | without `log` no server starts here, and the next restore begins anew |
//! | restored | the last of these | the store, without an index |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::examine::{Survey, survey};
use super::manifest::{Entry, Kind, Manifest, kind_of};
use super::tar::{self, BLOCK, Member};
use super::{
    ARCHIVE, BackupError, MANIFEST, PIECE, STORE_ID, Tell, Work, read_manifest, read_through,
};
use crate::store::disk::{Disk, RealDisk};
use crate::store::error::OpenError;
use crate::store::{identity, image, log, recovery};

/// Where a backup is taken from.
pub enum Source {
    Directory(PathBuf),
    /// An archive, byte by byte, and what it is called.
    Archive(Box<dyn Read>, String),
}

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub group: u64,
    /// When the backup was made, in milliseconds since 1970.
    pub made: u64,
    pub files: u64,
    pub bytes: u64,
    pub accounts: u64,
    pub mailboxes: u64,
    pub messages: u64,
    /// Where what was there before lies now.
    pub set_aside: Option<PathBuf>,
}

const STAGING: &str = "restore.tmp";
const SET_ASIDE: &str = "set-aside-";

/// What the store has in its directory, in the order in which it gets its places: without the
/// log no server starts.
const PARTS: [&str; 3] = ["image", STORE_ID, "log"];

/// What may be there beside a store.
fn is_harmless(name: &str) -> bool {
    let known = [
        "lock",
        "admin.sock",
        "tls",
        "spool",
        "ballast",
        "posthorn.toml",
        "lost+found",
        STAGING,
    ];
    known.contains(&name) || name.starts_with(SET_ASIDE)
}

fn is_of_a_store(name: &str) -> bool {
    let more = ["rebuild-index", "format", "program", "fulltext"];
    PARTS.contains(&name) || more.contains(&name) || name.starts_with("index")
}

/// Restores into `data`, where no store is. With `set_aside` one that is there is moved to a
/// directory beside it; nothing is ever removed. The caller opens the store afterwards.
pub fn restore(
    source: Source,
    data: &Path,
    set_aside: bool,
    tell: Tell<'_>,
) -> Result<Restored, BackupError> {
    look(data, set_aside)?;
    let _lock = recovery::lock(data)?;
    let staging = data.join(STAGING);
    begin_anew(data, &staging)?;
    // Somebody may have been faster.
    look(data, set_aside)?;
    let done = stage(source, &staging, tell).and_then(|manifest| {
        let found = verify(&manifest, &staging)?;
        let aside = match set_aside {
            true => put_aside(data)?,
            false => None,
        };
        put_in_place(data, &staging)?;
        Ok(Restored {
            group: manifest.group,
            made: manifest.made.0,
            files: manifest.files.len() as u64,
            bytes: manifest.bytes(),
            accounts: found.accounts,
            mailboxes: found.tally.mailboxes(),
            messages: found.tally.messages,
            set_aside: aside,
        })
    });
    // What is left is of no use any more: the log is in its place, or nothing is.
    let _ = begin_anew(data, &staging);
    done
}

/// Nothing starts where a restore was cut off: an empty store would refuse everybody's mail.
pub(in crate::store) fn no_half(data: &Path) -> Result<(), OpenError> {
    let path = data.join(STAGING);
    match path.exists() && !data.join("log").exists() {
        true => Err(OpenError::HalfRestored { path }),
        false => Ok(()),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(BackupError::io(dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(BackupError::io(dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Refuses what is in the way.
fn look(data: &Path, set_aside: bool) -> Result<(), BackupError> {
    let mut names = names(data)?;
    let staging = data.join(STAGING);
    names.retain(|name| !is_harmless(name) && !was_moved(data, &staging, name));
    if let Some(foreign) = names.iter().find(|name| !is_of_a_store(name)) {
        return Err(BackupError::Refused(format!(
            "{} is not empty ({foreign}): is it the right data_dir?",
            data.display()
        )));
    }
    if !names.is_empty() && !set_aside {
        return Err(BackupError::Refused(format!(
            "there is a store in {} already ({}): with --set-aside it is moved to a directory of \
             its own there, and nothing of it is removed",
            data.display(),
            names.join(", ")
        )));
    }
    Ok(())
}

/// True where a restore that was cut off has put it there: the staging directory is complete but
/// for that, and the log not in its place yet.
fn was_moved(data: &Path, staging: &Path, name: &str) -> bool {
    let begun = staging.join(MANIFEST).exists() && staging.join("log").exists();
    let open = !data.join("log").exists() && !staging.join(name).exists();
    begun && open && PARTS.contains(&name)
}

/// Removes what a restore that was cut off has left.
fn begin_anew(data: &Path, staging: &Path) -> Result<(), BackupError> {
    for name in PARTS {
        if data.join(name).exists() && was_moved(data, staging, name) {
            let (from, to) = (data.join(name), staging.join(name));
            fs::rename(&from, &to).map_err(BackupError::io(&to))?;
        }
    }
    match fs::remove_dir_all(staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::io(staging)(error))
        }
        _ => Ok(()),
    }
}

/// Fills the staging directory; every file is what the manifest says when this returns.
fn stage(source: Source, staging: &Path, tell: Tell<'_>) -> Result<Manifest, BackupError> {
    let subdirs = [log::directory(staging), image::files::directory(staging)];
    for dir in &subdirs {
        RealDisk.create_dir(dir).map_err(BackupError::io(dir))?;
    }
    let (manifest, came, from) = match source {
        Source::Directory(dir) => {
            let manifest = read_manifest(&RealDisk, &dir)?.ok_or_else(|| {
                BackupError::Refused(format!("{} has no complete backup", dir.display()))
            })?;
            let came = copy(&dir, &manifest, staging, tell)?;
            (manifest, came, dir)
        }
        Source::Archive(mut archive, name) => {
            let from = PathBuf::from(name);
            let (manifest, came) = unpack(&mut *archive, &from, staging, tell)?;
            (manifest, came, from)
        }
    };
    for (name, entry) in &manifest.files {
        match came.get(name) {
            Some(other) if other == entry => {}
            Some(_) => {
                return Err(BackupError::bad(
                    &from,
                    format!("{name} is not what was backed up"),
                ));
            }
            None => return Err(BackupError::bad(&from, format!("{name} is missing"))),
        }
    }
    if let Some(name) = came.keys().find(|name| !manifest.files.contains_key(*name)) {
        let text = format!("{name} does not belong to the backup");
        return Err(BackupError::bad(&from, text));
    }
    super::write_manifest(&RealDisk, staging, &manifest)?;
    for dir in &subdirs {
        RealDisk.sync_dir(dir).map_err(BackupError::io(dir))?;
    }
    Ok(manifest)
}

type Came = BTreeMap<String, Entry>;

fn copy(
    dir: &Path,
    manifest: &Manifest,
    staging: &Path,
    tell: Tell<'_>,
) -> Result<Came, BackupError> {
    let mut work = Work::new(tell, 0, manifest.bytes());
    let mut came = Came::new();
    for (name, entry) in &manifest.files {
        let (source, target) = (dir.join(name), staging.join(name));
        let file = RealDisk.open(&source).map_err(BackupError::io(&source))?;
        let copy = RealDisk.create_new(&target);
        let copy = copy.map_err(BackupError::io(&target))?;
        let put = &mut |at: u64, piece: &[u8]| {
            let done = copy.write_all_at(piece, at);
            done.map_err(BackupError::io(&target))
        };
        let sums = read_through(&*file, &source, entry.len, None, &mut work, put)?;
        if let Ok(stamp) = RealDisk.stamp(&source)
            && stamp.len == entry.len
        {
            // So that the next backup into that directory copies little.
            let _ = RealDisk.set_modified(&target, stamp.modified);
        }
        copy.sync_all().map_err(BackupError::io(&target))?;
        let crc = sums.crc;
        came.insert(name.clone(), Entry { crc, ..*entry });
    }
    Ok(came)
}

/// The members of an archive, in any order. Their names are held against those that a backup
/// has, so that nothing is written anywhere else.
fn unpack(
    archive: &mut dyn Read,
    from: &Path,
    staging: &Path,
    tell: Tell<'_>,
) -> Result<(Manifest, Came), BackupError> {
    let bad = |reason: &str| BackupError::bad(from, reason);
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("the archive is cut off"),
        _ => BackupError::io(from)(error),
    };
    let mut came = Came::new();
    let mut manifest = None;
    let mut done = 0;
    loop {
        let mut header = [0; BLOCK];
        archive.read_exact(&mut header).map_err(read)?;
        let (name, len) = match tar::parse(&header) {
            Ok(Member::File { name, len }) => (name, len),
            Ok(Member::Directory) => continue,
            Ok(Member::End) => break,
            Err(error) => return Err(BackupError::bad(from, error)),
        };
        let known = name.strip_prefix(ARCHIVE).and_then(|n| n.strip_prefix('/'));
        let known = known.filter(|name| *name == MANIFEST || kind_of(name).is_some());
        let Some(known) = known else {
            // The name is a stranger's.
            let text = format!("{name:?} is no file of a backup");
            return Err(BackupError::bad(from, text));
        };
        let twice = match known == MANIFEST {
            true => manifest.is_some(),
            false => came.contains_key(known),
        };
        if twice {
            return Err(BackupError::bad(from, format!("{known} is there twice")));
        }
        if known == MANIFEST {
            if len > super::MAX_MANIFEST {
                return Err(bad("the manifest is too long"));
            }
            let mut bytes = vec![0; len as usize];
            archive.read_exact(&mut bytes).map_err(read)?;
            manifest = Some(super::decode_manifest(&bytes, from)?);
        } else {
            let target = staging.join(known);
            let crc = member(archive, &target, len, &read, &mut |bytes| {
                done += bytes;
                tell(done, 0);
            })?;
            came.insert(known.to_owned(), Entry { len, crc });
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..tar::padding(len)];
        archive.read_exact(rest).map_err(read)?;
    }
    // Whoever writes it is not cut off.
    let _ = io::copy(&mut archive.take(1 << 20), &mut io::sink());
    let manifest = manifest.ok_or_else(|| bad("the archive is not complete"))?;
    Ok((manifest, came))
}

fn member(
    archive: &mut dyn Read,
    target: &Path,
    len: u64,
    read: &dyn Fn(io::Error) -> BackupError,
    went: &mut dyn FnMut(u64),
) -> Result<u32, BackupError> {
    let file = RealDisk
        .create_new(target)
        .map_err(BackupError::io(target))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE))];
    let mut at = 0;
    while at < len {
        let piece = &mut buffer[..(len - at).min(PIECE as u64) as usize];
        archive.read_exact(piece).map_err(read)?;
        hasher.update(piece);
        file.write_all_at(piece, at)
            .map_err(BackupError::io(target))?;
        at += piece.len() as u64;
        went(piece.len() as u64);
    }
    file.sync_all().map_err(BackupError::io(target))?;
    Ok(hasher.finalize())
}

/// That the files are a store's, of one piece.
fn verify(manifest: &Manifest, staging: &Path) -> Result<Survey, BackupError> {
    let id = identity::read(&RealDisk, staging).map_err(BackupError::io(staging))?;
    if id != Some(manifest.store_id) {
        let text = "it is not that of the backup";
        return Err(BackupError::bad(&staging.join(STORE_ID), text));
    }
    for name in manifest.files.keys() {
        if let Some(Kind::Segment(_) | Kind::Large(_)) = kind_of(name) {
            let path = staging.join(name);
            let file = RealDisk.open(&path).map_err(BackupError::io(&path))?;
            log::check_header(&*file, &path, &manifest.store_id)
                .map_err(|error| BackupError::bad(&path, error))?;
        }
    }
    let found = survey(&RealDisk, staging, manifest, &mut |_, _| {})?;
    match found.complaints.first() {
        Some(first) => Err(BackupError::bad(
            staging,
            format!("the state image does not add up: {first}"),
        )),
        None => Ok(found),
    }
}

fn put_aside(data: &Path) -> Result<Option<PathBuf>, BackupError> {
    let names = names(data)?;
    let old: Vec<_> = names.iter().filter(|name| is_of_a_store(name)).collect();
    if old.is_empty() {
        return Ok(None);
    }
    let free = (1..).map(|n| data.join(format!("{SET_ASIDE}{n}")));
    let aside = free.take(10_000).find(|path| !path.exists());
    let aside = aside.ok_or_else(|| BackupError::bad(data, "too much is set aside there"))?;
    RealDisk
        .create_dir(&aside)
        .map_err(BackupError::io(&aside))?;
    for name in old {
        let (from, to) = (data.join(name), aside.join(name));
        fs::rename(&from, &to).map_err(BackupError::io(&to))?;
    }
    for dir in [&aside, data] {
        RealDisk.sync_dir(dir).map_err(BackupError::io(dir))?;
    }
    Ok(Some(aside))
}

fn put_in_place(data: &Path, staging: &Path) -> Result<(), BackupError> {
    for name in PARTS {
        let (from, to) = (staging.join(name), data.join(name));
        fs::rename(&from, &to).map_err(BackupError::io(&to))?;
        for dir in [staging, data] {
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.map_err(BackupError::io(dir))?;
        }
    }
    Ok(())
}
