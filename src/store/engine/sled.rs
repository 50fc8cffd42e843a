//! The index in sled 0.34.7: one tree, one batch per commit group.
//!
//! May import: the parent's types. The only file of the program that names sled.
//!
//! What sled does that hurts, and what is done about it: left-over `snap.*.generating` files keep
//! it from opening (they are removed first), and so do damaged `snap.*` (removed when it does not
//! open; never before: without its snapshot it was seen to come up empty); damage can make it panic or hang (caught; opened on a
//! thread of its own with a deadline); `flush` does not sync (we sync its file ourselves);
//! values over 6 KiB may go to files that it never syncs (refused). A sled that failed may still
//! have threads that write to its paths, so a fresh one never gets a path that was used before.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::lagging::Lagging;
use super::{
    APPLIED, Applied, Batch, Engines, Index, IndexError, Write, check, decode_applied,
    encode_applied,
};

const NAME: &str = "index";
const OPEN_SECONDS: u64 = 30;
/// How long an index that this process has just closed may keep its lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// What sled says then.
const LOCKED: &str = "could not acquire lock";
const FLUSH_EVERY_MS: u64 = 500;
/// Damaged ones that are kept for whoever wants to look, while there is room.
const BAD_KEPT: usize = 1;

struct SledIndex {
    db: sled::Db,
    dir: PathBuf,
    /// Our own descriptor, for the sync that sled does not do.
    file: File,
    /// A sync failed: the kernel may have dropped the pages and call the next one a success.
    unsynced: AtomicBool,
}

/// Indexes in sled.
pub(crate) struct Sled;

impl Engines for Sled {
    fn open(&self, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
        open_sled(dir, cache_bytes)
    }

    fn open_fresh(&self, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
        open_fresh_sled(dir, cache_bytes)
    }

    fn retire(&self, dir: &Path) -> Result<(), IndexError> {
        retire_sleds(dir)
    }

    fn discard(&self, dir: &Path) {
        if let Ok(generations) = Generations::list(dir) {
            remove_bad(dir, &generations.bad);
        }
    }
}

/// Opens `dir/index`, or makes it. After a rebuild it has a number: `dir/index-<n>`. Where there
/// are several, a crash has ended a rebuild: the oldest one is that which served.
pub(crate) fn open_sled(dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
    let generations = Generations::list(dir)?;
    let current = generations.current.first().copied();
    let number = current.unwrap_or_else(|| generations.next());
    open_with_room(dir, number, cache_bytes)
}

/// Makes an empty one under a new name. The one that serves stays where it is until
/// [`retire_sleds`]; what an earlier attempt has left goes.
pub(crate) fn open_fresh_sled(dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
    let generations = Generations::list(dir)?;
    let number = generations.next();
    let fresh = open_with_room(dir, number, cache_bytes).inspect_err(|_| {
        remove(&path_of(dir, number));
    })?;
    for number in generations.current.iter().skip(1) {
        remove(&path_of(dir, *number));
    }
    Ok(fresh)
}

/// The newest index takes the place of all others: the oldest one, which served until now, is
/// moved aside to `dir/index.bad-<n>`.
pub(crate) fn retire_sleds(dir: &Path) -> Result<(), IndexError> {
    let mut generations = Generations::list(dir)?;
    let newest = generations.current.pop();
    // From the newest to the oldest: what is left after a crash begins with the one that served.
    while let Some(number) = generations.current.pop() {
        let path = path_of(dir, number);
        if !generations.current.is_empty() {
            remove(&path);
            continue;
        }
        let free = match generations.bad.contains(&number) {
            true => generations
                .next()
                .max(newest.map_or(0, |n| n.saturating_add(1))),
            false => number,
        };
        std::fs::rename(&path, bad_path(dir, free)).map_err(|e| failed(&path, e))?;
        generations.bad.push(free);
    }
    // What was just moved is the newest.
    let surplus = generations.bad.len().saturating_sub(BAD_KEPT);
    remove_bad(dir, &generations.bad[..surplus]);
    Ok(())
}

/// Opens one; where the disk is full, the damaged ones go first.
fn open_with_room(dir: &Path, number: u64, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
    match open_at(path_of(dir, number), cache_bytes) {
        Err(error) if error.is_resource() => {
            let bad = Generations::list(dir)?.bad;
            if bad.is_empty() {
                return Err(error);
            }
            remove_bad(dir, &bad);
            open_at(path_of(dir, number), cache_bytes)
        }
        done => done,
    }
}

fn bad_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{NAME}.bad-{number}"))
}

fn remove_bad(dir: &Path, numbers: &[u64]) {
    numbers.iter().for_each(|n| remove(&bad_path(dir, *n)));
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "an index that is not used could not be removed");
    }
}

/// The numbers of the indexes in a directory, ascending.
#[derive(Default)]
struct Generations {
    current: Vec<u64>,
    bad: Vec<u64>,
}

impl Generations {
    fn list(dir: &Path) -> Result<Self, IndexError> {
        let mut found = Self::default();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(failed(dir, error)),
        };
        for entry in entries {
            let name = entry.map_err(|e| failed(dir, e))?.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(NAME)) else {
                continue;
            };
            if rest.is_empty() {
                found.current.push(0);
            } else if let Some(number) = number(rest.strip_prefix('-')) {
                found.current.push(number);
            } else if let Some(number) = number(rest.strip_prefix(".bad-")) {
                found.bad.push(number);
            }
        }
        found.current.sort_unstable();
        found.bad.sort_unstable();
        Ok(found)
    }

    fn next(&self) -> u64 {
        let used = self.current.iter().chain(&self.bad).max();
        used.map_or(0, |number| number.saturating_add(1))
    }
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    match number {
        0 => dir.join(NAME),
        number => dir.join(format!("{NAME}-{number}")),
    }
}

