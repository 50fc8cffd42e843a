//! From a name to a mailbox, and what this account may do with it (RFC 4314; RFC 2342).
//!
//! All commands name mailboxes through [`Exec::resolve`], or [`Exec::resolve_for`] where a right
//! of its own is enough. Mailboxes of others are called
//! `Other Users/<address>/<name>`. One that can't be seen is as good as none: same answer, and
//! nobody's list of mailboxes is read who shares nothing with this account.

use std::collections::HashMap;

use super::{Exec, Out, Refusal};
use crate::imap::command::Command;
use crate::imap::session::commands::needs_selected;
use crate::store::{MailboxInfo, Store, StoreError};
use crate::types::{AccountId, Address, Flag, MailboxKey, Rights, nfc};

/// Where mailboxes of others are.
pub(super) const OTHERS: &str = "Other Users/";

/// A mailbox, called as this account calls it.
pub(super) struct Place {
    pub info: MailboxInfo,
    pub rights: Rights,
}

impl Place {
    /// Who has not the right that he needs hears no more than what he may see.
    pub(super) fn refused(&self) -> Refusal {
        match self.rights.contains(Rights::LOOKUP) {
            true => no_permission(),
            false => nonexistent(),
        }
    }
}

/// A name that need not be there yet.
pub(super) enum Home {
    Own,
    /// Whose it would be, and what the owner would call it.
    Other(AccountId, String),
    /// Nobody's who is known to share anything.
    Nowhere,
}

/// RFC 4314, 6: what can't be seen is not there.
pub(super) fn nonexistent() -> Refusal {
    Refusal::No("[NONEXISTENT] No such mailbox".into())
}

pub(super) fn no_permission() -> Refusal {
    Refusal::No("[NOPERM] You have no right to do that".into())
}

/// A separator at the end says that there will be children, and nothing else (RFC 9051, 6.3.4).
fn plain(name: &str) -> &str {
    name.strip_suffix('/').unwrap_or(name)
}

/// The address and the rest of a name behind [`OTHERS`]. A local part may hold a slash.
fn split(rest: &str) -> Option<(Address, &str)> {
    let at = rest.find('@')?;
    let end = at + rest.get(at..)?.find('/')?;
    let address = Address::parse(rest.get(..end)?).ok()?;
    Some((
        address,
        rest.get(end + 1..).filter(|name| !name.is_empty())?,
    ))
}

impl Exec {
    /// A name among those of others as LIST gives it: addresses may be written otherwise.
    pub(super) fn as_listed(&self, name: &str) -> Option<String> {
        let rest = plain(name).strip_prefix(OTHERS)?;
        let (address, local) = match split(rest) {
            Some((address, local)) => (address, Some(local)),
            None => (Address::parse(rest).ok()?, None),
        };
        let directory = self.store.directory();
        let owner = directory.account_by_address(&address)?;
        Some(match local {
            Some(local) if local.eq_ignore_ascii_case("INBOX") => {
                format!("{OTHERS}{}/INBOX", owner.address)
            }
            Some(local) => format!("{OTHERS}{}/{local}", owner.address),
            None => format!("{OTHERS}{}", owner.address),
        })
    }

    /// What this account may do there, now.
    pub(super) fn rights_on(&self, key: MailboxKey) -> Rights {
        self.store.rights(self.account.id, key)
    }

    /// Whose mailbox a name means.
    pub(super) fn home(&self, name: &str) -> Result<Home, StoreError> {
        let name = plain(name);
        let Some(rest) = name.strip_prefix(OTHERS) else {
            return Ok(Home::Own);
        };
        // From before there were mailboxes of others.
        if self.store.mailboxes(self.account.id)?.find(name).is_some() {
            return Ok(Home::Own);
        }
        let directory = self.store.directory();
        let owner = split(rest).and_then(|(address, local)| {
            let owner = directory.account_by_address(&address)?.id;
            directory
                .is_shared_by(owner, self.account.id)
                .then(|| Home::Other(owner, local.to_owned()))
        });
        Ok(owner.unwrap_or(Home::Nowhere))
    }

    /// The mailbox of a name, if this account may see it.
    pub(super) fn resolve(&self, name: &str) -> Result<Place, Refusal> {
        let place = self.place(name)?;
        match place.rights.contains(Rights::LOOKUP) {
            true => Ok(place),
            false => Err(nonexistent()),
        }
    }

    /// The mailbox of a name with what this account may do there, be it nothing: who may not see
    /// it and has not the right that he needs is told that there is none (`refused`).
    pub(super) fn place(&self, name: &str) -> Result<Place, Refusal> {
        let name = plain(name);
        let (owner, local) = match self.home(name)? {
            Home::Own => (self.account.id, name.to_owned()),
            Home::Other(owner, local) => (owner, local),
            Home::Nowhere => return Err(nonexistent()),
        };
        let list = self.store.mailboxes(owner)?;
        let info = list.find(&local).ok_or_else(nonexistent)?;
        let rights = self.rights_on(info.key);
        let info = match owner == self.account.id {
            true => info.clone(),
            false => self.others_info(info).ok_or_else(nonexistent)?,
        };
        Ok(Place { info, rights })
    }

