//! The thread beside the committer: checkpoints of the index, files that may go after them, and
//! a word to the committer while something is broken.
//!
//! May import: types.
//!
//! A checkpoint only bounds the replay at the next start; correctness does not need it, except
//! before a file goes that an older state of the index may still name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use super::ballast;
use super::log::BlobPlace;
use super::queue::Message;
use super::shared::Shared;
use crate::types::LogPos;

/// So much of the log is never without a checkpoint, even within the time.
const BYTES: u64 = 16 * 1024 * 1024;

/// What wakes the thread before its time.
#[derive(Default)]
pub(super) struct Pulse {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// Bytes of the log since the last checkpoint.
    written: u64,
}

impl Pulse {
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    pub(super) fn wrote(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.written += bytes;
        if state.written >= BYTES {
            self.changed.notify_all();
        }
    }

    /// True where it is the last time.
    fn wait(&self, every: Duration) -> bool {
        let until = Instant::now() + every;
        let mut state = self.state.lock();
        while !state.stop && state.written < BYTES {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.written = 0;
        state.stop
    }
}

/// Runs until told to stop, which comes with a last checkpoint.
pub(super) fn run(shared: &Arc<Shared>, pulse: &Pulse, queue: &mpsc::WeakSender<Message>) {
    let every = Duration::from_millis(shared.options.config.checkpoint_millis.max(10));
    let mut done = LogPos::default();
    loop {
        let last = pulse.wait(every);
        beat(shared, &mut done);
        ballast::tend(shared);
        let broken = !shared.is_writable() || shared.rebuild_is_wanted() || shared.is_starved();
        if broken && let Some(queue) = queue.upgrade() {
            // A full queue has jobs, which have the same effect.
            let _ = queue.try_send(Message::Tend);
        }
        if last {
            return;
        }
    }
}

/// A checkpoint, where anything came after the one at `done` or files may go.
pub(super) fn beat(shared: &Shared, done: &mut LogPos) {
    let end = shared.ring.end();
    let waiting = !shared.doomed.lock().is_empty() && *shared.files_held.lock() == 0;
    if end == *done && !waiting {
        return;
    }
    // Those that come later wait for the next one.
    let doomed = std::mem::take(&mut *shared.doomed.lock());
    let started = Instant::now();
    let index = shared.index.load_full();
    match index.checkpoint() {
        Ok(()) => {
            *done = end;
            shared.telemetry.store.checkpointed(started.elapsed());
            remove(shared, doomed);
        }
        Err(error) => {
            tracing::error!(%error, "the index could not be checkpointed");
            shared.doomed.lock().extend(doomed);
            // What the failed sync lost, no later one brings back.
            match error.is_resource() {
                true => shared.set_starved(true),
                false => shared.ask_for_rebuild(),
            }
        }
    }
}

/// Files of large bodies that nothing names any more. While somebody copies files they wait.
fn remove(shared: &Shared, doomed: Vec<BlobPlace>) {
    let held = shared.files_held.lock();
    if *held > 0 {
        shared.doomed.lock().extend(doomed);
        return;
    }
    for place in doomed {
        if let Err(error) = shared.blobs.remove(&place) {
            tracing::warn!(%error, "the file of an expunged message could not be removed");
        }
    }
}
