//! Waits for the disk beside the runtime.
//!
//! May import: nothing of ours. The one place of the store that knows which thread it is on.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::ReadWriteFlags;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs what may wait for the disk. On a thread of the runtime the other tasks of that thread
/// are taken over by another one first, which costs some microseconds: for what is rare or long.
pub(super) fn beside<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// How far a thread steps back where others want the processor.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// For the thread that calls it alone; Linux has that, elsewhere it does nothing.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

/// The file system can't say what is in memory: then reads are as they come.
static CANNOT_TELL: AtomicBool = AtomicBool::new(false);

/// Fills `into`. What is in memory is read at once; only what is not is waited for beside the
/// runtime, so that one slow disk does not hold up those who need none.
pub(super) fn read_exact_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    if CANNOT_TELL.load(Ordering::Relaxed) {
        return file.read_exact_at(into, offset);
    }
    let at_once = rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(into)],
        offset,
        ReadWriteFlags::NOWAIT,
    );
    match at_once {
        Ok(read) if read == into.len() => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            CANNOT_TELL.store(true, Ordering::Relaxed);
            file.read_exact_at(into, offset)
        }
        _ => beside(|| file.read_exact_at(into, offset)),
    }
}
