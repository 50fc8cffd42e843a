//! APPEND (RFC 9051, 6.3.12; RFC 4315; RFC 7889).

use super::{Answer, Exec, Gone, Out, Refusal, store_error};
use crate::imap::command::{Append, Command};
use crate::store::{Fits, Spool, StoreError, Whose};
use crate::telemetry::{ImapResult, OverQuota};
use crate::types::UnixMillis;

/// A message that comes in.
pub struct Incoming {
    spool: Spool,
    nul: bool,
}

impl Incoming {
    pub fn new(spool: Spool) -> Self {
        Self { spool, nul: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.nul |= bytes.contains(&0);
        self.spool.push(bytes);
    }
}

impl Exec {
    /// Before the message comes: why it may not, as what follows the tag.
    pub fn refuse_append(&self, head: &Append) -> Option<String> {
        match self.target(&head.mailbox) {
            // RFC 9208, 4.3.1
            Ok(_) if self.store.fits(self.account.id, head.size, head.size) == Fits::No => {
                self.telemetry.store.over_quota(OverQuota::Append);
                Some(format!("NO {}", store_error(&StoreError::OverQuota)))
            }
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
        let deed = self.deed(&Command::Append(head.clone()));
        let answer = self.append_message(head, message).await;
        self.tell_all(Some(super::Telling::Everything), &deed, out)
            .await?;
        let (result, text) = match answer {
            Ok(text) => (ImapResult::Ok, format!("OK {text}")),
            Err(Refusal::No(text)) => (ImapResult::No, format!("NO {text}")),
            Err(Refusal::Trouble(text)) => {
                self.telemetry.imap.store_failed("append", &text);
                (ImapResult::No, format!("NO {text}"))
            }
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
        if message.nul {
            // RFC 9051, 4.3.1: a literal holds none, and BODY[] could not be answered.
            return Err(Refusal::No(
                "[CANNOT] There is a NUL byte in the message".into(),
            ));
        }
        let mut spool = message.spool;
        let message = spool
            .finish(Vec::new(), Whose::Account(self.account.id))
            .await?;
        let (date, zone) = match head.date {
            Some((millis, zone)) => (UnixMillis::from_signed(millis), zone),
            None => (self.store.now(), 0),
        };
        let stored = self
            .store
            .append(to, message, head.flags, date, zone)
            .await?;
        self.note_arrived(to, &[stored.uid]);
        Ok(format!(
            "[APPENDUID {} {}] Appended",
            stored.uid_validity, stored.uid
        ))
    }
}
