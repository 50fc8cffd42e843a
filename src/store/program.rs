//! Which program had the store open last: a state image is taken before another one changes
//! anything in it.
//!
//! May import: the disk.

use std::io;
use std::path::Path;

use super::disk::Disk;

const NAME: &str = "program";
const MINE: &str = env!("CARGO_PKG_VERSION");
/// More than any version has.
const MAX: u64 = 64;

/// True where it was this one.
pub(super) fn is_the_same(disk: &dyn Disk, dir: &Path) -> bool {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(&dir.join(NAME))?;
        let mut bytes = vec![0; file.len()?.min(MAX) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().is_ok_and(|found| found == line().as_bytes())
}

fn line() -> String {
    format!("posthorn {MINE}\n")
}

/// It is this one from now on. Durable when it returns.
pub(super) fn note(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let (path, unfinished) = (dir.join(NAME), dir.join(format!("{NAME}.tmp")));
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create_new(&unfinished)?;
    file.write_all_at(line().as_bytes(), 0)?;
    file.sync_all()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)
}
