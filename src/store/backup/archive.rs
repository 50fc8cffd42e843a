//! Writes a backup as one tar archive: its manifest comes last, so that one that was cut off has
//! none.
//!
//! May import: the parent, the disk.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use super::make::{BackedUp, gone, line_entry, manifest_of, millis, read_source, unfinished};
use super::manifest::Entry;
use super::{ARCHIVE, Amount, BackupError, How, MANIFEST, STORE_ID, Tell, Work, read_through, tar};
use crate::store::clock::now;
use crate::store::disk::{Disk, RealDisk};
use crate::store::identity;

/// Writes a backup as one archive. One that is cut off has no manifest.
pub fn to_archive(
    data: &Path,
    out: &mut dyn Write,
    how: How,
    held: &dyn Fn() -> bool,
    tell: Tell<'_>,
) -> Result<BackedUp, BackupError> {
    let started = Instant::now();
    let found = read_source(&RealDisk, data, how.group, held)?;
    let mut did = BackedUp {
        group: found.header.seq,
        missing: found.missing,
        ..BackedUp::default()
    };
    let mut work = Work::new(tell, how.rate, found.bytes());
    let mut archive = Archive {
        out,
        secs: now().0 / 1000,
    };
    let mut files = BTreeMap::new();
    let id = identity::line(found.header.store_id);
    archive.small(STORE_ID, id.as_bytes())?;
    files.insert(STORE_ID.to_owned(), line_entry(&id));
    for planned in &found.files {
        let path = data.join(&planned.name);
        let opened = RealDisk.open(&path).map_err(BackupError::io(&path));
        let file = opened.map_err(|error| gone(error, held))?;
        archive.begin(&planned.name, planned.len)?;
        let put = &mut |_, piece: &[u8]| archive.put(piece);
        let sums = read_through(&*file, &path, planned.len, None, &mut work, put)?;
        archive.end(planned.len)?;
        did.copied.add(planned.len);
        let entry = Entry {
            len: planned.len,
            crc: sums.crc,
        };
        files.insert(planned.name.clone(), entry);
    }
    let manifest = manifest_of(&found, files);
    archive.small(MANIFEST, manifest.encode().as_bytes())?;
    archive.put(&[0; 2 * tar::BLOCK])?;
    archive.out.flush().map_err(written)?;
    did.all = Amount {
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
    };
    did.millis = millis(started);
    Ok(did)
}

/// The same into a file, which takes the place of one that is there when it is whole and durable.
pub fn to_file(
    data: &Path,
    path: &Path,
    how: How,
    held: &dyn Fn() -> bool,
    tell: Tell<'_>,
) -> Result<BackedUp, BackupError> {
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = unfinished(path);
    let io = || BackupError::io(&unfinished);
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished).map_err(io())?;
    let made = to_archive(data, &mut file, how, held, tell);
    let made = made.and_then(|made| {
        file.sync_all().map_err(io())?;
        RealDisk
            .rename(&unfinished, path)
            .and_then(|()| RealDisk.sync_dir(path.parent().unwrap_or(Path::new("."))))
            .map_err(BackupError::io(path))?;
        Ok(made)
    });
    if made.is_err() {
        let _ = RealDisk.remove(&unfinished);
    }
    made
}

fn written(error: io::Error) -> BackupError {
    BackupError::io(Path::new("the archive"))(error)
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    secs: u64,
}

impl Archive<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.out.write_all(bytes).map_err(written)
    }

    fn begin(&mut self, name: &str, len: u64) -> Result<(), BackupError> {
        let name = format!("{ARCHIVE}/{name}");
        let header = tar::header(&name, len, self.secs);
        let header = header.ok_or_else(|| BackupError::bad(Path::new(&name), "a long name"))?;
        self.put(&header)
    }

    fn end(&mut self, len: u64) -> Result<(), BackupError> {
        self.put(&[0; tar::BLOCK][..tar::padding(len)])
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.begin(name, bytes.len() as u64)?;
        self.put(bytes)?;
        self.end(bytes.len() as u64)
    }
}
