//! Where a message is while it comes in: memory up to a size, then an unlinked file.
//!
//! May import: mail, types.
//!
//! Invariant: whatever its size, a message that comes in holds no more memory than the limit.
//! From when it is parsed until it is committed it is in memory, unless it goes to a file of its
//! own (then it never is, as a whole); all of those together are bounded (`store.queue_bytes`),
//! and few are parsed at a time.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::StoreError;
use super::log::LARGE_BLOB;
use super::prepared::Prepared;
use super::turns::{Turn, Turns, Whose};

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
    /// Where messages end before the last one.
    ends: Vec<u64>,
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
            ends: Vec::new(),
        }
    }

    /// How much came.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.file.as_ref().map_or(0, |(_, len)| *len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What follows is another message, for `finish_all`.
    pub fn next_message(&mut self) {
        self.ends.push(self.len());
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
        self.ends = Vec::new();
    }

    /// The message with `lines` in front, ready for the store. The spool is empty afterwards.
    /// Of those that come in for `whose`, one is parsed at a time.
    pub async fn finish(&mut self, lines: Vec<u8>, whose: Whose) -> Result<Prepared, StoreError> {
        let (memory, file) = self.take()?;
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
        let needed = held((head.len() as u64).saturating_add(len));
        let (room, _place) = self.wait(needed, whose).await?;
        let made = tokio::task::spawn_blocking(move || {
            file.rewind().map_err(broken)?;
            Prepared::from_spool(head, file, len)
        });
        let made = made.await.map_err(|_| StoreError::Closed)??;
        Ok(made.holding(room))
    }

    /// All messages that came, parted by `next_message`. While they are made ready, what the
    /// committer will hold of them is in memory, and one at a time of the large ones.
    pub async fn finish_all(&mut self, whose: Whose) -> Result<Vec<Prepared>, StoreError> {
        let mut ends = std::mem::take(&mut self.ends);
        if ends.is_empty() {
            return Ok(vec![self.finish(Vec::new(), whose).await?]);
        }
        ends.push(self.len());
        let (memory, file) = self.take()?;
        let starts = [0].into_iter().chain(ends.iter().copied());
        let lens: Vec<u64> = starts.zip(&ends).map(|(start, end)| end - start).collect();
        let needed = lens.iter().map(|len| held(*len)).sum();
        let (room, _place) = self.wait(needed, whose).await?;
        let dir = self.dir.clone();
        let made = tokio::task::spawn_blocking(move || -> Result<Vec<Prepared>, StoreError> {
            let mut rest: Box<dyn Read> = match file {
                Some((mut file, _)) => {
                    file.rewind().map_err(broken)?;
                    Box::new(file)
                }
                None => Box::new(io::empty()),
            };
            let mut all = memory.as_slice().chain(&mut rest);
            lens.iter().map(|len| one(&mut all, *len, &dir)).collect()
        });
        let made = made.await.map_err(|_| StoreError::Closed)??;
        let room = Arc::new(room);
        let hold = |message: Prepared| message.holding_with(room.clone());
        Ok(made.into_iter().map(hold).collect())
    }

    #[allow(clippy::type_complexity)]
    fn take(&mut self) -> Result<(Vec<u8>, Option<(File, u64)>), StoreError> {
        let (memory, file) = (std::mem::take(&mut self.memory), self.file.take());
        match self.failed.take() {
            None => Ok((memory, file)),
            Some(error) => Err(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
                _ => broken(error),
            }),
        }
    }

    async fn wait(
        &self,
        needed: u64,
        whose: Whose,
    ) -> Result<(OwnedSemaphorePermit, Turn), StoreError> {
        let needed = u32::try_from(needed).unwrap_or(u32::MAX).min(self.units);
        // First, so that nobody's messages take all the room while they wait for each other.
        let alone = self.turns.alone(whose).await;
        let room = self.room.clone().acquire_many_owned(needed);
        let room = tokio::time::timeout(PATIENCE, room)
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::Closed)?;
        Ok((room, alone.turn().await))
    }
}

fn broken(error: io::Error) -> StoreError {
    StoreError::Write(format!("spool file: {error}"))
}

/// What a message of this size holds in memory until it is committed, in KiB.
fn held(size: u64) -> u64 {
    if size > LARGE_BLOB {
        1
    } else {
        size / 1024 + 1
    }
}

/// The next message of a spool that has several.
fn one(all: &mut impl Read, len: u64, dir: &Path) -> Result<Prepared, StoreError> {
    let mut message = all.take(len);
    if len <= LARGE_BLOB {
        let mut raw = Vec::with_capacity(len as usize);
        message.read_to_end(&mut raw).map_err(broken)?;
        if raw.len() as u64 != len {
            return Err(StoreError::Write("the spool file is too short".into()));
        }
        return Ok(Prepared::from_bytes(raw.into()));
    }
    // Its body goes to a file of its own, which is made of one.
    let mut file = tempfile::tempfile_in(dir).map_err(broken)?;
    io::copy(&mut message, &mut file).map_err(broken)?;
    file.rewind().map_err(broken)?;
    Prepared::from_spool(Vec::new(), file, len)
}
