//! An index that is written beside the commits: what is applied can be read at once, and another
//! thread brings it to the engine, several batches in one where they wait for each other.
//!
//! May import: the parent's types.
//!
//! The log has all of it already, and the engine's place in the log moves with what it got: a
//! crash loses what was waiting, and the next start replays it.
//!
//! Clients change what they have just changed: a copy is followed by a move, a move by an expunge.
//! So layers are kept for a moment after the engine has them, and such a change reads nothing that
//! would have to wait until the engine has taken the one before.
//!
//! Invariants: a layer leaves when the engine has it, so who looks at the layers first and at the
//! engine then misses nothing; a scan holds the layers of its beginning. What is kept is what the
//! engine has, and nothing is kept without all that came after it. After a failure of the engine
//! nothing more is applied, and everything can still be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{Applied, Batch, Index, IndexError, Write, check};

/// Layers beyond these are put together where that costs little.
const LAYERS: usize = 8;
/// Keys of a batch during which readers wait long enough to be worth another thread.
const LARGE_BATCH: usize = 64;
/// Keys of a batch that clients may soon change again.
const WORTH_KEEPING: usize = if cfg!(test) { 4 } else { 1024 };
/// How long layers are kept that the engine has.
const KEPT: Duration = Duration::from_secs(2);

/// One or more batches, by rising key.
type Layer = Arc<Vec<Write>>;
/// The same, as a scan gives them.
type Seen<'a> = (&'a [u8], Option<&'a [u8]>);

#[derive(Default)]
struct Waiting {
    /// What the engine has, oldest first.
    kept: Vec<Layer>,
    /// Oldest first.
    layers: Vec<Layer>,
    /// Of these, how many the engine is getting.
    leaving: usize,
    /// What was applied here last.
    applied: Option<Applied>,
}

#[derive(Default)]
struct Progress {
    /// Bytes that wait.
    bytes: usize,
    begun: u64,
    done: u64,
    failed: Option<IndexError>,
    closing: bool,
}

struct Inner {
    engine: Arc<dyn Index>,
    max_bytes: usize,
    waiting: RwLock<Waiting>,
    /// Layers that wait or are kept: readers look at no lock while there are none.
    count: AtomicUsize,
    held_up: AtomicBool,
    progress: Mutex<Progress>,
    /// There is work, or the end.
    work: Condvar,
    /// Some of it is done.
    room: Condvar,
}

pub(crate) struct Lagging {
    inner: Arc<Inner>,
    worker: Option<JoinHandle<()>>,
}

impl Lagging {
    /// At most about `max_bytes` wait; whoever applies more waits itself. As much may be
    /// kept for [`KEPT`].
    pub(crate) fn over(engine: Arc<dyn Index>, max_bytes: usize) -> Result<Arc<Self>, IndexError> {
        let inner = Arc::new(Inner {
            engine,
            max_bytes,
            waiting: RwLock::default(),
            count: AtomicUsize::new(0),
            held_up: AtomicBool::new(false),
            progress: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let own = inner.clone();
        let worker = std::thread::Builder::new()
            .name("index".into())
            .spawn(move || own.bring())
            .map_err(|e| IndexError::Engine(e.to_string()))?;
        Ok(Arc::new(Self {
            inner,
            worker: Some(worker),
        }))
    }
}

impl Drop for Lagging {
    fn drop(&mut self) {
        self.inner.progress.lock().closing = true;
        self.inner.work.notify_all();
        if let Some(worker) = self.worker.take() {
            // What waited is in the log where the thread did not come to its end.
            let _ = worker.join();
        }
    }
}

fn size(layer: &Layer) -> usize {
    let one = |(key, value): &Write| key.len() + value.as_ref().map_or(0, Vec::len) + 64;
    layer.iter().map(one).sum()
}

fn find<'a>(layers: &'a [Layer], key: &[u8]) -> Option<&'a Option<Vec<u8>>> {
    layers.iter().rev().find_map(|layer| {
        let at = layer
            .binary_search_by(|(k, _)| k.as_slice().cmp(key))
            .ok()?;
        layer.get(at).map(|(_, value)| value)
    })
}

