//! What the committer is asked for.
//!
//! May import: nothing outside the store.

use super::error::StoreError;
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

pub(super) enum Message {
    Job(Job),
    /// Something is broken: look whether it can be mended.
    Tend,
    /// The next group begins a new segment of the log.
    Seal,
    Stop,
}
