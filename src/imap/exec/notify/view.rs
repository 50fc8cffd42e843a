//! The mailboxes that an account can see, as one who watches them knows them: its own, and those
//! of others (RFC 4314) that the plan may name. What of them it hears is told by its own watch,
//! where rights change, and by one for each owner.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use super::{Overflow, READABLE};
use crate::imap::exec::Exec;
use crate::imap::exec::naming::OTHERS;
use crate::imap::notify::{Events, Filter, Group, Plan};
use crate::store::{MailboxInfo, MailboxList, StoreError};
use crate::types::{AccountId, MailboxKey, Rights};

/// Of one account's mailboxes, what was looked at.
pub(super) struct Source {
    pub account: AccountId,
    changes: watch::Receiver<u64>,
    /// In its journal.
    pub place: u64,
    /// In that of its annotations.
    pub noted: u64,
    list: Arc<MailboxList>,
}

impl Source {
    pub(super) fn seen(&mut self) {
        self.changes.borrow_and_update();
    }

    /// An account that is gone ends the session, or the rights to its mailboxes, elsewhere.
    async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn any_changed(sources: &mut [Self]) {
        if let [own] = sources {
            return own.changed().await;
        }
        let all = sources.iter_mut().map(|source| Box::pin(source.changed()));
        let mut all: Vec<_> = all.collect();
        poll_fn(
            |cx| match all.iter_mut().any(|one| one.as_mut().poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
        .await;
    }
}

/// A mailbox of somebody else.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    /// As this account calls it.
    pub info: MailboxInfo,
    /// Else its name is all that may be known (RFC 5465, 3.1).
    pub readable: bool,
    /// So much of the name says whose it is.
    whose: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub own: Arc<MailboxList>,
    pub others: Vec<Foreign>,
    rights: u64,
}

impl View {
    #[cfg(test)]
    pub(super) fn of(own: MailboxList) -> Self {
        Self {
            own: Arc::new(own),
            ..Self::default()
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &MailboxInfo> {
        let others = self.others.iter().map(|foreign| &foreign.info);
        self.own.mailboxes.iter().chain(others)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&MailboxInfo> {
        self.all().find(|info| info.name == name)
    }

    /// What the INBOX is called of the account that this mailbox is of.
    pub(super) fn inbox(&self, of: MailboxKey) -> Option<&str> {
        let same = |info: &&MailboxInfo| info.key.account == of.account;
        let own = self.own.mailboxes.iter().filter(same);
        if let Some(info) = own.into_iter().find(|info| info.name == "INBOX") {
            return Some(&info.name);
        }
        let others = self.others.iter().filter(|foreign| same(&&foreign.info));
        let inbox = others
            .into_iter()
            .find(|foreign| foreign.info.name.get(foreign.whose..) == Some("INBOX"));
        inbox.map(|foreign| &*foreign.info.name)
    }

    /// Those whose messages may be known.
    pub(super) fn readable(&self) -> impl Iterator<Item = &MailboxInfo> {
        let others = self.others.iter().filter(|foreign| foreign.readable);
        let others = others.map(|foreign| &foreign.info);
        self.own.mailboxes.iter().chain(others)
    }

    pub(super) fn is_subscribed(&self, name: &str) -> bool {
        match self.by_name(name) {
            Some(info) => info.subscribed,
            None => self.own.subscribed_missing.iter().any(|m| m == name),
        }
    }

    pub(super) fn subscribed(&self) -> HashSet<&str> {
        let there = self.own.mailboxes.iter().filter(|info| info.subscribed);
        let missing = self.own.subscribed_missing.iter().map(String::as_str);
        there.map(|info| &*info.name).chain(missing).collect()
    }

    /// Is it, or would it be, a mailbox of this account? It may have some that are called like
    /// those of others, from before there were any.
    fn is_own(&self, name: &str) -> bool {
        !name.starts_with(OTHERS) || self.own.mailboxes.iter().any(|info| info.name == name)
    }

    /// What the plan says of any name.
    pub(super) fn wanted(&self, plan: &Plan, name: &str, subscribed: bool) -> Events {
        plan.of(name, subscribed, self.is_own(name))
    }
}

impl Exec {
    /// Names of others' mailboxes as they will be told.
    pub(super) fn as_called_here(&self, mut groups: Vec<Group>) -> Vec<Group> {
        for group in &mut groups {
            if let Filter::Subtree(names) | Filter::Mailboxes(names) = &mut group.filter {
                for name in names {
                    if let Some(listed) = self.as_listed(name) {
                        *name = listed;
                    }
                }
            }
        }
        groups
    }

    pub(super) fn source(&self, account: AccountId) -> Result<Source, StoreError> {
        let mut changes = self.store.watch_account(account);
        changes.borrow_and_update();
        // First the place, then what is there: what changes in between is looked at again.
        let (_, place) = self.store.changed_mailboxes(account, u64::MAX);
        let (_, noted) = self.store.changed_annotations(account, u64::MAX);
        Ok(Source {
            account,
            changes,
            place,
            noted,
            list: self.store.mailboxes(account)?,
        })
    }

    /// Is there anything else to see than before? `sources` begin with this account's own.
    pub(super) fn newer(&self, view: &View, sources: &[Source]) -> Result<bool, StoreError> {
        if self.store.directory().rights_version() != view.rights {
            return Ok(true);
        }
        for source in sources {
            match self.store.mailboxes(source.account) {
                Ok(list) if Arc::ptr_eq(&list, &source.list) => {}
                Err(error) if source.account == self.account.id => return Err(error),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What there is to see now; `sources` become those of all whose mailboxes may be named.
    pub(super) fn view(
        &self,
        plan: &Plan,
        sources: &mut Vec<Source>,
    ) -> Result<Result<View, Overflow>, StoreError> {
        let directory = self.store.directory();
        let own = self.store.mailboxes(self.account.id)?;
        let most = self.notify_limits.mailboxes;
        let mut owners = HashSet::from([self.account.id]);
        let mut others = Vec::new();
        let shared = match plan.may_name_others() {
            true => directory.shared_with(self.account.id),
            false => Vec::new(),
        };
        for keys in shared.chunk_by(|a, b| a.account == b.account) {
            let [MailboxKey { account, .. }, ..] = *keys else {
                continue;
            };
            let Some(owner) = directory.account(account) else {
                continue;
            };
            let below = format!("{OTHERS}{}/", owner.address);
            if !plan.may_name_below(&below, &own.subscribed_missing) {
                continue;
            }
            if !sources.iter().any(|source| source.account == account) {
                match self.source(account) {
                    Ok(source) => sources.push(source),
                    // Gone in this moment.
                    Err(StoreError::NoAccount) => continue,
                    Err(error) => return Err(error),
                }
            }
            let list = match self.store.mailboxes(account) {
                Ok(list) => list,
                Err(StoreError::NoAccount) => continue,
                Err(error) => return Err(error),
            };
            owners.insert(account);
            // They come sorted.
            let there = list.mailboxes.iter();
            let there = there.filter(|info| keys.binary_search(&info.key).is_ok());
            others.extend(there.filter_map(|info| {
                let rights = directory.rights(self.account.id, info.key);
                let mut info = self.others_info(info)?;
                info.subscribed = own.subscribed_missing.contains(&info.name);
                rights.contains(Rights::LOOKUP).then(|| Foreign {
                    info,
                    readable: rights.contains(READABLE),
                    whose: below.len(),
                })
            }));
            if others.len() > most || owners.len() > most {
                return Ok(Err(Overflow));
            }
            if let Some(source) = sources.iter_mut().find(|source| source.account == account) {
                source.list = list;
            }
        }
        if let Some(source) = sources.first_mut() {
            source.list = Arc::clone(&own);
        }
        sources.retain(|source| owners.contains(&source.account));
        Ok(Ok(View {
            own,
            others,
            rights: directory.rights_version(),
        }))
    }

    /// Lost, though it is still there (RFC 5465, 5.9)?
    pub(super) fn is_withheld(&self, key: MailboxKey) -> bool {
        !self.rights_on(key).contains(Rights::LOOKUP) && self.is_there(key)
    }

    fn is_there(&self, key: MailboxKey) -> bool {
        let list = self.store.mailboxes(key.account);
        list.is_ok_and(|list| list.mailboxes.iter().any(|info| info.key == key))
    }

    /// Whose mailboxes are looked at may hang on what is subscribed to: nothing is made or gone
    /// with that. `before` becomes what would have been seen then.
    pub(super) fn compare(&self, plan: &Plan, before: &mut View, now: &View) {
        let kept: HashSet<MailboxKey> = now.others.iter().map(|f| f.info.key).collect();
        before.others.retain(|foreign| {
            let key = foreign.info.key;
            let seen = self.rights_on(key).contains(Rights::LOOKUP) && self.is_there(key);
            kept.contains(&key) || !seen
        });
        let known = &before.own.subscribed_missing;
        let new = now.others.iter().filter(|foreign| {
            let below = foreign.info.name.get(..foreign.whose).unwrap_or_default();
            !plan.may_name_below(below, known)
        });
        before.others.extend(new.cloned());
    }
}
