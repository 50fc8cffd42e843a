//! The one thread that changes anything: takes what waits, writes one group, syncs, applies,
//! publishes, answers. The order is that of docs/architecture.md, "Commit".
//!
//! May import: telemetry, types.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;

use super::error::StoreError;
use super::feed::{Committed, changes};
use super::log::{CommitLog, LogError};
use super::ops::Group;
use super::shared::Shared;
use super::state::Tx;
use crate::types::UnixMillis;

/// Answers whoever asked, once it is known whether the group is durable.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One change that is asked for: finds its facts in the group, or fails alone.
pub(super) struct Job {
    /// Bytes that it adds to the frame, roughly.
    pub weight: usize,
    pub run: Box<dyn FnOnce(&mut Tx) -> Reply + Send>,
}

pub(super) enum Message {
    Job(Job),
    Stop,
}

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub log: Box<dyn CommitLog>,
    pub queue: mpsc::Receiver<Message>,
    pub next_seq: u64,
    /// The index could not follow the log: no change is taken until the next start.
    pub broken: bool,
    pub room: Room,
    pub stopped: Arc<AtomicBool>,
}

pub(super) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(since.map_or(0, |d| d.as_millis() as u64))
}

impl Committer {
    /// Runs until told to stop. What waits then is still committed.
    pub(super) fn run(mut self) {
        let mut stopping = false;
        while !stopping {
            match self.queue.blocking_recv() {
                Some(Message::Job(job)) => stopping = self.group(job),
                Some(Message::Stop) | None => stopping = true,
            }
        }
        self.stopped.store(true, Ordering::Release);
        self.queue.close();
        while let Ok(Message::Job(job)) = self.queue.try_recv() {
            self.group(job);
        }
    }

    /// One group that begins with `first`; true where a stop was met.
    fn group(&mut self, first: Job) -> bool {
        let config = &self.shared.options.config;
        let (most, bytes) = (config.group_messages.max(1), config.group_bytes);
        let room = self.room.check(&self.shared);
        let mut tx = Tx::new(self.shared.clone(), now(), room);
        let mut replies = Vec::with_capacity(8);
        let (mut next, mut weight, mut stop) = (Some(first), 0, false);
        while let Some(job) = next.take() {
            weight += job.weight;
            if self.broken {
                let failed = StoreError::Index("the index failed; restart the server".into());
                let refused = (job.run)(&mut Tx::new(self.shared.clone(), now(), false));
                refused(Err(failed));
            } else {
                replies.push((job.run)(&mut tx));
            }
            if replies.len() >= most || weight >= bytes {
                break;
            }
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => next = Some(job),
                Ok(Message::Stop) => stop = true,
                Err(_) => {}
            }
        }
        let outcome = if tx.ops.is_empty() {
            Ok(())
        } else {
            self.commit(tx, weight)
        };
        for reply in replies {
            reply(outcome.clone());
        }
        stop
    }

    fn commit(&mut self, mut tx: Tx, weight: usize) -> Result<(), StoreError> {
        let at = tx.now;
        let group = Group {
            at,
            ops: std::mem::take(&mut tx.ops),
        };
        let ops = group
            .encode()
            .map_err(|error| StoreError::Write(error.to_string()))?;
        let blobs: Vec<_> = tx.blobs.iter().map(|b| &**b).collect();
        let started = Instant::now();
        let appended = match self.log.append(self.next_seq, &blobs, &ops) {
            Ok(appended) => appended,
            Err(error) => return Err(self.recover(error)),
        };
        let synced = Instant::now();
        self.shared.ring.synced(at, synced);
        self.next_seq += 1;
        self.room.written += (weight + ops.len()) as u64;
        let places: HashMap<_, _> = tx.blobs.iter().map(|b| b.id).zip(appended.places).collect();
        let shared = self.shared.clone();
        let published = tx
            .finish(&places)
            .and_then(|batch| tx.publish(batch, appended.end, self.next_seq - 1));
        if let Err(error) = published {
            // The change is durable but not visible: it will be after the next start's replay.
            self.broken = true;
            shared.ask_for_rebuild();
            tracing::error!(%error, "the index could not follow the log; restart the server");
            return Err(error);
        }
        shared.telemetry.store.committed(
            group.ops.len(),
            weight + ops.len(),
            synced - started,
            synced.elapsed(),
        );
        shared.ring.push(Committed {
            end: appended.end,
            at,
            changes: changes(&group.ops),
        });
        Ok(())
    }

    /// After a failed write: nothing of the group is known to be on disk, so all of it fails,
    /// and the log is read again with fresh descriptors before anything else is written.
    fn recover(&mut self, error: LogError) -> StoreError {
        self.shared.telemetry.store.write_failed();
        tracing::error!(%error, "a commit group could not be written");
        if let Err(error) = self.log.recover() {
            self.broken = true;
            tracing::error!(%error, "the log could not be recovered; restart the server");
        }
        if error.is_disk_full() {
            StoreError::DiskFull
        } else {
            StoreError::Write(error.to_string())
        }
    }
}

/// Whether there is room on the disk, asked at most once a second and every 16 MiB.
#[derive(Default)]
pub(super) struct Room {
    asked: Option<Instant>,
    written: u64,
    free: bool,
}

impl Room {
    fn check(&mut self, shared: &Shared) -> bool {
        let fresh = self.asked.is_some_and(|at| at.elapsed().as_millis() < 1000);
        if fresh && self.written < 16 * 1024 * 1024 {
            return self.free;
        }
        let free = free_bytes(&shared.options.dir);
        self.asked = Some(Instant::now());
        self.written = 0;
        self.free = free.is_none_or(|free| free >= shared.options.config.reserve_bytes);
        if !self.free {
            tracing::warn!(?free, "the disk is nearly full: mail is refused for now");
        }
        self.free
    }
}

/// Bytes free for us on the file system of `dir`.
pub(super) fn free_bytes(dir: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
