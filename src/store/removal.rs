//! The store's face, continued: how mailboxes and accounts go, in slices as all large changes
//! (`bulk`).
//!
//! May import: types.

use super::bulk::{SLICE, to_its_end};
use super::error::StoreError;
use super::handle::Store;
use super::keys::{self, MailboxRecord};
use super::model::*;
use super::ops::Op;
use super::state::Tx;
use crate::types::{AccountId, MailboxKey, UidSet};

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
    fn remove_slice(&mut self, id: AccountId) -> Result<bool, StoreError> {
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
