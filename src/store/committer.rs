//! The one thread that changes anything: takes what waits, writes one group, syncs, applies,
//! publishes, answers, wakes. The order is that of docs/architecture.md, "Commit".
//!
//! May import: telemetry, types.
//!
//! What can fail, and what is done about it:
//!
//! | fails | the group | after it |
//! |---|---|---|
//! | a change, by an error or a panic | goes on without it | nothing |
//! | the write or the sync | is answered with an error | the log is read again, with pauses, until that works; changes are refused meanwhile |
//! | the index, or a panic after the write | is durable: its answers wait | the index is built anew from the log, with pauses, until that works; changes are refused meanwhile |
//! | a panic outside of one change and the commit | is not answered | as for the index |
//! | facts that the log has lost can't be written | | they are tried again, with pauses; changes are refused meanwhile |
//! | a check of the index, by a reader | | the index is built anew, and serves as it is until then |

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::ballast;
use super::clock::now;
use super::engine::Closed;
use super::error::StoreError;
use super::log::{CommitLog, LogError};
use super::ops::{Group, Op};
use super::pulse::Pulse;
use super::queue::{Job, Message, Renewed, Reply};
use super::rebuild::{self, Before};
use super::ring::{Committed, changes};
use super::shared::Shared;
use super::state::Tx;
use super::wake::Wake;

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub log: Box<dyn CommitLog>,
    pub queue: mpsc::Receiver<Message>,
    pub next_seq: u64,
    pub room: Room,
    pub stopped: Arc<AtomicBool>,
    pub pulse: Arc<Pulse>,
    pub trouble: Trouble,
}

/// What is broken, and when to try again.
#[derive(Default)]
pub(super) struct Trouble {
    log: bool,
    index: bool,
    /// A group that is durable and not applied yet.
    held: Option<(Committed, Vec<Reply>)>,
    /// Facts that must be in the log before anything else.
    floors: Vec<Op>,
    tried: Option<Instant>,
    pause: Duration,
}

/// Pauses between attempts to mend: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest while changes are refused: mail waits for it.
const LONGEST_REFUSAL: Duration = Duration::from_secs(30);
/// For readers to let go of an index that is to be opened again.
const LETTING_GO: Duration = Duration::from_secs(2);

/// A group ends early when it has touched so many records: one large change must not be
/// followed by others that everybody waits for.
const GROUP_EFFORT: usize = 2048;

impl Trouble {
    pub(super) fn with_floors(floors: Vec<Op>) -> Self {
        Self {
            floors,
            ..Self::default()
        }
    }

    /// False where the last attempt was too short a time ago.
    fn may_try(&mut self) -> bool {
        self.may_try_at(Instant::now())
    }

    fn may_try_at(&mut self, now: Instant) -> bool {
        let longest = match self.refusal() {
            Some(_) => LONGEST_REFUSAL,
            None => LONGEST_PAUSE,
        };
        match self.tried {
            Some(tried) if now - tried < self.pause.min(longest) => return false,
            // It went well for long: what comes now is new.
            Some(tried) if now - tried > 2 * LONGEST_PAUSE => self.pause = FIRST_PAUSE,
            Some(_) => self.pause = (self.pause * 2).clamp(FIRST_PAUSE, longest),
            None => self.pause = FIRST_PAUSE,
        }
        self.tried = Some(now);
        true
    }

    /// Why nothing can be changed now.
    fn refusal(&self) -> Option<StoreError> {
        if self.log {
            let text = "an earlier write failed, and the log could not be read again yet";
            return Some(StoreError::Write(text.into()));
        }
        if self.index {
            let text = "it failed, and is being built anew from the log";
            return Some(StoreError::Index(text.into()));
        }
        let text = "what the log has lost of numbers could not be written down yet";
        (!self.floors.is_empty()).then(|| StoreError::Write(text.into()))
    }
}

/// How a group ended.
enum Outcome {
    Done(Wake),
    Failed(StoreError),
    /// Durable, and not visible yet.
    Held(Committed),
}

impl Committer {
    /// Runs until told to stop. What waits then is still committed.
    pub(super) fn run(mut self) {
        let mut stopping = false;
        while !stopping {
            match self.queue.blocking_recv() {
                Some(Message::Job(job)) => stopping = self.guarded_group(job),
                Some(Message::Tend) => self.tend(),
                Some(Message::Seal) => self.log.seal(),
                Some(Message::Renew(renewed)) => self.renew(&renewed),
                Some(Message::Stop) | None => stopping = true,
            }
        }
        self.stopped.store(true, Ordering::Release);
        self.queue.close();
        while let Ok(message) = self.queue.try_recv() {
            if let Message::Job(job) = message {
                self.guarded_group(job);
            }
        }
        // A held group is in the log: the next start shows it. Those who asked can't be told so.
    }

