//! The thread that looks after the store beside the work: state images, compaction, and checks.
//!
//! May import: the rest of the store, telemetry, types.
//!
//! One thing at a time, by the clock or when somebody asks; what reads all bodies has a thread of
//! its own. All stop within a second when the store does; nothing that they were at is lost by
//! that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot};

use super::asks::{Asking, Asks, Progress};
use super::audit::{Audit, CheckReport};
use super::clock::now;
use super::compact::{Compacted, Compaction};
use super::error::StoreError;
use super::image::capture::Ended;
use super::image::files;
use super::image::take::{self, Taken};
use super::ops::Op;
use super::queue::{Message, Renewed};
use super::rebuild;
use super::shared::Shared;
use crate::types::UnixMillis;

/// What somebody asks for, and where the answer goes.
enum Task {
    Image(Progress, oneshot::Sender<Result<ImageTaken, StoreError>>),
    Compact(Progress, oneshot::Sender<Result<Compacted, StoreError>>),
}

/// A state image that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageTaken {
    /// Number of the group whose state it holds.
    pub group: u64,
    pub records: u64,
    pub messages: u64,
    pub mailboxes: u64,
    pub bytes: u64,
    pub millis: u64,
}

#[derive(Default)]
struct State {
    stop: bool,
    tasks: Vec<Task>,
}

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Upkeep {
    state: Mutex<State>,
    changed: Condvar,
    /// A check that somebody asked for is under way.
    checking: AtomicBool,
}

/// Tasks that may wait.
const WAITING: usize = 16;

impl Upkeep {
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    fn ask(&self, task: Task) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.stop {
            return Err(StoreError::Closed);
        }
        if state.tasks.len() >= WAITING {
            return Err(StoreError::Busy);
        }
        state.tasks.insert(0, task);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes an image of what is applied now. Gives it when it is durable.
    pub(super) async fn image(&self, progress: Progress) -> Result<ImageTaken, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Task::Image(progress, answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes an image and compacts what is worth it.
    pub(super) async fn compact(&self, progress: Progress) -> Result<Compacted, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Task::Compact(progress, answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().stop
    }

    /// False where that was cut short by a stop.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.stop {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }

    /// The next task; None: it is time, or the end.
    fn next(&self, until: Instant) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(task) = state.tasks.pop() {
                return Some(task);
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }
}

/// The thread's own.
#[derive(Clone)]
pub(super) struct Keeper {
    pub shared: Arc<Shared>,
    pub upkeep: Arc<Upkeep>,
    pub queue: mpsc::WeakSender<Message>,
}

/// After an image that failed.
const AGAIN: Duration = Duration::from_secs(600);
/// How long an image waits for a check that reads the index.
const PATIENCE: Duration = Duration::from_secs(600);
/// So that a clock that is set is noticed.
const LOOK: Duration = Duration::from_secs(600);

/// The one check that is under way.
struct Only(Arc<Upkeep>);

impl Drop for Only {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::Release);
    }
}

/// An index that is larger than this, and than twice what is in it, is built anew.
const SPACIOUS: u64 = 1024 * 1024;

/// How long after a start the index is checked whole.
const VERIFY: Duration = Duration::from_secs(60);

impl Keeper {
    /// Runs until told to stop.
    pub(super) fn run(self) {
        let mut failed: Option<Instant> = None;
        let mut verify = Some(Instant::now() + VERIFY);
        let mut scrub: Option<JoinHandle<()>> = None;
        while !self.upkeep.is_stopping() {
            let due = self.due_in(now());
            let pause = match failed {
                Some(at) => AGAIN.saturating_sub(at.elapsed()),
                None => due,
            };
            let until = Instant::now() + pause.min(LOOK);
            match self.upkeep.next(verify.map_or(until, |at| at.min(until))) {
                Some(Task::Image(progress, answer)) => {
                    progress("taking a state image");
                    let _ = answer.send(self.image().map(|taken| taken.told()));
                }
                Some(Task::Compact(progress, answer)) => {
                    let asks = self.asks(progress);
                    let done = self.seal(&asks).and_then(|()| self.compact(&asks, true));
                    let _ = answer.send(done);
                }
                None if self.upkeep.is_stopping() => {}
                None if verify.is_some_and(|at| at <= Instant::now()) => {
                    verify = None;
                    self.told(self.audit(&self.asks(quiet()), 0).verify());
                }
                None if pause <= LOOK => {
                    let done = match self.compact(&self.asks(quiet()), false) {
                        // The next night has time for it.
                        Err(StoreError::Invalid(_)) if self.shared.is_held() => Ok(()),
                        done => done.map(drop),
                    };
                    failed = done.is_err().then(Instant::now);
                    self.told(done);
                    if scrub.as_ref().is_none_or(JoinHandle::is_finished) {
                        scrub = self.scrub();
                    }
                }
                None => {}
            }
        }
        if let Some(scrub) = scrub {
            let _ = scrub.join();
        }
    }