/// Puts layers together; of a key in several the newest counts.
fn together(layers: &[Layer]) -> Layer {
    if let [only] = layers {
        return only.clone();
    }
    let mut all: Vec<(usize, &Write)> = Vec::new();
    for (age, layer) in layers.iter().rev().enumerate() {
        all.extend(layer.iter().map(|write| (age, write)));
    }
    all.sort_by(|(a, x), (b, y)| x.0.cmp(&y.0).then(a.cmp(b)));
    all.dedup_by(|later, earlier| later.1.0 == earlier.1.0);
    Arc::new(all.into_iter().map(|(_, write)| write.clone()).collect())
}

impl Waiting {
    fn count(&self) -> usize {
        self.kept.len() + self.layers.len()
    }

    /// What `find` finds in the newest layer that has the key.
    fn find(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        find(&self.layers, key).or_else(|| find(&self.kept, key))
    }

    /// The first `count` layers are in the engine now, put together as `layer`. Up to `most`
    /// bytes are kept: none without all that is newer.
    fn brought(&mut self, count: usize, layer: Layer, most: usize) {
        self.layers.drain(..count);
        self.leaving = 0;
        if layer.len() < WORTH_KEEPING && self.kept.is_empty() {
            return;
        }
        self.kept.push(layer);
        let mut room = most;
        let fits = |layer: &Layer| {
            let left = room.checked_sub(size(layer));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let fit = self.kept.iter().rev().take(LAYERS).map(fits);
        let gone = self.kept.len() - fit.take_while(|fits| *fits).count();
        self.kept.drain(..gone);
    }

    fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
        while self.layers.len() - self.leaving > LAYERS {
            let [.., older, newest] = self.layers.as_slice() else {
                return;
            };
            if newest.len() < older.len() / 4 && self.layers.len() < 4 * LAYERS {
                return;
            }
            let last = self.layers.len() - 2;
            let one = together(&self.layers[last..]);
            self.layers.truncate(last);
            self.layers.push(one);
        }
    }
}

impl Inner {
    /// The thread: brings what waits to the engine until the end, or until the engine fails.
    fn bring(&self) {
        let mut let_go = None;
        loop {
            let begun = {
                let mut progress = self.progress.lock();
                while progress.begun == progress.done {
                    if progress.closing {
                        return;
                    }
                    match let_go {
                        None => self.work.wait(&mut progress),
                        Some(at) if self.work.wait_until(&mut progress, at).timed_out() => {
                            let mut waiting = self.waiting.write();
                            waiting.kept = Vec::new();
                            self.count.store(waiting.count(), Ordering::Release);
                            let_go = None;
                        }
                        Some(_) => {}
                    }
                }
                progress.begun
            };
            let (layers, applied) = {
                let mut waiting = self.waiting.write();
                waiting.leaving = waiting.layers.len();
                (waiting.layers.clone(), waiting.applied)
            };
            let layer = together(&layers);
            let bytes = layers.iter().map(size).sum::<usize>();
            self.held_up
                .store(layer.len() > LARGE_BATCH, Ordering::Release);
            let brought = match applied {
                Some(applied) if !layers.is_empty() => self.engine.apply_shared(&layer, applied),
                _ => Ok(()),
            };
            self.held_up.store(false, Ordering::Release);
            let mut progress = self.progress.lock();
            match brought {
                Ok(()) => {
                    let mut waiting = self.waiting.write();
                    waiting.brought(layers.len(), layer, self.max_bytes);
                    self.count.store(waiting.count(), Ordering::Release);
                    progress.bytes = waiting.layers.iter().map(size).sum();
                    progress.done = begun;
                    let_go = Some(Instant::now() + KEPT);
                }
                Err(error) => {
                    tracing::warn!(%error, bytes, "the index could not be written");
                    progress.failed = Some(error);
                }
            }
            self.room.notify_all();
            if progress.failed.is_some() {
                return;
            }
        }
    }
}