    /// What panics outside of one change and of the commit is a bug too. Those who wait are not
    /// told what became of their changes; nothing is taken until log and index were read again.
    fn guarded_group(&mut self, first: Job) -> bool {
        let done = catch_unwind(AssertUnwindSafe(|| self.group(first)));
        done.unwrap_or_else(|_| {
            self.shared.telemetry.store.panicked();
            self.recover_log();
            self.trouble.index = true;
            self.tell_state();
            false
        })
    }

    /// One group that begins with `first`; true where a stop was met.
    fn group(&mut self, first: Job) -> bool {
        self.tend();
        if let Some(refusal) = self.trouble.refusal() {
            (first.run)(Err(refusal.clone()))(Err(refusal));
            return false;
        }
        let config = &self.shared.options.config;
        let (most, bytes) = (config.group_messages.max(1), config.group_bytes);
        let room = self.room.check(&self.shared);
        let mut tx = Tx::new(self.shared.clone(), now(), room);
        let mut replies = Vec::with_capacity(8);
        let (mut next, mut weight, mut stop, mut seal) = (Some(first), 0, false, false);
        let mut renewed = None;
        while let Some(job) = next.take() {
            weight += job.weight;
            replies.push((job.run)(Ok(&mut tx)));
            if replies.len() >= most || weight >= bytes || tx.effort >= GROUP_EFFORT {
                break;
            }
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => next = Some(job),
                Ok(Message::Stop) => stop = true,
                Ok(Message::Seal) => seal = true,
                Ok(Message::Renew(fresh)) => renewed = Some(fresh),
                Ok(Message::Tend) | Err(_) => {}
            }
        }
        if seal {
            // Before it is written: whoever asked waits for a group in the new segment.
            self.log.seal();
        }
        let outcome = match (tx.failed.take(), tx.ops.is_empty()) {
            (Some(error), _) => Outcome::Failed(error),
            (None, true) => Outcome::Done(Wake::default()),
            (None, false) => self.guarded_commit(tx, weight),
        };
        let answer = |replies: Vec<Reply>, result: Result<(), StoreError>| {
            for reply in replies {
                reply(result.clone());
            }
        };
        self.tell_state();
        match outcome {
            Outcome::Done(wake) => {
                answer(replies, Ok(()));
                self.shared.ring.tell();
                wake.tell();
            }
            Outcome::Failed(error) => answer(replies, Err(error)),
            Outcome::Held(committed) => {
                self.trouble.held = Some((committed, replies));
                self.trouble.index = true;
                self.tell_state();
                self.tend();
            }
        }
        if let Some(renewed) = renewed {
            self.renew(&renewed);
        }
        stop
    }

    /// A panic is taken for a failure of the index, whatever it came from: after it, only what
    /// the log has counts.
    fn guarded_commit(&mut self, tx: Tx, weight: usize) -> Outcome {
        let mut appended = None;
        let done = catch_unwind(AssertUnwindSafe(|| self.commit(tx, weight, &mut appended)));
        match (done, appended) {
            (Ok(Ok(wake)), _) => Outcome::Done(wake),
            (Ok(Err(_)), Some(committed)) => Outcome::Held(committed),
            (Ok(Err(error)), None) => Outcome::Failed(error),
            (Err(_), Some(committed)) => {
                self.shared.telemetry.store.panicked();
                Outcome::Held(committed)
            }
            (Err(_), None) => {
                self.shared.telemetry.store.panicked();
                self.recover_log();
                Outcome::Failed(StoreError::Write("the change failed in the server".into()))
            }
        }
    }

    /// `appended` is set as soon as the group is durable.
    fn commit(
        &mut self,
        mut tx: Tx,
        weight: usize,
        appended: &mut Option<Committed>,
    ) -> Result<Wake, StoreError> {
        let at = tx.now;
        let group = Group {
            at,
            ops: std::mem::take(&mut tx.ops),
        };
        let ops = group
            .encode()
            .map_err(|error| StoreError::Write(error.to_string()))?;
        let blobs: Vec<_> = tx.blobs.iter().map(|b| &**b).collect();
        let changes = changes(&group.ops);
        let seq = self.next_seq;
        let started = Instant::now();
        let written = match self.log.append(seq, &blobs, &ops) {
            Ok(written) => written,
            Err(error) => {
                let error = self.write_failed(error);
                if self.trouble.log {
                    // Nobody knows whether the next start will find the group whole.
                    tx.placed.drain(..).for_each(super::prepared::Placed::keep);
                }
                return Err(error);
            }
        };
        *appended = Some(Committed {
            end: written.end,
            at,
            changes,
        });
        self.next_seq += 1;
        tx.placed.drain(..).for_each(super::prepared::Placed::keep);
        let synced = Instant::now();
        self.shared.ring.synced(at, synced);
        let bytes = weight + ops.len();
        self.pulse.wrote(bytes as u64);
        let places: HashMap<_, _> = tx.blobs.iter().map(|b| b.id).zip(written.places).collect();
        let shared = self.shared.clone();
        let batch = tx.finish(&places)?;
        let freed = std::mem::take(&mut tx.freed);
        let wake = tx.publish(batch, written.end, seq)?;
        shared.doomed.lock().extend(freed);
        let (sync, apply) = (synced - started, synced.elapsed());
        let metrics = &shared.telemetry.store;
        metrics.committed(group.ops.len(), bytes, sync, apply);
        if let Some(committed) = appended.take() {
            shared.ring.push(committed);
        }
        Ok(wake)
    }

    /// After a failed write: nothing of the group is known to be on disk, so all of it fails,
    /// and the log is read again with fresh descriptors before anything else is written.
    fn write_failed(&mut self, error: LogError) -> StoreError {
        self.shared.telemetry.store.write_failed();
        tracing::error!(%error, "a commit group could not be written");
        self.recover_log();
        if error.is_disk_full() {
            ballast::give_up(&*self.shared.disk, &self.shared.options.dir);
        }
        error.into()
    }

    fn recover_log(&mut self) {
        match self.log.recover() {
            Ok((last, _)) => {
                self.trouble.log = false;
                self.next_seq = last + 1;
            }
            Err(error) => {
                self.trouble.log = true;
                tracing::error!(%error, "the log could not be read again; nothing can be changed until it can");
            }
        }
    }

    /// Mends what is broken, if it is time to try.
    fn tend(&mut self) {
        let starved = self.shared.is_starved();
        let wanted = self.trouble.index || self.shared.rebuild_is_wanted() || starved;
        let owed = !self.trouble.floors.is_empty();
        if !(self.trouble.log || wanted || owed) || !self.trouble.may_try() {
            return;
        }
        if self.trouble.log {
            self.recover_log();
        }
        if wanted && !self.trouble.log {
            self.tell_state();
            match starved && !self.shared.rebuild_is_wanted() {
                true => self.reopen(),
                false => self.rebuild(),
            }
        }
        if !(self.trouble.log || self.trouble.index || self.trouble.floors.is_empty()) {
            self.raise();
        }
        self.tell_state();
    }

    /// What is built or opened takes the place of what failed, and whoever waits is told.
    fn adopted(&mut self, fresh: &Shared, replayed: rebuild::Replayed) {
        let wake = self.shared.adopt(fresh);
        self.shared.set_starved(false);
        self.trouble.index = false;
        self.trouble.floors.extend(replayed.floors);
        if !self.trouble.floors.is_empty() {
            self.raise();
        }
        self.tell_state();
        if let Some((committed, replies)) = self.trouble.held.take() {
            self.shared.ring.push(committed);
            replies.into_iter().for_each(|reply| reply(Ok(())));
        }
        self.shared.ring.tell();
        wake.tell();
    }

    /// An index that had no room to write to is good on disk: it is closed, and opened again
    /// where it lies. A new one would need more room.
    fn reopen(&mut self) {
        let ground = self.shared.ground();
        let dir = ground.options.dir.clone();
        ballast::give_up(&*ground.disk, &dir);
        let closed: Arc<dyn super::engine::Index> = Arc::new(Closed);
        let old = self.shared.index.swap(Arc::new(closed));
        let until = Instant::now() + LETTING_GO;
        while (Arc::strong_count(&old) > 1 || Arc::strong_count(&*old) > 1)
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        // An engine that failed may panic at its end.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let failed = rebuild::ReplayError::index;
            let cache = ground.options.config.cache_bytes;
            let index = ground.engines.open(&dir, cache).map_err(failed)?;
            let at = index.applied().map_err(failed)?.unwrap_or_default();
            if at.store != ground.store_id {
                return Err(rebuild::ReplayError::Index("it is another one".into()));
            }
            rebuild::replay(&ground, index, at.at, at.seq)
        }));
        match opened {
            Ok(Ok((fresh, replayed))) => {
                tracing::warn!("the index was opened again");
                self.adopted(&fresh, replayed);
            }
            Ok(Err(rebuild::ReplayError::Index(reason))) => {
                tracing::error!(reason, "the index is no good any more");
                self.shared.ask_for_rebuild();
            }
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                tracing::error!(%error, "the index could not be opened again yet");
            }
            Err(_) => self.shared.telemetry.store.panicked(),
        }
    }

    fn rebuild(&mut self) {
        let before = Before {
            index: (**self.shared.index.load()).clone(),
            fits: true,
        };
        let rebuilt = catch_unwind(AssertUnwindSafe(|| {
            let ground = self.shared.ground();
            rebuild::rebuild(&ground, "it failed, or a check of it", Some(&before))
        }));
        // `adopt` ends it where it may take its time.
        drop(before);
        match rebuilt {
            Ok(Ok((fresh, replayed))) => {
                tracing::warn!("the index was built anew from the log");
                self.adopted(&fresh, replayed);
            }
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                tracing::error!(%error, "the index could not be built anew; it is tried again");
            }
            Err(_) => self.shared.telemetry.store.panicked(),
        }
    }

    /// Puts an index that was built beside the one that serves in its place. Nothing is lost
    /// where that fails: the one that serves goes on.
    fn renew(&mut self, renewed: &Renewed) {
        let fresh = &renewed.fresh;
        let done = if self.trouble.refusal().is_some() || self.shared.rebuild_is_wanted() {
            Err(StoreError::Busy)
        } else {
            let taken = catch_unwind(AssertUnwindSafe(|| rebuild::take_over(fresh)));
            match taken {
                Ok(done) => done.map_err(StoreError::from),
                Err(_) => {
                    self.shared.telemetry.store.panicked();
                    Err(StoreError::Index("it could not be renewed".into()))
                }
            }
        };
        if done.is_ok() {
            // What the last rebuild could not put right is no better now.
            fresh.damage.mended(self.shared.damage.mended_mailboxes());
            let wake = self.shared.adopt(fresh);
            self.shared.ring.tell();
            wake.tell();
            self.shared.engines.discard(&self.shared.options.dir);
        }
        let _ = renewed.answer.send(done);
    }

    /// Writes down what the log has lost of numbers.
    fn raise(&mut self) {
        let floors = &self.trouble.floors;
        let (log, next) = (&mut *self.log, &mut self.next_seq);
        let before = *next;
        let raised = catch_unwind(AssertUnwindSafe(|| {
            rebuild::raise(&self.shared, log, next, floors)
        }));
        // The log has them, whatever became of them then.
        if matches!(raised, Ok(Ok(()))) || self.next_seq > before {
            self.trouble.floors.clear();
        }
        match raised {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.trouble.index |= self.next_seq > before;
                tracing::error!(%error, "numbers that were given could not be written down yet");
            }
            Err(_) => {
                self.shared.telemetry.store.panicked();
                self.trouble.index |= self.next_seq > before;
                self.recover_log();
            }
        }
    }

    fn tell_state(&self) {
        let writable = self.trouble.refusal().is_none();
        if writable != self.shared.is_writable() {
            self.shared.set_writable(writable);
        }
    }
}

