//! The store's face, continued: how mailboxes and accounts go, in slices as all large changes
//! (`bulk`).
//!
//! May import: types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bulk::{SLICE, to_its_end};
use super::error::StoreError;
use super::handle::Store;
use super::keys::{self, MailboxRecord};
use super::model::*;
use super::ops::Op;
use super::records::{self, Kind};
use super::state::Tx;
use crate::types::{AccountId, MailboxKey, UidSet, UnixMillis};

/// That an account is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Not before this.
    pub due: UnixMillis,
    /// Part of its mail is gone: there is no way back.
    pub begun: bool,
}

/// What a mailbox costs a slice beside its messages.
const MAILBOX_EFFORT: usize = 10;

impl Tx {
    /// Without opening it.
    fn messages_in(&self, mailbox: MailboxKey) -> Result<usize, StoreError> {
        if let Some(work) = self.mailboxes.get(&mailbox) {
            return Ok(work.snapshot.len() as usize);
        }
        let record: Option<MailboxRecord> = self.get(&keys::mailbox(b'M', mailbox))?;
        Ok(record.map_or(0, |record| record.exists as usize))
    }

    /// A slice of the removal of a mailbox; true where it was the last one.
    pub(super) fn delete_slice(&mut self, mailbox: MailboxKey) -> Result<bool, StoreError> {
        if self.messages_in(mailbox)? > SLICE {
            self.purge(mailbox, &UidSet::from_ranges([(1, u32::MAX)]), SLICE)?;
            return Ok(false);
        }
        self.fact(Op::MailboxDelete { mailbox })?;
        Ok(true)
    }

    /// A slice of the removal of an account; true where it was the last one. From the first one
    /// on nobody logs in to it, and nothing comes in.
    pub(super) fn remove_slice(&mut self, id: AccountId) -> Result<bool, StoreError> {
        let account = self.directory.account(id).ok_or(StoreError::NoAccount)?;
        let account = account.clone();
        let list = self.list(id)?;
        let mut left = SLICE;
        let mut plan = Vec::new();
        for info in &list.mailboxes {
            let count = self.messages_in(info.key)?;
            let cost = count + MAILBOX_EFFORT;
            plan.push((info, count.min(left)));
            if cost > left {
                left = 0;
                break;
            }
            left -= cost;
        }
        if left > 0 {
            self.forget_aliases_to(&account)?;
            self.fact(Op::AccountRemove(id))?;
            return Ok(true);
        }
        if !account.disabled {
            self.fact(Op::AccountPut(Account {
                disabled: true,
                ..(*account).clone()
            }))?;
        }
        // After a crash in between it goes on.
        if !self.directory.removal(id).is_some_and(|r| r.begun) {
            let removal = Removal {
                due: self.now,
                begun: true,
            };
            self.fact(records::put(Kind::Removal, id, &removal)?)?;
        }
        for (info, count) in plan {
            // An account has an INBOX as long as it is there.
            if count < self.messages_in(info.key)? || info.name == "INBOX" {
                self.purge(info.key, &UidSet::from_ranges([(1, u32::MAX)]), count)?;
            } else {
                self.fact(Op::MailboxDelete { mailbox: info.key })?;
            }
        }
        Ok(false)
    }

    /// Aliases that lead to it alone go with it.
    fn forget_aliases_to(&mut self, account: &Account) -> Result<(), StoreError> {
        let aliases: Vec<_> = self.directory.aliases().cloned().collect();
        for alias in aliases {
            let mut targets = alias.targets.clone();
            targets.retain(|t| t.lookup_key() != account.address.lookup_key());
            if targets.is_empty() {
                self.fact(Op::AliasRemove(alias.address.clone()))?;
            } else if targets.len() < alias.targets.len() {
                self.fact(Op::AliasPut(Alias {
                    targets,
                    address: alias.address.clone(),
                }))?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// What is left of a mailbox that is being deleted.
    pub(super) async fn delete_rest(&self, mailbox: MailboxKey) -> Result<(), StoreError> {
        let store = self.clone();
        to_its_end(async move {
            loop {
                match store.commit(128, move |tx| tx.delete_slice(mailbox)).await {
                    Ok(false) => {}
                    // Somebody else was at it too.
                    Ok(true) | Err(StoreError::NoMailbox) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// Disables the account now, and has it removed at `due` by whoever calls
    /// [`Store::removal_due`].
    pub async fn account_remove_at(
        &self,
        id: AccountId,
        due: UnixMillis,
    ) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            let account = tx.directory.account(id).ok_or(StoreError::NoAccount)?;
            let account = account.clone();
            if tx.directory.removal(id).is_some_and(|r| r.begun) {
                return Err(StoreError::Invalid("its removal has begun"));
            }
            let removal = Removal { due, begun: false };
            tx.fact(records::put(Kind::Removal, id, &removal)?)?;
            if account.disabled {
                return Ok(());
            }
            tx.fact(Op::AccountPut(Account {
                disabled: true,
                ..(*account).clone()
            }))
        })
        .await
    }

    /// Takes back what [`Store::account_remove_at`] did.
    pub async fn account_restore(&self, id: AccountId) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            let account = tx.directory.account(id).ok_or(StoreError::NoAccount)?;
            let account = account.clone();
            match tx.directory.removal(id) {
                None => return Err(StoreError::Invalid("it is not to be removed")),
                Some(Removal { begun: true, .. }) => {
                    return Err(StoreError::Invalid("its removal has begun"));
                }
                Some(_) => tx.fact(records::remove(Kind::Removal, id))?,
            }
            tx.fact(Op::AccountPut(Account {
                disabled: false,
                ..(*account).clone()
            }))
        })
        .await
    }

    /// Waits until an account is to be removed, and gives it. Cancel-safe.
    pub async fn removal_due(&self) -> AccountId {
        let mut changed = self.shared().directory_changed.subscribe();
        loop {
            changed.mark_unchanged();
            let next = self.directory().next_removal();
            let left = next.map(|(_, removal)| removal.due.since(self.now()));
            let wait = async {
                match left {
                    Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
                    None => std::future::pending().await,
                }
            };
            match next {
                Some((id, removal)) if removal.due <= self.now() => return id,
                _ => {}
            }
            tokio::select! {
                () = wait => {}
                changed = changed.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }

    /// Removes an account whose time has come. False where that was taken back meanwhile.
    pub async fn account_remove_due(&self, id: AccountId) -> Result<bool, StoreError> {
        let first = self.commit(0, move |tx| {
            match tx.directory.removal(id) {
                Some(removal) if removal.due <= tx.now => {}
                _ => return Ok(None),
            }
            if tx.directory.account(id).is_none() {
                // The account was lost with groups of the log.
                tx.fact(records::remove(Kind::Removal, id))?;
                return Ok(None);
            }
            tx.remove_slice(id).map(Some)
        });
        match first.await? {
            None => Ok(false),
            Some(true) => Ok(true),
            Some(false) => self.account_remove(id).await.map(|()| true),
        }
    }

    /// Removes account, mailboxes, messages, devices, outbox; aliases to it alone as well. Where
    /// that takes more than one commit, it is disabled meanwhile, and after a crash in between.
    pub async fn account_remove(&self, id: AccountId) -> Result<(), StoreError> {
        let store = self.clone();
        let slice = move || {
            let store = store.clone();
            async move { store.commit(0, move |tx| tx.remove_slice(id)).await }
        };
        if slice().await? {
            return Ok(());
        }
        to_its_end(async move {
            while !slice().await? {}
            Ok(())
        })
        .await
    }
}
