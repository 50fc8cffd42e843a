//! Which forms the store's files have: looked at before anything is opened for writing, so that
//! a program that is too old for a store leaves it as it is.
//!
//! May import: the disk, the parts that have a version.
//!
//! The file `format` names every form that was ever written here, one a line, and is raised
//! before the first byte of a newer one is written. It stands for what can't be looked at
//! without changing it (the index), or not without reading everything (old frames). Headers of
//! files and the log's end are looked at all the same: the file may be lost.

use std::io;
use std::path::Path;

use super::disk::{Disk, read_small, replace};
use super::error::OpenError;
use super::image::files::ImageError;
use super::image::format::BadImage;
use super::{engine, identity, image, log, ops};

const NAME: &str = "format";
/// More than the file ever has.
const MAX: u64 = 4096;

/// What this program writes.
fn known() -> [(&'static str, u32); 5] {
    [
        ("log", log::VERSION),
        ("frame", log::FRAME_VERSION),
        ("operations", u32::from(ops::VERSION)),
        ("index", u32::from(engine::SCHEMA)),
        ("image", image::format::VERSION),
    ]
}

/// The text of the file, and its checksum.
fn text(forms: &[(String, u32)]) -> String {
    let mut text = String::new();
    for (name, version) in forms {
        text.push_str(&format!("{name} {version}\n"));
    }
    text.push_str(&format!("sum {:08x}\n", crc32fast::hash(text.as_bytes())));
    text
}

/// None where there is none, or nothing that can be read.
fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Vec<(String, u32)>>> {
    let Some(bytes) = read_small(disk, &dir.join(NAME), MAX)? else {
        return Ok(None);
    };
    let found = String::from_utf8_lossy(&bytes);
    let lines = found.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter(|(name, _)| *name != "sum");
    let forms: Option<Vec<_>> = lines
        .map(|(name, version)| Some((name.to_owned(), version.parse().ok()?)))
        .collect();
    Ok(forms.filter(|forms| text(forms) == found))
}

/// The forms that the store's files have.
pub(super) fn forms(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(String, u32)>> {
    let found = read(disk, dir)?;
    Ok(found.unwrap_or_else(|| known().map(|(name, v)| (name.to_owned(), v)).into()))
}

/// The first of these forms that this program does not know, with the newest that it does.
pub(super) fn newer_of(forms: &[(String, u32)]) -> Option<(String, u32, u32)> {
    forms.iter().find_map(|(name, version)| {
        let known = known().iter().find(|(known, _)| known == name).map(|k| k.1);
        let known = known.unwrap_or(0);
        (*version > known).then(|| (name.clone(), *version, known))
    })
}

/// Fails where anything was written by a newer program. Reads only.
pub(super) fn look(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io {
        path: dir.to_owned(),
        source,
    };
    let newer = |name: &str, found: u32, known: u32| OpenError::Newer {
        path: dir.join(name),
        found,
        known,
    };
    let forms = read(disk, dir).map_err(io)?.unwrap_or_default();
    if let Some((name, version, known)) = newer_of(&forms) {
        return Err(newer(&format!("{NAME}: {name}"), version, known));
    }
    if let Some(found) = identity::newer(disk, dir).map_err(io)? {
        return Err(newer(identity::NAME, found, identity::VERSION));
    }
    log::look(disk, dir, ops::VERSION)?;
    let images = image::files::list(disk, dir).unwrap_or_default();
    for candidate in images {
        if let Err(ImageError::Bad {
            path,
            source: BadImage::Newer(found),
        }) = image::files::Image::open(disk, &candidate.path)
        {
            return Err(OpenError::Newer {
                path,
                found,
                known: image::format::VERSION,
            });
        }
    }
    Ok(())
}

/// Writes down what this program may write from now on. Durable when it returns.
pub(super) fn note(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let before = read(disk, dir)?;
    let now: Vec<_> = known().map(|(name, v)| (name.to_owned(), v)).into();
    if before.as_ref() == Some(&now) {
        return Ok(());
    }
    replace(disk, dir, NAME, text(&now).as_bytes())
}
