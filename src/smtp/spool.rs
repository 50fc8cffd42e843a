//! Where a message is while it comes in: memory up to a size, then an unlinked file.
//!
//! May import: types, store.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::store::{Prepared, StoreError};

/// Messages up to this are parsed and compressed where they are; larger ones on a thread of
/// their own.
const INLINE: usize = 64 * 1024;

pub(super) struct Spool {
    dir: PathBuf,
    limit: usize,
    memory: Vec<u8>,
    file: Option<(File, u64)>,
    failed: Option<std::io::Error>,
}

impl Spool {
    pub(super) fn new(dir: PathBuf, limit: usize) -> Self {
        Self {
            dir,
            limit,
            memory: Vec::new(),
            file: None,
            failed: None,
        }
    }

    /// Keeps bytes. A failure is remembered and told by `finish`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
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

    fn push_file(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            let mut file = tempfile::tempfile_in(&self.dir)?;
            file.write_all(&self.memory)?;
            self.file = Some((file, self.memory.len() as u64));
        }
        if let Some((file, len)) = &mut self.file {
            file.write_all(bytes)?;
            *len += bytes.len() as u64;
        }
        Ok(())
    }

    /// The first bytes: all of it, or as much as is in memory.
    pub(super) fn head(&self) -> &[u8] {
        &self.memory
    }

    pub(super) fn clear(&mut self) {
        self.memory = Vec::new();
        self.file = None;
        self.failed = None;
    }

    /// The message with `lines` in front, ready for the store.
    pub(super) async fn finish(&mut self, lines: Vec<u8>) -> Result<Prepared, StoreError> {
        let failed = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => StoreError::DiskFull,
            _ => StoreError::Write(format!("spool file: {error}")),
        };
        let memory = std::mem::take(&mut self.memory);
        let file = self.file.take();
        if let Some(error) = self.failed.take() {
            return Err(failed(&error));
        }
        let Some((file, len)) = file else {
            let mut raw = lines;
            raw.extend_from_slice(&memory);
            if raw.len() <= INLINE {
                return Ok(Prepared::from_bytes(raw.into()));
            }
            let made = tokio::task::spawn_blocking(move || Prepared::from_bytes(raw.into()));
            return made.await.map_err(|_| StoreError::Closed);
        };
        let dir = self.dir.clone();
        let made = tokio::task::spawn_blocking(move || {
            let (mut from, mut whole) = (file, tempfile::tempfile_in(&dir)?);
            std::io::Seek::rewind(&mut from)?;
            whole.write_all(&lines)?;
            std::io::copy(&mut from, &mut whole)?;
            Ok::<_, std::io::Error>((whole, lines.len() as u64 + len))
        });
        let (whole, len) = made
            .await
            .map_err(|_| StoreError::Closed)?
            .map_err(|error| failed(&error))?;
        let made = tokio::task::spawn_blocking(move || Prepared::from_spool(whole, len));
        made.await.map_err(|_| StoreError::Closed)?
    }
}
