//! Changes in commit order, for workers with a durable cursor.
//!
//! A feed reads a bounded ring in memory, and the log itself where it lags or after a restart:
//! no queue without bound, and no change lost.
//!
//! May import: types.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::StoreError;
use super::ops::Group;
use super::ring::{Committed, changes};
use super::shared::Shared;
use crate::types::LogPos;

/// A reader of changes.
pub struct Feed {
    shared: Arc<Shared>,
    at: LogPos,
    told: watch::Receiver<LogPos>,
    /// Read from the log and not given out yet; bounded by [`Feed::BATCH`] and,
    /// but for the last group, [`Feed::CHANGES`].
    pub(super) ready: VecDeque<Committed>,
}

impl Feed {
    const BATCH: usize = 256;
    /// Of the changes in them, which are many where messages were moved.
    pub(super) const CHANGES: usize = 4096;

    pub(super) fn new(shared: Arc<Shared>, from: Option<LogPos>) -> Self {
        Self {
            told: shared.ring.subscribe(),
            at: from.unwrap_or_default(),
            shared,
            ready: VecDeque::new(),
        }
    }

    /// The next group that has any change; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<Committed, StoreError> {
        loop {
            if let Some(group) = self.ready.pop_front() {
                self.at = group.end;
                return Ok(group);
            }
            let seen = *self.told.borrow_and_update();
            match self.shared.ring.after(self.at) {
                Some((Some(group), _)) => {
                    self.at = group.end;
                    return Ok(group);
                }
                Some((None, looked)) => self.at = looked,
                None => {
                    let (shared, from) = (self.shared.clone(), self.at);
                    let read = tokio::task::spawn_blocking(move || catch_up(&shared, from));
                    let (ready, looked) = read.await.map_err(|_| StoreError::Closed)??;
                    if ready.is_empty() {
                        self.at = looked.max(self.at);
                        if looked == from {
                            // Nothing readable between here and the ring: damage was skipped.
                            self.at = seen;
                        }
                    }
                    self.ready = ready;
                    continue;
                }
            }
            if self.at >= *self.told.borrow() {
                self.told.changed().await.map_err(|_| StoreError::Closed)?;
            }
        }
    }
}

fn catch_up(shared: &Shared, from: LogPos) -> Result<(VecDeque<Committed>, LogPos), StoreError> {
    let mut ready = VecDeque::new();
    let mut count = 0;
    let mut looked = from;
    let mut failed = None;
    let read = shared.reader.read_from(from, None, &mut |frame| {
        looked = frame.end;
        match Group::decode(&frame.ops) {
            Ok(group) => {
                let changes = changes(&group.ops);
                if !changes.is_empty() {
                    count += changes.len();
                    ready.push_back(Committed {
                        end: frame.end,
                        at: group.at,
                        changes,
                    });
                }
            }
            Err(error) => failed = Some(StoreError::Index(error.to_string())),
        }
        failed.is_none() && ready.len() < Feed::BATCH && count < Feed::CHANGES
    });
    read.map_err(|error| StoreError::Index(error.to_string()))?;
    failed.map_or(Ok((ready, looked)), Err)
}
