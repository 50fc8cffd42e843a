//! The store's id in a file of its own, so that a damaged segment header costs nothing and a log
//! that is gone is told from one that never was: the file is written when the log is there.
//!
//! May import: the disk.

use std::io;
use std::path::Path;

use super::disk::{Disk, read_small, replace};

pub(super) const NAME: &str = "store-id";
pub(super) const VERSION: u32 = 1;
const KIND: &str = "posthorn-store-";
/// More than the file ever has.
const MAX: u64 = 4096;

pub(super) fn line(id: [u8; 16]) -> String {
    let id = u128::from_be_bytes(id);
    let text = format!("{KIND}{VERSION} {id:032x}");
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}

pub(super) fn is_at(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// The version of a line that a newer program has written: whatever is in it, it begins and ends
/// as ours does.
pub(super) fn newer(disk: &dyn Disk, dir: &Path) -> io::Result<Option<u32>> {
    let Some(text) = text(disk, dir)? else {
        return Ok(None);
    };
    let Some((said, sum)) = text.trim_end().rsplit_once(' ') else {
        return Ok(None);
    };
    let version = said
        .split(' ')
        .next()
        .and_then(|head| head.strip_prefix(KIND));
    let version = version.and_then(|version| version.parse().ok());
    let whole = sum == format!("{:08x}", crc32fast::hash(said.as_bytes()));
    Ok(version.filter(|version| whole && *version > VERSION))
}

fn text(disk: &dyn Disk, dir: &Path) -> io::Result<Option<String>> {
    let found = read_small(disk, &dir.join(NAME), MAX)?;
    Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// None where there is none, or nothing that can be read.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<[u8; 16]>> {
    let Some(text) = text(disk, dir)? else {
        return Ok(None);
    };
    let id = text.split(' ').nth(1).filter(|hex| hex.len() == 32);
    let id = id.and_then(|hex| u128::from_str_radix(hex, 16).ok());
    let id = id.map(u128::to_be_bytes).filter(|id| line(*id) == text);
    if id.is_none() {
        tracing::error!(
            "{} is damaged; it is written anew",
            dir.join(NAME).display()
        );
    }
    Ok(id)
}

/// Durable when it returns.
pub(super) fn write(disk: &dyn Disk, dir: &Path, id: [u8; 16]) -> io::Result<()> {
    replace(disk, dir, NAME, line(id).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    #[test]
    fn comes_back_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
        write(&RealDisk, dir.path(), [0xa7; 16]).unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), Some([0xa7; 16]));
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read(&RealDisk, dir.path()).unwrap(), None, "{at}");
        }
    }
}