    fn told(&self, done: Result<(), StoreError>) {
        match done {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "the store's upkeep is tried again later"),
        }
    }

    fn asks(&self, progress: Progress) -> Asking {
        Asking::new(self.upkeep.clone(), self.queue.clone(), progress)
    }

    fn audit<'a>(&'a self, asks: &'a Asking, rate: u64) -> Audit<'a> {
        Audit {
            shared: &self.shared,
            asks,
            rate,
        }
    }

    /// Checks the store on a thread of its own, one at a time.
    pub(super) fn check(
        self,
        deep: bool,
        progress: Progress,
        answer: oneshot::Sender<Result<CheckReport, StoreError>>,
    ) -> Result<JoinHandle<()>, StoreError> {
        if self.upkeep.checking.swap(true, Ordering::AcqRel) {
            return Err(StoreError::Busy);
        }
        let only = Only(self.upkeep.clone());
        let spawned = std::thread::Builder::new()
            .name("check".into())
            .spawn(move || {
                let report = self.audit(&self.asks(progress), 0).run(deep);
                drop(only);
                let _ = answer.send(report);
            });
        spawned.map_err(|error| StoreError::Write(format!("no thread for the check: {error}")))
    }

    /// Reads all bodies, with pauses. Where it begins differs from time to time, so that restarts
    /// do not keep it from any.
    fn scrub(&self) -> Option<JoinHandle<()>> {
        let rate = self.shared.options.config.scrub_bytes_per_second;
        if rate == 0 {
            return None;
        }
        let keeper = self.clone();
        let spawned = std::thread::Builder::new()
            .name("scrub".into())
            .spawn(move || {
                let asks = keeper.asks(quiet());
                let done = keeper.audit(&asks, rate).scrub(now());
                keeper.told(done);
            });
        spawned
            .inspect_err(|error| tracing::warn!(%error, "bodies are not checked tonight"))
            .ok()
    }

    /// Until the next image by the clock. A night that was missed is made up for, a while after
    /// the start.
    fn due_in(&self, now: UnixMillis) -> Duration {
        let newest = files::newest_header(
            &*self.shared.disk,
            &self.shared.options.dir,
            Some(self.shared.store_id),
        );
        let made = match newest {
            Ok(Some(header)) => header.made,
            // A store that is new has until its first night.
            Ok(None) => self.shared.opened,
            Err(_) => now,
        };
        let zone = jiff::tz::TimeZone::system();
        let at = self.shared.options.config.upkeep_at;
        due_in(made, self.shared.opened, now, at, &zone)
    }

    fn image(&self) -> Result<Taken, StoreError> {
        let go_on = || !self.upkeep.is_stopping();
        let until = Instant::now() + PATIENCE;
        let taken = loop {
            match take::take(&self.shared, &go_on) {
                // A check reads the index.
                Err(take::TakeError::Ended(Ended::Busy)) if Instant::now() < until => {
                    if !self.upkeep.wait(Duration::from_millis(100)) {
                        return Err(StoreError::Closed);
                    }
                }
                taken => break taken,
            }
        };
        let taken = taken.map_err(|error| {
            tracing::warn!(%error, "no state image was taken");
            error.told()
        })?;
        taken.ok_or(StoreError::Invalid("there is nothing in the store yet"))
    }

    /// An image, and what may go after it.
    fn compact(&self, asks: &Asking, asked: bool) -> Result<Compacted, StoreError> {
        asks.progress("taking a state image");
        let taken = self.image()?;
        let compaction = Compaction {
            shared: &self.shared,
            asks,
            rate: self.shared.options.config.compact_bytes_per_second,
        };
        let mut done = compaction.run(taken.header.at, taken.tally.live())?;
        if asked || done.segments > 0 {
            // The log after older ones is not whole any more, and they name what is gone.
            take::remove_before(&self.shared, taken.header.seq);
        }
        done.index_before_bytes = self.shared.index.load().size_on_disk();
        // What was removed may still be read in the room that sled keeps: whoever asks wants it
        // gone.
        if asked || done.index_before_bytes > SPACIOUS + 2 * taken.tally.bytes {
            asks.progress("building a smaller index");
            match self.renew(asks) {
                Ok(()) => {}
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => tracing::warn!(%error, "the index stays as large as it is"),
            }
        }
        done.index_after_bytes = self.shared.index.load().size_on_disk();
        Ok(done)
    }

    /// Builds the index anew beside the one that serves, and puts it in its place.
    fn renew(&self, asks: &Asking) -> Result<(), StoreError> {
        let ground = self.shared.ground();
        let fresh = rebuild::beside(&ground, &|| asks.go_on())?;
        let (answer, answered) = channel::sync_channel(1);
        asks.send(Message::Renew(Renewed { fresh, answer }))?;
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// The active segment ends, and a group stands in the next one.
    fn seal(&self, asks: &Asking) -> Result<(), StoreError> {
        asks.send(Message::Seal)?;
        asks.commit(
            0,
            Box::new(|tx| {
                let now = tx.now.0.to_be_bytes().to_vec();
                tx.fact(Op::SettingPut(SEALED.into(), now))
            }),
        )
    }
}

