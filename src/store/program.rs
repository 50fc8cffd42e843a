//! Which program had the store open last: a state image is taken before another one changes
//! anything in it.
//!
//! May import: the disk.

use std::io;
use std::path::Path;

use super::disk::{Disk, read_small, replace};

const NAME: &str = "program";
const MINE: &str = env!("CARGO_PKG_VERSION");
/// More than any version has.
const MAX: u64 = 64;

/// True where it was this one.
pub(super) fn is_the_same(disk: &dyn Disk, dir: &Path) -> bool {
    let found = read_small(disk, &dir.join(NAME), MAX);
    matches!(found, Ok(Some(found)) if found == line().as_bytes())
}

fn line() -> String {
    format!("posthorn {MINE}\n")
}

/// It is this one from now on. Durable when it returns.
pub(super) fn note(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    replace(disk, dir, NAME, line().as_bytes())
}
