//! APPEND (RFC 9051, 6.3.12; RFC 4315; RFC 7889).

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::command::Append;
use crate::store::{Prepared, StoreError};
use crate::telemetry::ImapResult;
use crate::types::UnixMillis;

/// Messages up to this are prepared where they are.
const INLINE: usize = 64 * 1024;

/// A message that comes in: memory up to a size, then an unlinked file.
#[derive(Default)]
pub struct Incoming {
    memory: Vec<u8>,
    file: Option<(File, u64)>,
    failed: Option<StoreError>,
}

impl Incoming {
    pub fn push(&mut self, bytes: &[u8], limit: usize, dir: &PathBuf) {
        if self.failed.is_some() {
            return;
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= limit {
            self.memory.extend_from_slice(bytes);
            return;
        }
        if let Err(error) = self.push_file(bytes, dir) {
            self.failed = Some(match error.kind() {
                std::io::ErrorKind::StorageFull => StoreError::DiskFull,
                _ => StoreError::Write(format!("spool file: {error}")),
            });
        }
    }

    fn push_file(&mut self, bytes: &[u8], dir: &PathBuf) -> std::io::Result<()> {
        if self.file.is_none() {
            let mut file = tempfile::tempfile_in(dir)?;
            file.write_all(&self.memory)?;
            self.file = Some((file, self.memory.len() as u64));
            self.memory = Vec::new();
        }
        if let Some((file, len)) = &mut self.file {
            file.write_all(bytes)?;
            *len += bytes.len() as u64;
        }
        Ok(())
    }

    async fn prepare(self) -> Result<Prepared, StoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.file.is_none() && self.memory.len() <= INLINE {
            return Ok(Prepared::from_bytes(self.memory.into()));
        }
        let made = tokio::task::spawn_blocking(move || match self.file {
            Some((file, len)) => Prepared::from_spool(file, len),
            None => Ok(Prepared::from_bytes(self.memory.into())),
        });
        made.await.map_err(|_| StoreError::Closed)?
    }
}

impl Exec {
    /// Before the message comes: why it may not, as what follows the tag.
    pub fn refuse_append(&self, head: &Append) -> Option<String> {
        match self.target(&head.mailbox) {
            Ok(_) => None,
            Err(Refusal::No(text)) => Some(format!("NO {text}")),
            Err(_) => Some("NO [UNAVAILABLE] Try again later".into()),
        }
    }

    /// The whole message is here.
    pub async fn append(
        &mut self,
        tag: &str,
        head: Append,
        message: Incoming,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let size = head.size;
        let answer = self.append_message(head, message).await;
        self.tell(super::Telling::Everything, out);
        let (result, text) = match answer {
            Ok(text) => (ImapResult::Ok, format!("OK {text}")),
            Err(Refusal::No(text)) => (ImapResult::No, format!("NO {text}")),
            Err(Refusal::Bad(text)) => (ImapResult::Bad, format!("BAD {text}")),
            Err(Refusal::Gone(gone)) => return Err(gone),
        };
        if result == ImapResult::Ok {
            self.telemetry.imap.appended(size);
        }
        self.telemetry.imap.command("append", result);
        out.line(&format!("{tag} {text}"));
        out.flush().await
    }

    async fn append_message(&mut self, head: Append, message: Incoming) -> Answer {
        let to = self.target(&head.mailbox)?.key;
        let message = message.prepare().await?;
        let (date, zone) = match head.date {
            Some((millis, zone)) => (UnixMillis(millis), zone),
            None => (self.store.now(), 0),
        };
        let stored = self
            .store
            .append(to, message, head.flags, date, zone)
            .await?;
        Ok(format!(
            "[APPENDUID {} {}] Appended",
            stored.uid_validity, stored.uid
        ))
    }
}
