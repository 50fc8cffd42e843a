//! Who may do what with a mailbox of somebody else (RFC 4314).
//!
//! May import: types.
//!
//! The owner has all rights and stands in no list. A list is a record of its mailbox; accounts are
//! in it by number, which is never given twice, so that who gets an address later gets no rights
//! with it. All lists are in memory, with the directory, so that rights cost no read. `anyone`
//! means the accounts of the owner's domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::error::StoreError;
use super::handle::Store;
use super::model::MailboxList;
use super::ops::Op;
use super::records::{self, Kind};
use super::state::Tx;
use crate::types::{AccountId, MailboxId, MailboxKey, Rights, Settable};

/// Whom an entry of a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Who {
    Anyone,
    Account(AccountId),
}

/// One entry: rights that are given, or taken from what is given elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub who: Who,
    pub negative: bool,
    pub rights: Rights,
}

/// SETACL's third argument (RFC 4314, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsChange {
    Replace,
    Add,
    Remove,
}

/// The list of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl(pub Vec<Granted>);

impl Acl {
    fn of(&self, account: AccountId, neighbour: bool) -> Rights {
        let (mut given, mut taken) = (Rights::NONE, Rights::NONE);
        for entry in &self.0 {
            let concerned = match entry.who {
                Who::Anyone => neighbour,
                Who::Account(id) => id == account,
            };
            match (concerned, entry.negative) {
                (true, false) => given = given.with(entry.rights),
                (true, true) => taken = taken.with(entry.rights),
                (false, _) => {}
            }
        }
        given.without(taken)
    }

    fn change(&mut self, entry: Granted, change: RightsChange) {
        let same = |e: &Granted| e.who == entry.who && e.negative == entry.negative;
        let at = self.0.iter().position(same);
        let before = at.map_or(Rights::NONE, |at| self.0[at].rights);
        let rights = match change {
            RightsChange::Replace => entry.rights,
            RightsChange::Add => before.with(entry.rights),
            RightsChange::Remove => before.without(entry.rights),
        };
        match at {
            Some(at) if rights == Rights::NONE => {
                self.0.remove(at);
            }
            Some(at) => self.0[at].rights = rights,
            None if rights == Rights::NONE => {}
            None => self.0.push(Granted { rights, ..entry }),
        }
    }
}

fn first_of(account: AccountId) -> MailboxKey {
    MailboxKey {
        account,
        mailbox: MailboxId(0),
    }
}

/// All lists.
#[derive(Clone, Debug, Default)]
pub(super) struct Acls {
    lists: BTreeMap<MailboxKey, Acl>,
    /// Mailboxes in whose lists somebody stands.
    named: BTreeMap<Who, BTreeSet<MailboxKey>>,
}

impl Acls {
    pub(super) fn put(&mut self, mailbox: MailboxKey, acl: Option<Acl>) {
        for entry in self.lists.remove(&mailbox).unwrap_or_default().0 {
            if let Some(all) = self.named.get_mut(&entry.who) {
                all.remove(&mailbox);
                if all.is_empty() {
                    self.named.remove(&entry.who);
                }
            }
        }
        let Some(acl) = acl.filter(|acl| !acl.0.is_empty()) else {
            return;
        };
        for entry in &acl.0 {
            self.named.entry(entry.who).or_default().insert(mailbox);
        }
        self.lists.insert(mailbox, acl);
    }

    fn of_account(&self, account: AccountId) -> usize {
        let all = self.lists.range(first_of(account)..);
        all.take_while(|(key, _)| key.account == account).count()
    }

    fn named(&self, who: Who) -> impl Iterator<Item = MailboxKey> + '_ {
        self.named.get(&who).into_iter().flatten().copied()
    }
}

impl Directory {
    /// What `account` may do there.
    pub fn rights(&self, account: AccountId, mailbox: MailboxKey) -> Rights {
        if account == mailbox.account {
            return Rights::ALL;
        }
        match self.acls.lists.get(&mailbox) {
            Some(acl) => acl.of(account, self.are_neighbours(account, mailbox.account)),
            None => Rights::NONE,
        }
    }

    fn are_neighbours(&self, a: AccountId, b: AccountId) -> bool {
        let domain = |id| self.account(id).map(|account| account.address.domain());
        domain(a).is_some() && domain(a) == domain(b)
    }

    /// Mailboxes of others that `account` may know of, by owner.
    pub fn shared_with(&self, account: AccountId) -> Vec<MailboxKey> {
        let own = self.acls.named(Who::Account(account));
        let all: BTreeSet<MailboxKey> = own.chain(self.acls.named(Who::Anyone)).collect();
        let seen = |key: &MailboxKey| {
            key.account != account && self.rights(account, *key).contains(Rights::LOOKUP)
        };
        all.into_iter().filter(seen).collect()
    }

    /// May `account` do anything with any mailbox of `owner`?
    pub fn is_shared_by(&self, owner: AccountId, account: AccountId) -> bool {
        let sees = |who| {
            let all = self.acls.named.get(&who);
            let mut of_owner = all
                .into_iter()
                .flat_map(|all| all.range(first_of(owner)..))
                .take_while(|key| key.account == owner);
            of_owner.any(|key| self.rights(account, *key) != Rights::NONE)
        };
        owner != account && (sees(Who::Account(account)) || sees(Who::Anyone))
    }

    /// Another number says that rights may be others than before.
    pub fn rights_version(&self) -> u64 {
        self.rights_version
    }

