//! Whose the data directory is, and that nobody else reads in it.
//!
//! May import: the parent's errors.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::error::OpenError;

/// Deeper than anything of ours; what lies below is left alone.
const MAX_DEPTH: usize = 8;

/// Refused where it belongs to somebody else: what one user makes in another's store locks the
/// other out of it. Changes nothing.
pub(super) fn check_owner(dir: &Path) -> Result<(), OpenError> {
    let found = match std::fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(dir, error)),
    };
    owned(dir, &found)
}

fn owned(path: &Path, found: &Metadata) -> Result<(), OpenError> {
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(());
    }
    Err(OpenError::NotOurs {
        path: path.to_owned(),
        owner,
        me,
    })
}

/// Takes away what others may do with the directory and all that is in it: an earlier version,
/// a copy or whoever made the directory may have left it open. Links are not followed, except
/// that of a log that lies elsewhere.
pub(super) fn narrow(dir: &Path) -> Result<(), OpenError> {
    let mut narrowed = 0u64;
    walk(dir, 0, &mut narrowed)?;
    if narrowed > 0 {
        tracing::warn!(
            files = narrowed,
            "{} was open to other users; it is no more",
            dir.display()
        );
    }
    Ok(())
}

fn walk(path: &Path, depth: usize, narrowed: &mut u64) -> Result<(), OpenError> {
    let log = depth == 1 && path.file_name().is_some_and(|name| name == "log");
    let found = match depth == 0 || log {
        true => std::fs::metadata(path),
        false => std::fs::symlink_metadata(path),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, error)),
    };
    if found.is_symlink() {
        return Ok(());
    }
    let most = if found.is_dir() { 0o700 } else { 0o600 };
    let mode = found.mode() & 0o7777;
    if mode & !most != 0 {
        owned(path, &found)?;
        let narrow = Permissions::from_mode(mode & most);
        std::fs::set_permissions(path, narrow).map_err(|error| failed(path, error))?;
        *narrowed += 1;
    }
    if found.is_dir() && depth < MAX_DEPTH {
        for entry in std::fs::read_dir(path).map_err(|error| failed(path, error))? {
            let entry = entry.map_err(|error| failed(path, error))?;
            walk(&entry.path(), depth + 1, narrowed)?;
        }
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}
