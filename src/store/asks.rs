//! What those who work beside the committer ask of it and of the store's end.
//!
//! May import: the rest of the store.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc as channel;
use std::time::Duration;

use tokio::sync::mpsc;

use super::error::StoreError;
use super::handle::attempt;
use super::queue::{Job, Message, Reply, Run};
use super::state::Tx;
use super::upkeep::Upkeep;

/// Something that the committer does for whoever looks after the store.
pub(super) type Change = Box<dyn FnOnce(&mut Tx) -> Result<(), StoreError> + Send>;

/// Where progress is told.
pub type Progress = Box<dyn Fn(&str) + Send>;

/// Who works beside the committer, and what it may ask for.
pub(super) trait Asks {
    /// Durable and applied when it returns.
    fn commit(&self, weight: usize, change: Change) -> Result<(), StoreError>;
    /// False where the store stops.
    fn go_on(&self) -> bool;
    /// Ends early when the store stops.
    fn pause(&self, pause: Duration);
    /// A pause that is due some time soon, together with others.
    fn owe(&self, pause: Duration);
    /// Told to whoever waits, if anybody does.
    fn progress(&self, text: &str);
}

/// Shorter pauses are put together.
const PAUSE: Duration = Duration::from_millis(50);

/// The store's own.
pub(super) struct Asking {
    upkeep: Arc<Upkeep>,
    queue: mpsc::WeakSender<Message>,
    progress: Progress,
    owed: Cell<Duration>,
}

impl Asking {
    pub(super) fn new(
        upkeep: Arc<Upkeep>,
        queue: mpsc::WeakSender<Message>,
        progress: Progress,
    ) -> Self {
        Self {
            upkeep,
            queue,
            progress,
            owed: Cell::default(),
        }
    }

    /// To the committer.
    pub(super) fn send(&self, message: Message) -> Result<(), StoreError> {
        let queue = self.queue.upgrade().ok_or(StoreError::Closed)?;
        let sent = queue.blocking_send(message);
        sent.map_err(|_| StoreError::Closed)
    }
}

impl Asks for Asking {
    fn commit(&self, weight: usize, change: Change) -> Result<(), StoreError> {
        let (answer, answered) = channel::sync_channel(1);
        let run: Run = Box::new(move |tx: Result<&mut Tx, StoreError>| {
            let found = tx.and_then(|tx| attempt(tx, change));
            let reply: Reply = Box::new(move |durable: Result<(), StoreError>| {
                let _ = answer.send(found.and(durable));
            });
            reply
        });
        self.send(Message::Job(Job { weight, run }))?;
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn go_on(&self) -> bool {
        !self.upkeep.is_stopping()
    }

    fn pause(&self, pause: Duration) {
        self.upkeep.wait(pause);
    }

    fn owe(&self, pause: Duration) {
        let owed = self.owed.get() + pause;
        if owed < PAUSE {
            self.owed.set(owed);
            return;
        }
        self.owed.set(Duration::ZERO);
        self.pause(owed);
    }

    fn progress(&self, text: &str) {
        (self.progress)(text);
    }
}
