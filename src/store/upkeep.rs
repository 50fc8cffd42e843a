//! The thread that looks after the store beside the work: state images, compaction.
//!
//! May import: the rest of the store, telemetry, types.
//!
//! One thing at a time, by the clock or when somebody asks. It stops within a second when the
//! store does; nothing that it was at is lost by that.

use std::sync::Arc;
use std::sync::mpsc as channel;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot};

use super::clock::now;
use super::compact::{Compacted, Compaction};
use super::error::StoreError;
use super::handle::attempt;
use super::image::files;
use super::image::take::{self, Taken};
use super::ops::Op;
use super::queue::{Job, Message, Reply, Run};
use super::shared::Shared;
use super::state::Tx;
use crate::types::UnixMillis;

/// Something that the committer does for whoever looks after the store.
pub(super) type Change = Box<dyn FnOnce(&mut Tx) -> Result<(), StoreError> + Send>;

/// Who works beside the committer, and what it may ask for.
pub(super) trait Asks {
    /// Durable and applied when it returns.
    fn commit(&self, weight: usize, change: Change) -> Result<(), StoreError>;
    /// False where the store stops.
    fn go_on(&self) -> bool;
    fn pause(&self, pause: Duration);
    /// Told to whoever waits, if anybody does.
    fn progress(&self, text: &str);
}

/// Where progress is told.
pub type Progress = Box<dyn Fn(&str) + Send>;

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

    fn stopping(&self) -> bool {
        self.state.lock().stop
    }

    /// False where that was cut short by a stop.
    fn wait(&self, pause: Duration) -> bool {
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
pub(super) struct Keeper {
    pub shared: Arc<Shared>,
    pub upkeep: Arc<Upkeep>,
    pub queue: mpsc::WeakSender<Message>,
}

struct Asking<'a> {
    keeper: &'a Keeper,
    progress: &'a dyn Fn(&str),
}

impl Asks for Asking<'_> {
    fn commit(&self, weight: usize, change: Change) -> Result<(), StoreError> {
        let queue = self.keeper.queue.upgrade().ok_or(StoreError::Closed)?;
        let (answer, answered) = channel::sync_channel(1);
        let run: Run = Box::new(move |tx: Result<&mut Tx, StoreError>| {
            let found = tx.and_then(|tx| attempt(tx, change));
            let reply: Reply = Box::new(move |durable: Result<(), StoreError>| {
                let _ = answer.send(found.and(durable));
            });
            reply
        });
        queue
            .blocking_send(Message::Job(Job { weight, run }))
            .map_err(|_| StoreError::Closed)?;
        drop(queue);
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn go_on(&self) -> bool {
        !self.keeper.upkeep.stopping()
    }

    fn pause(&self, pause: Duration) {
        self.keeper.upkeep.wait(pause);
    }

    fn progress(&self, text: &str) {
        (self.progress)(text);
    }
}

/// After an image that failed.
const AGAIN: Duration = Duration::from_secs(600);
/// So that a clock that is set is noticed.
const LOOK: Duration = Duration::from_secs(600);

impl Keeper {
    /// Runs until told to stop.
    pub(super) fn run(self) {
        let mut failed: Option<Instant> = None;
        loop {
            let due = self.due_in(now());
            let pause = match failed {
                Some(at) => AGAIN.saturating_sub(at.elapsed()),
                None => due,
            };
            match self.upkeep.next(Instant::now() + pause.min(LOOK)) {
                Some(Task::Image(progress, answer)) => {
                    let _ = answer.send(self.image(&*progress).map(|taken| taken.told()));
                }
                Some(Task::Compact(progress, answer)) => {
                    let _ = answer.send(self.compact(&*progress, 0));
                }
                None if self.upkeep.stopping() => return,
                None if pause <= LOOK => {
                    let rate = self.shared.options.config.compact_bytes_per_second;
                    failed = match self.compact(&|_| {}, rate) {
                        Ok(_) => None,
                        Err(StoreError::Closed) => return,
                        Err(error) => {
                            tracing::warn!(%error, "the store's upkeep is tried again later");
                            Some(Instant::now())
                        }
                    };
                }
                None => {}
            }
        }
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

    fn image(&self, progress: &dyn Fn(&str)) -> Result<Taken, StoreError> {
        progress("taking a state image");
        let go_on = || !self.upkeep.stopping();
        let taken = take::take(&self.shared, &go_on).map_err(|error| {
            tracing::warn!(%error, "no state image was taken");
            error.told()
        })?;
        taken.ok_or(StoreError::Invalid("there is nothing in the store yet"))
    }

    /// An image, and what may go after it.
    fn compact(&self, progress: &dyn Fn(&str), rate: u64) -> Result<Compacted, StoreError> {
        let asks = Asking {
            keeper: self,
            progress,
        };
        let sealed = match rate {
            // Somebody asked, and wants the room now.
            0 => true,
            // By itself it leaves a segment that is not full alone, unless half of it is dead.
            _ => false,
        };
        if sealed {
            self.seal(&asks)?;
        }
        let taken = self.image(progress)?;
        let compaction = Compaction {
            shared: &self.shared,
            asks: &asks,
            rate: match rate {
                0 => self.shared.options.config.compact_bytes_per_second,
                rate => rate,
            },
        };
        compaction.run(taken.header.at, taken.tally.live())
    }

    /// The active segment ends, and a group stands in the next one.
    fn seal(&self, asks: &dyn Asks) -> Result<(), StoreError> {
        let queue = self.queue.upgrade().ok_or(StoreError::Closed)?;
        queue
            .blocking_send(Message::Seal)
            .map_err(|_| StoreError::Closed)?;
        drop(queue);
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

impl take::TakeError {
    fn told(&self) -> StoreError {
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