/// Whether there is room on the disk. It is asked before every group, which takes a microsecond:
/// somebody else may fill the disk between any two.
#[derive(Default)]
pub(super) struct Room {
    said: Option<Instant>,
}

/// How often it is said that there is none.
const SAY_AGAIN: Duration = Duration::from_secs(60);

impl Room {
    fn check(&mut self, shared: &Shared) -> bool {
        let dir = &shared.options.dir;
        if ballast::leaves_room(shared, 0) {
            return true;
        }
        let free = shared.disk.free_bytes(dir);
        ballast::look(&*shared.disk, dir);
        if self.said.is_none_or(|at| at.elapsed() > SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!(?free, "the disk is nearly full: mail is refused for now");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_long_for_a_store_that_refuses() {
        let mut trouble = Trouble::default();
        let mut now = Instant::now();
        let mut pause = |trouble: &mut Trouble| {
            let start = now;
            while !trouble.may_try_at(now) {
                now += Duration::from_millis(500);
            }
            now - start
        };
        let pauses: Vec<_> = (0..14).map(|_| pause(&mut trouble)).collect();
        assert_eq!(pauses[1], FIRST_PAUSE);
        assert_eq!(pauses[13], LONGEST_PAUSE);
        trouble.log = true;
        for _ in 0..3 {
            assert!(pause(&mut trouble) <= LONGEST_REFUSAL);
        }
    }
}