    /// For somebody who needs all these rights, and no other (RFC 4314, 4): who may insert needs
    /// not see where.
    pub(super) fn resolve_for(&self, name: &str, needed: Rights) -> Result<MailboxInfo, Refusal> {
        let place = self.place(name)?;
        match place.rights.contains(needed) {
            true => Ok(place.info),
            false => Err(place.refused()),
        }
    }

    /// As this account calls it. What it is used for is its owner's affair.
    pub(super) fn others_info(&self, info: &MailboxInfo) -> Option<MailboxInfo> {
        let directory = self.store.directory();
        let owner = directory.account(info.key.account)?;
        Some(MailboxInfo {
            name: format!("{OTHERS}{}/{}", owner.address, info.name),
            special_use: None,
            subscribed: false,
            ..info.clone()
        })
    }

    /// Mailboxes of others that can be seen, in no order.
    pub(super) fn others(&self) -> Result<Vec<MailboxInfo>, StoreError> {
        let mut by_owner: HashMap<AccountId, Vec<MailboxKey>> = HashMap::new();
        for key in self.store.directory().shared_with(self.account.id) {
            by_owner.entry(key.account).or_default().push(key);
        }
        let mut found = Vec::new();
        for (owner, keys) in by_owner {
            let list = match self.store.mailboxes(owner) {
                Ok(list) => list,
                // Gone in this moment.
                Err(StoreError::NoAccount) => continue,
                Err(error) => return Err(error),
            };
            // They come sorted.
            let there = list.mailboxes.iter();
            let there = there.filter(|info| keys.binary_search(&info.key).is_ok());
            found.extend(there.filter_map(|info| self.others_info(info)));
        }
        Ok(found)
    }

    /// RFC 4314, 4: `k` on the nearest parent that can be seen. At the top of others' mailboxes
    /// nobody makes any.
    pub(super) fn may_make(&self, owner: AccountId, local: &str) -> Result<bool, StoreError> {
        let list = self.store.mailboxes(owner)?;
        let parents = local.match_indices('/').rev().map(|(at, _)| &local[..at]);
        let rights = parents
            .filter_map(|parent| list.find(parent))
            .map(|parent| self.rights_on(parent.key))
            .find(|rights| rights.contains(Rights::LOOKUP));
        Ok(rights.is_some_and(|rights| rights.contains(Rights::CREATE)))
    }

    /// The account in which a mailbox can be made, and its name there.
    pub(super) fn site(&self, name: &str) -> Result<(AccountId, String), Refusal> {
        if nfc(plain(name)) == OTHERS.trim_end_matches('/') {
            return Err(Refusal::No(
                "[CANNOT] Mailboxes of others have this name".into(),
            ));
        }
        match self.home(name)? {
            Home::Own => Ok((self.account.id, name.to_owned())),
            Home::Other(owner, local) if self.may_make(owner, &local)? => Ok((owner, local)),
            _ => Err(no_permission()),
        }
    }

    /// The store, for changes of this mailbox's flags.
    pub(super) fn store_for(&self, rights: Rights) -> Store {
        self.store.for_flags(rights.flags())
    }

    /// Flags that a message may bring into a mailbox (RFC 4314, 4).
    pub(super) fn settable(&self, mailbox: MailboxKey, mut flags: Vec<Flag>) -> Vec<Flag> {
        let settable = self.rights_on(mailbox).flags();
        flags.retain(|flag| settable.has(flag));
        flags
    }

    /// Before each command: rights in the selected mailbox may be others than before. One that may
    /// not be read any more is closed; a command on it fails.
    pub(super) fn look_at_rights(
        &mut self,
        command: &Command,
        out: &mut Out<'_>,
    ) -> Result<(), Refusal> {
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        let rights = self.store.rights(self.account.id, selected.key);
        if rights == selected.rights {
            return Ok(());
        }
        if selected.mailbox.is_deleted() || rights.contains(Rights::READ) {
            selected.set_rights(rights, &mut out.buf);
            return Ok(());
        }
        self.selected = None;
        out.line("* OK [CLOSED] You may not read this mailbox any more");
        match needs_selected(command) {
            true => Err(no_permission()),
            false => Ok(()),
        }
    }

    /// May what happens in the selected mailbox be told?
    pub(super) fn may_be_told(&self) -> bool {
        let selected = self.selected.as_ref();
        selected.is_some_and(|selected| self.rights_on(selected.key).contains(Rights::READ))
    }
}

/// Of which others may know that there is something in it.
pub(super) const READABLE: Rights = Rights(Rights::LOOKUP.0 | Rights::READ.0);

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names_of_others() {
        let parts = |rest| split(rest).map(|(address, name)| (address.to_string(), name));
        let some = |address: &str, name| Some((address.to_owned(), name));
        assert_eq!(parts("a@x.test/INBOX"), some("a@x.test", "INBOX"));
        assert_eq!(parts("a/b@x.test/c/d"), some("a/b@x.test", "c/d"));
        for none in ["", "a", "a@x.test", "a@x.test/", "@x.test/a", "a@/b", "x/y"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }
}