impl Index for Lagging {
    fn apply(&self, mut batch: Batch, applied: Applied) -> Result<(), IndexError> {
        check(&batch)?;
        // Of a key that is there twice the last one counts.
        if !batch.is_sorted_by(|a, b| a.0 < b.0) {
            batch.reverse();
            batch.sort_by(|a, b| a.0.cmp(&b.0));
            batch.dedup_by(|later, earlier| later.0 == earlier.0);
        }
        let layer = Arc::new(batch);
        let bytes = size(&layer);
        let inner = &*self.inner;
        let mut progress = inner.progress.lock();
        loop {
            if let Some(error) = &progress.failed {
                return Err(error.again());
            }
            if progress.bytes == 0 || progress.bytes + bytes <= inner.max_bytes {
                break;
            }
            inner.room.wait(&mut progress);
        }
        let mut waiting = inner.waiting.write();
        waiting.push(layer);
        waiting.applied = Some(applied);
        inner.count.store(waiting.count(), Ordering::Release);
        drop(waiting);
        progress.bytes += bytes;
        progress.begun += 1;
        drop(progress);
        inner.work.notify_one();
        Ok(())
    }

    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.engine.load(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let mut found = None;
        match self.recent(key, &mut |value| found = value.map(<[u8]>::to_vec)) {
            true => Ok(found),
            false => self.inner.engine.get(key),
        }
    }

    fn recent(&self, key: &[u8], with: &mut dyn FnMut(Option<&[u8]>)) -> bool {
        let inner = &*self.inner;
        if inner.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let waiting = inner.waiting.read();
        let found = waiting.find(key);
        if let Some(value) = found {
            with(value.as_deref());
        }
        found.is_some()
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let inner = &*self.inner;
        let layers = match inner.count.load(Ordering::Acquire) {
            0 => Vec::new(),
            _ => inner.waiting.read().layers.clone(),
        };
        let start = from.map_or(prefix, |from| from.max(prefix));
        let mut cursors: Vec<&[Write]> = Vec::new();
        for layer in layers.iter().rev() {
            let at = layer.partition_point(|(key, _)| key.as_slice() < start);
            let rest = layer.get(at..).unwrap_or_default();
            if rest.first().is_some_and(|(key, _)| key.starts_with(prefix)) {
                cursors.push(rest);
            }
        }
        if cursors.is_empty() {
            return inner.engine.scan(prefix, from, each);
        }
        let mut merged = Merged { cursors, prefix };
        let mut more = true;
        inner.engine.scan(prefix, from, &mut |key, value| {
            // What waits and comes before this key, or in its place.
            while more && let Some((waiting, new)) = merged.next_up_to(key) {
                more = new.is_none_or(|new| each(waiting, new));
                if waiting == key {
                    return more;
                }
            }
            more = more && each(key, value);
            more
        })?;
        while more && let Some((key, value)) = merged.next() {
            more = value.is_none_or(|value| each(key, value));
        }
        Ok(())
    }

    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        match self.inner.waiting.read().applied {
            None => self.inner.engine.applied(),
            applied => Ok(applied),
        }
    }

    fn checkpoint(&self) -> Result<(), IndexError> {
        let inner = &*self.inner;
        let mut progress = inner.progress.lock();
        let begun = progress.begun;
        while progress.done < begun {
            if let Some(error) = &progress.failed {
                return Err(error.again());
            }
            inner.room.wait(&mut progress);
        }
        drop(progress);
        inner.engine.checkpoint()
    }

    fn size_on_disk(&self) -> u64 {
        self.inner.engine.size_on_disk()
    }

    fn is_held_up(&self) -> bool {
        self.inner.held_up.load(Ordering::Acquire)
    }
}

/// The rest of each layer, newest first.
struct Merged<'a> {
    cursors: Vec<&'a [Write]>,
    prefix: &'a [u8],
}

impl<'a> Merged<'a> {
    fn least(&self) -> Option<&'a Write> {
        let firsts = self.cursors.iter().filter_map(|rest| rest.first());
        // Of equal ones the first is the newest.
        let least = firsts.reduce(|a, b| if b.0 < a.0 { b } else { a })?;
        least.0.starts_with(self.prefix).then_some(least)
    }

    fn take(&mut self, found: &'a Write) -> Seen<'a> {
        for cursor in &mut self.cursors {
            if cursor.first().is_some_and(|first| first.0 == found.0) {
                *cursor = cursor.get(1..).unwrap_or_default();
            }
        }
        (&found.0, found.1.as_deref())
    }

    fn next_up_to(&mut self, key: &[u8]) -> Option<Seen<'a>> {
        let found = self.least().filter(|found| found.0.as_slice() <= key)?;
        Some(self.take(found))
    }

    fn next(&mut self) -> Option<Seen<'a>> {
        let found = self.least()?;
        Some(self.take(found))
    }
}

#[cfg(test)]
mod tests;
