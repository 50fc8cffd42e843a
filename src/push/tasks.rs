//! What the worker waits for: commits, its clock, attempts in tasks of their own.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::batch::Batch;
use crate::store::{Store, StoreError};

/// A commit under way.
pub(super) type Committing = JoinHandle<Result<(), (StoreError, Batch)>>;

/// Brings a batch into the store; gives it back where that fails.
pub(super) async fn commit(
    store: Store,
    edits: Arc<Mutex<()>>,
    batch: Batch,
) -> Result<(), (StoreError, Batch)> {
    let _whole = edits.lock().await;
    let updates = batch.updates(|to| store.device(to.0, to.1));
    let result = match updates {
        Ok(updates) => store.update(updates).await,
        Err(error) => Err(error),
    };
    result.map_err(|error| (error, batch))
}

/// Waits for the commit under way. The slot is only emptied by its result.
pub(super) async fn join(committing: &mut Option<Committing>) -> Result<(), (StoreError, Batch)> {
    match committing {
        Some(handle) => match handle.await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "a commit of the outbox did not end");
                Ok(())
            }
        },
        None => Ok(()),
    }
}

/// Never returns without a deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Ends the task when it is no longer waited for.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;
    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Thousandths from -200 to 200.
pub(super) fn jitter() -> i32 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => i32::from(u16::from_le_bytes(bytes) % 401) - 200,
        Err(_) => 0,
    }
}
