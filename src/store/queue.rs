//! What the committer is asked for.
//!
//! May import: nothing outside the store.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::error::StoreError;
use super::shared::Shared;
use super::state::Tx;

/// Answers whoever asked, once it is known whether the group is durable.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Finds its facts in the group, or fails alone; an error is why it can't even try.
pub(super) type Run = Box<dyn FnOnce(Result<&mut Tx, StoreError>) -> Reply + Send>;

/// One change that is asked for.
pub(super) struct Job {
    /// Bytes that it adds to the frame, roughly.
    pub weight: usize,
    pub run: Run,
}

/// A fresh index that has the log up to a while ago, and where the answer goes.
pub(super) struct Renewed {
    pub fresh: Arc<Shared>,
    pub answer: SyncSender<Result<(), StoreError>>,
}

pub(super) enum Message {
    Job(Job),
    /// Something is broken: look whether it can be mended.
    Tend,
    /// The next group begins a new segment of the log.
    Seal,
    /// An index that was built beside the one that serves, to take its place.
    Renew(Renewed),
    Stop,
}