/// How long after a start an image that is overdue waits.
const AFTER_START: u64 = 15 * 60 * 1000;

/// Until it is `at` o'clock; at once where it was so since the last one was made.
fn due_in(
    made: UnixMillis,
    opened: UnixMillis,
    now: UnixMillis,
    at: jiff::civil::Time,
    zone: &jiff::tz::TimeZone,
) -> Duration {
    let zoned = |millis: UnixMillis| {
        let millis = i64::try_from(millis.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis).ok()?;
        Some(time.to_zoned_datetime(zone.clone()))
    };
    // The first such time after it was made.
    let next = zoned(made.min(now)).and_then(|made| {
        let day = match made.time() < at {
            true => made.date(),
            false => made.date().tomorrow().ok()?,
        };
        let next = day.to_datetime(at).to_zoned_datetime(zone.clone()).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok()
    });
    let next = next.unwrap_or(made.0 + 86_400_000);
    let next = next.max(opened.0.min(now.0) + AFTER_START);
    Duration::from_millis(next.saturating_sub(now.0))
}

/// The setting that stands in a segment so that it is not empty: when the one before it ended.
const SEALED: &str = "store.sealed";

impl Taken {
    fn told(&self) -> ImageTaken {
        ImageTaken {
            group: self.header.seq,
            records: self.tally.records,
            messages: self.tally.messages,
            mailboxes: self.tally.mailboxes(),
            bytes: self.bytes,
            millis: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn quiet() -> Progress {
    Box::new(|_| {})
}

impl take::TakeError {
    pub(super) fn told(&self) -> StoreError {
        match self {
            Self::Stopped => StoreError::Closed,
            Self::Image(files::ImageError::Io { source, .. }) if is_full(source) => {
                StoreError::DiskFull
            }
            other => StoreError::Write(format!("no state image: {other}")),
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_night_once() {
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let at = jiff::civil::time(3, 30, 0, 0);
        let millis = |text: &str| {
            let time: jiff::Timestamp = text.parse().unwrap();
            UnixMillis(time.as_millisecond() as u64)
        };
        let due = |made, now| {
            let opened = millis("2026-01-01T00:00:00Z");
            due_in(millis(made), opened, millis(now), at, &zone).as_secs()
        };
        let table = [
            // 3:30 is 2:30 UTC in winter.
            (
                "2026-01-05T12:00:00Z",
                "2026-01-05T12:00:00Z",
                14 * 3600 + 1800,
            ),
            ("2026-01-05T02:31:00Z", "2026-01-06T02:29:00Z", 60),
            ("2026-01-05T02:31:00Z", "2026-01-06T02:31:00Z", 0),
            ("2026-01-05T02:31:00Z", "2026-02-06T02:31:00Z", 0),
            // There is no 2:30 to 3:00 on that night; 3:30 is 1:30 UTC then.
            ("2026-03-28T12:00:00Z", "2026-03-29T01:29:00Z", 60),
            // A clock that was set back.
            ("2026-07-05T12:00:00Z", "2026-07-04T01:29:00Z", 60),
        ];
        for (made, now, want) in table {
            assert_eq!(due(made, now), want, "{made} {now}");
        }
        // Not right after the start.
        let now = millis("2026-02-06T02:31:00Z");
        let overdue = due_in(millis("2026-01-05T02:31:00Z"), now, now, at, &zone);
        assert_eq!(overdue, Duration::from_millis(AFTER_START));
    }
}