    /// Its list, without the owner.
    pub fn acl(&self, mailbox: MailboxKey) -> Vec<Granted> {
        let acl = self.acls.lists.get(&mailbox);
        acl.map_or(Vec::new(), |acl| acl.0.clone())
    }

    /// From a record of the index.
    pub(super) fn put_acl(&mut self, mailbox: MailboxKey, value: Option<&[u8]>) {
        let acl = value.and_then(|value| records::decode(value).ok());
        if acl.is_some() || self.acls.lists.contains_key(&mailbox) {
            self.rights_version += 1;
            Arc::make_mut(&mut self.acls).put(mailbox, acl);
        }
    }
}

impl Tx {
    fn put_acl(&mut self, mailbox: MailboxKey, acl: &Acl) -> Result<(), StoreError> {
        let (kind, key) = (Kind::Rights as u16, records::name_of_mailbox(mailbox));
        if acl.0.is_empty() {
            return self.fact(Op::RecordRemove { kind, key });
        }
        let value = super::keys::encode(acl)?;
        self.fact(Op::RecordPut { kind, key, value })
    }

    /// A new mailbox has the rights of its nearest parent (RFC 4314, 4).
    pub(super) fn inherit_rights(
        &mut self,
        list: &MailboxList,
        mailbox: MailboxKey,
        name: &str,
    ) -> Result<(), StoreError> {
        let mut parents = name.match_indices('/').rev();
        let parent = parents.find_map(|(at, _)| list.find(&name[..at]));
        let acls = self.directory.acls.clone();
        let acl = parent.and_then(|parent| acls.lists.get(&parent.key));
        let most = self.shared.options.config.max_shared_mailboxes_per_account;
        match acl {
            // Where there would be too many, it is its owner's alone.
            Some(acl) if acls.of_account(mailbox.account) < most => self.put_acl(mailbox, acl),
            _ => Ok(()),
        }
    }

    /// Those whom the list of a mailbox is about are told that it changes (RFC 5465, 5.9).
    pub(super) fn touch_those_named(&mut self, mailbox: MailboxKey) {
        for entry in self.directory.acl(mailbox) {
            match entry.who {
                Who::Account(account) => {
                    self.touched.insert(account);
                }
                Who::Anyone => {
                    let accounts = self.shared.accounts.lock();
                    let neighbours = accounts
                        .keys()
                        .filter(|id| self.directory.are_neighbours(**id, mailbox.account));
                    self.touched.extend(neighbours);
                }
            }
        }
    }

    /// The mailbox is gone.
    pub(super) fn forget_acl(&mut self, mailbox: MailboxKey) {
        self.touch_those_named(mailbox);
        if self.directory.acls.lists.contains_key(&mailbox) {
            Arc::make_mut(&mut self.directory).put_acl(mailbox, None);
        }
    }

    /// An account is gone: it stands in no list any more. Part of the fact that it is, so it
    /// writes none.
    pub(super) fn forget_grants(&mut self, account: AccountId) -> Result<(), StoreError> {
        let who = Who::Account(account);
        let lists: Vec<MailboxKey> = self.directory.acls.named(who).collect();
        for mailbox in lists {
            let acls = &self.directory.acls.lists;
            let mut acl = acls.get(&mailbox).cloned().unwrap_or_default();
            acl.0.retain(|entry| entry.who != who);
            let key = records::of_mailbox(Kind::Rights, mailbox);
            let value = super::keys::encode(&acl)?;
            if acl.0.is_empty() {
                self.remove(key)?;
            } else {
                self.put(key, &value)?;
            }
            Arc::make_mut(&mut self.directory).put_acl(mailbox, Some(&value));
        }
        Ok(())
    }
}

impl Store {
    /// What `account` may do with a mailbox.
    pub fn rights(&self, account: AccountId, mailbox: MailboxKey) -> Rights {
        self.shared().directory.load().rights(account, mailbox)
    }

    /// The same store for somebody who may change only these flags: where he adds, copies or marks
    /// messages, others stay as they are or are left out.
    pub fn for_flags(&self, settable: Settable) -> Self {
        let mut store = self.clone();
        store.settable = settable;
        store
    }

    /// SETACL and DELETEACL by `by`, who needs to administer the mailbox still.
    pub async fn set_rights(
        &self,
        by: AccountId,
        mailbox: MailboxKey,
        entry: Granted,
        change: RightsChange,
    ) -> Result<(), StoreError> {
        self.commit(128, move |tx| {
            let list = tx.list(mailbox.account)?;
            let mut all = list.mailboxes.iter();
            let there = all.any(|info| info.key == mailbox);
            if !there
                || !tx
                    .directory
                    .rights(by, mailbox)
                    .contains(Rights::ADMINISTER)
            {
                return Err(StoreError::NoMailbox);
            }
            if let Who::Account(account) = entry.who {
                let known = tx.directory.account(account);
                known.ok_or(StoreError::NoAccount)?;
            }
            let acls = tx.directory.acls.clone();
            let before = acls.lists.get(&mailbox).cloned().unwrap_or_default();
            let mut acl = before.clone();
            acl.change(entry, change);
            if acl == before {
                return Ok(());
            }
            let config = &tx.shared.options.config;
            if acl.0.len() > before.0.len() && acl.0.len() > config.max_rights_per_mailbox {
                return Err(StoreError::Limit("entries of an access control list"));
            }
            let most = config.max_shared_mailboxes_per_account;
            if before.0.is_empty() && acls.of_account(mailbox.account) >= most {
                return Err(StoreError::Limit("shared mailboxes of an account"));
            }
            tx.put_acl(mailbox, &acl)
        })
        .await
    }
}
