//! A disk that fails on purpose, for tests: the writer is the real one, only its write is struck.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::disk::{DiskFile, RealDisk};
use super::{Disk, Known, OpenError, Opened, open};

/// What happens to one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No room: nothing is written.
    Full,
    /// The first bytes of the frame are written, then the disk fails.
    Tear(usize),
    /// All is written, but the sync fails.
    Sync,
}

/// Which appends fail: the first one after opening has number 0.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<(u64, BTreeMap<u64, Fault>)>,
}

impl Faults {
    pub(crate) fn new(plan: impl IntoIterator<Item = (u64, Fault)>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((0, plan.into_iter().collect())),
        })
    }

    /// Strikes the next append.
    pub(crate) fn next(&self, fault: Fault) {
        let mut state = self.state.lock();
        let number = state.0;
        state.1.insert(number, fault);
    }

    pub(super) fn on_append(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        let number = state.0;
        state.0 += 1;
        state.1.remove(&number)
    }
}

impl Fault {
    pub(super) fn strike(self, file: &dyn DiskFile, offset: u64, pieces: &[&[u8]]) -> io::Error {
        let mut bytes = pieces.concat();
        match self {
            Self::Full => return io::ErrorKind::StorageFull.into(),
            Self::Tear(len) => bytes.truncate(len),
            Self::Sync => {}
        }
        match file.write_all_at(&bytes, offset) {
            Ok(()) => io::Error::other("the disk failed, as planned"),
            Err(error) => error,
        }
    }
}

/// `open_files` with a plan of faults.
pub(crate) fn open_files(
    dir: &Path,
    segment_bytes: u64,
    known: Known,
    faults: Arc<Faults>,
) -> Result<Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut parts = open::open(&disk, dir, segment_bytes, known)?;
    parts.log.faults = Some(faults);
    Ok(parts.finish())
}

/// Bytes of files that can't be read.
static UNREADABLE: Mutex<Vec<(PathBuf, Range<u64>)>> = Mutex::new(Vec::new());

/// From now on reads that touch these bytes fail, as those of a bad sector do.
pub(crate) fn make_unreadable(path: &Path, bytes: Range<u64>) {
    UNREADABLE.lock().push((path.to_owned(), bytes));
}

pub(crate) fn make_readable(path: &Path) {
    UNREADABLE.lock().retain(|(other, _)| other != path);
}

pub(super) fn on_read(path: &Path, bytes: Range<u64>) -> io::Result<()> {
    let struck = |(other, bad): &(PathBuf, Range<u64>)| {
        other == path && bad.start < bytes.end && bytes.start < bad.end
    };
    if UNREADABLE.lock().iter().any(struck) {
        return Err(rustix::io::Errno::IO.into());
    }
    Ok(())
}