fn open_at(dir: PathBuf, cache_bytes: u64) -> Result<Arc<dyn Index>, IndexError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|e| failed(&dir, e))?;
    remove_snapshots(&dir, &|name| name.ends_with(b".generating"))?;
    let open = || {
        let config = sled::Config::new()
            .path(&dir)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        within(Duration::from_secs(OPEN_SECONDS), move || open_db(&config))
    };
    let db = match open() {
        Err(error) if !error.is_resource() => {
            // It may be the snapshot that is damaged.
            if remove_snapshots(&dir, &|_| true)? == 0 {
                return Err(error);
            }
            open()?
        }
        opened => opened?,
    };
    let path = dir.join("db");
    let file = File::open(&path).map_err(|e| failed(&path, e))?;
    let index = Arc::new(SledIndex {
        db,
        dir,
        file,
        unsynced: AtomicBool::new(false),
    });
    let waiting = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
    Ok(Lagging::over(index, waiting)?)
}

fn open_db(config: &sled::Config) -> Result<sled::Db, IndexError> {
    let start = Instant::now();
    loop {
        match guarded(|| config.open()) {
            // The caller holds the store's lock, so only an index of this process that is still
            // being dropped can hold sled's.
            Err(IndexError::Engine(text))
                if text.contains(LOCKED) && start.elapsed() < LOCK_WAIT =>
            {
                std::thread::sleep(LOCK_POLL);
            }
            other => return other,
        }
    }
}

/// Runs `open` on a thread that is left alone when it takes too long.
fn within<T: Send + 'static>(
    limit: Duration,
    open: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("index-open".into())
        .spawn(move || {
            // Nobody waits any more where this fails.
            let _ = send.send(open());
        })
        .map_err(|e| IndexError::Engine(e.to_string()))?;
    match receive.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(IndexError::Timeout(limit.as_secs())),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(IndexError::Panicked("while it was opened".into()))
        }
    }
}

/// Gives how many there were.
fn remove_snapshots(dir: &Path, which: &dyn Fn(&[u8]) -> bool) -> Result<usize, IndexError> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let entry = entry.map_err(|e| failed(dir, e))?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && which(name) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Runs a call of sled's; a panic in it is an error.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(source))) if !source.to_string().contains(LOCKED) => {
            Err(IndexError::Io {
                path: NAME.into(),
                source,
            })
        }
        Ok(Err(error)) => Err(IndexError::Engine(error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(IndexError::Panicked(
                text.unwrap_or("no reason given").into(),
            ))
        }
    }
}

fn failed(path: &Path, source: io::Error) -> IndexError {
    IndexError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn writes(batch: &[Write]) -> Result<sled::Batch, IndexError> {
    check(batch)?;
    let mut writes = sled::Batch::default();
    for (key, value) in batch {
        match value {
            Some(value) => writes.insert(key.as_slice(), value.as_slice()),
            None => writes.remove(key.as_slice()),
        }
    }
    Ok(writes)
}

impl Index for SledIndex {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        self.apply_shared(&batch, applied)
    }

    fn apply_shared(&self, batch: &[Write], applied: Applied) -> Result<(), IndexError> {
        let mut writes = writes(batch)?;
        writes.insert(APPLIED, encode_applied(applied));
        guarded(|| self.db.apply_batch(writes))
    }

    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        let writes = writes(&batch)?;
        guarded(|| self.db.apply_batch(writes))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| self.db.get(key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let start = from.map_or(prefix, |from| from.max(prefix));
        let mut range = self.db.range(start..);
        // Only sled's part is guarded: a panic of the caller's is the caller's.
        while let Some((key, value)) = guarded(|| range.next().transpose())? {
            if !key.starts_with(prefix) || !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.get(APPLIED)?
            .as_deref()
            .map(decode_applied)
            .transpose()
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        if self.unsynced.load(Ordering::Acquire) {
            return Err(IndexError::Engine("an earlier sync failed".into()));
        }
        let synced = guarded(|| self.db.flush()).and_then(|_| {
            self.file.sync_data().map_err(|e| failed(&self.dir, e))?;
            let dir = File::open(&self.dir).map_err(|e| failed(&self.dir, e))?;
            dir.sync_all().map_err(|e| failed(&self.dir, e))
        });
        if synced.is_err() {
            self.unsynced.store(true, Ordering::Release);
        }
        synced
    }

    fn size_on_disk(&self) -> u64 {
        guarded(|| self.db.size_on_disk()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_delays_are_errors() {
        let panicked = guarded::<()>(|| panic!("tried to serialize {}", "Uninitialized"));
        assert!(matches!(panicked, Err(IndexError::Panicked(text)) if text.contains("serialize")));
        let late = within(Duration::from_millis(1), || {
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        });
        assert!(matches!(late, Err(IndexError::Timeout(_))));
        let lost = within(Duration::from_secs(30), || -> Result<(), _> {
            panic!("lost")
        });
        assert!(matches!(lost, Err(IndexError::Panicked(_))));
    }
}
