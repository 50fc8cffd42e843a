//! Where a message is while it comes in: memory up to a size, then an unlinked file.
//!
//! May import: mail, types.
//!
//! Invariant: whatever its size, a message that comes in holds no more memory than the limit.
//! From when it is parsed until it is committed it is in memory, unless it goes to a file of its
//! own; all of those together are bounded (`store.queue_bytes`), and few are parsed at a time.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::StoreError;
use super::log::LARGE_BLOB;
use super::prepared::Prepared;
use super::turns::{Turns, Whose};

/// Messages up to this are parsed and compressed where they are; larger ones on a thread of
/// their own.
const INLINE: usize = 64 * 1024;

/// A message that comes in, piece by piece.
pub struct Spool {
    dir: PathBuf,
    limit: usize,
    memory: Vec<u8>,
    file: Option<(File, u64)>,
    failed: Option<io::Error>,
    /// What all messages that were spooled may hold in memory, in KiB.
    room: Arc<Semaphore>,
    units: u32,
    /// For those that are parsed.
    turns: Arc<Turns>,
}

/// How long a message may wait for room in memory.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the store whose data lies in `data` has its spool files.
pub(super) fn directory(data: &Path) -> PathBuf {
    data.join("spool")
}

impl Spool {
    /// Keeps up to `limit` bytes in memory, and the rest in a file without a name in `dir`.
    pub(super) fn new(
        dir: PathBuf,
        limit: usize,
        (room, units): (Arc<Semaphore>, u32),
        turns: Arc<Turns>,
    ) -> Self {
        Self {
            room,
            units,
            turns,
            dir,
            limit,
            memory: Vec::new(),
            file: None,
            failed: None,
        }
    }

    /// Keeps bytes. A failure is remembered and told by `finish`.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= self.limit {
            self.memory.extend_from_slice(bytes);
            return;
        }
        if let Err(error) = self.push_file(bytes) {
            self.failed = Some(error);
        }
    }

    fn push_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, len) = match &mut self.file {
            Some(open) => open,
            // What is in memory stays there.
            None => self.file.insert((tempfile::tempfile_in(&self.dir)?, 0)),
        };
        file.write_all(bytes)?;
        *len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets the message, and is ready for the next one.
    pub fn clear(&mut self) {
        self.memory = Vec::new();
        self.file = None;
        self.failed = None;
    }

    /// The message with `lines` in front, ready for the store. The spool is empty afterwards.
    /// Of those that come in for `whose`, one is parsed at a time.
    pub async fn finish(&mut self, lines: Vec<u8>, whose: Whose) -> Result<Prepared, StoreError> {
        let (memory, file) = (std::mem::take(&mut self.memory), self.file.take());
        if let Some(error) = self.failed.take() {
            return Err(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
                _ => StoreError::Write(format!("spool file: {error}")),
            });
        }
        let mut head = lines;
        head.extend_from_slice(&memory);
        drop(memory);
        let Some((mut file, len)) = file else {
            if head.len() <= INLINE {
                return Ok(Prepared::from_bytes(head.into()));
            }
            let made = tokio::task::spawn_blocking(move || Prepared::from_bytes(head.into()));
            return made.await.map_err(|_| StoreError::Closed);
        };
        let whole = (head.len() as u64).saturating_add(len);
        let needed = if whole > LARGE_BLOB {
            1
        } else {
            whole / 1024 + 1
        };
        let needed = u32::try_from(needed).unwrap_or(u32::MAX).min(self.units);
        // First, so that nobody's messages take all the room while they wait for each other.
        let alone = self.turns.alone(whose).await;
        let room = self.room.clone().acquire_many_owned(needed);
        let room = tokio::time::timeout(PATIENCE, room)
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::Closed)?;
        let _place = alone.turn().await;
        let made = tokio::task::spawn_blocking(move || {
            file.rewind()
                .map_err(|error| StoreError::Write(format!("spool file: {error}")))?;
            Prepared::from_spool(head, file, len)
        });
        let made = made.await.map_err(|_| StoreError::Closed)??;
        Ok(made.holding(room))
    }
}
