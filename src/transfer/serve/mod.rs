//! The side that has the store open: takes messages in, and gives them out.
//!
//! May import: store, types. Whoever asks is the administrator.

mod export;
mod import;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frames::{Control, Sink};
use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::types::AccountId;

/// Bounds of this side.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub max_message_bytes: u64,
    /// For the other side to say something, or to read.
    pub patience: Duration,
}

impl Bounds {
    pub fn of(config: &Config) -> Self {
        Self {
            max_message_bytes: config.imap.max_append_bytes,
            patience: Duration::from_secs(config.limits.transfer_timeout_secs),
        }
    }
}

/// Imports and exports of one store. Cheap to clone.
#[derive(Clone)]
pub struct Transfers {
    store: Store,
    bounds: Bounds,
    importing: Arc<Mutex<HashSet<AccountId>>>,
}

/// Why it can't go on.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// Nobody is there to be told.
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Said(&'static str),
}

/// One import into an account at a time: two of the same source would each take what the other
/// has not written down yet.
struct Alone {
    importing: Arc<Mutex<HashSet<AccountId>>>,
    account: AccountId,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.importing.lock().remove(&self.account);
    }
}

impl Transfers {
    pub fn new(store: Store, bounds: Bounds) -> Self {
        Self {
            store,
            bounds,
            importing: Arc::default(),
        }
    }

    /// Takes what comes over the stream into the account.
    pub async fn import(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        account: AccountId,
    ) -> io::Result<()> {
        let (reader, writer) = tokio::io::split(stream);
        let writer = Arc::new(tokio::sync::Mutex::new(Sink::new(writer)));
        let _alone = match self.importing.lock().insert(account) {
            true => Some(Alone {
                importing: self.importing.clone(),
                account,
            }),
            false => None,
        };
        writer.lock().await.begin().await?;
        let done = match &_alone {
            Some(_) => import::run(self, account, reader, &writer).await,
            None => Err(Ended::Said(
                "another import into this account is running: wait until it has ended",
            )),
        };
        let mut writer = writer.lock().await;
        match done {
            Ok(()) => writer.say(&Control::End).await,
            Err(Ended::Io(error)) => Err(error),
            Err(ended) => writer.say(&Control::Failed(explain(&ended))).await,
        }
    }

    /// Sends all mail of the accounts, or of their mailboxes of one name.
    pub async fn export(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        accounts: Vec<(AccountId, String)>,
        mailbox: Option<String>,
    ) -> io::Result<()> {
        let (_reader, writer) = tokio::io::split(stream);
        let mut writer = Sink::new(writer);
        writer.begin().await?;
        match export::run(self, &accounts, mailbox.as_deref(), &mut writer).await {
            Ok(()) => writer.say(&Control::End).await,
            Err(Ended::Io(error)) => Err(error),
            Err(ended) => writer.say(&Control::Failed(explain(&ended))).await,
        }
    }
}

fn explain(ended: &Ended) -> String {
    let advice = match ended {
        Ended::Store(StoreError::DiskFull) => {
            "; free some space, or lower store.reserve_bytes, and start it again: it goes on \
             where it was"
        }
        Ended::Store(StoreError::MailboxFull) => "; raise store.max_messages_per_mailbox",
        Ended::Store(error) if error.is_temporary() => "; start it again: it goes on where it was",
        _ => "",
    };
    format!("{ended}{advice}")
}
