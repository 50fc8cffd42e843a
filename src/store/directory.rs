//! Who is local: accounts, aliases and domains, all in memory, as an immutable snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::model::{Account, Alias, LocalDomain};
use super::quota::Quota;
use super::records::{self, Kind};
use super::removal::Removal;
use super::rights::Acls;
use crate::types::{AccountId, Address, Domain};

/// What an address means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Deliver to these, each once. Never empty.
    Accounts(Vec<AccountId>),
    /// The domain is ours, the user is not.
    NoUser,
    /// The domain is ours, and the user may have been lost with groups of the log.
    Unsure,
    /// Not our domain.
    NotLocal,
}

/// A snapshot of everything that is needed to answer RCPT and LOGIN without IO.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub(super) accounts: HashMap<AccountId, Arc<Account>>,
    /// By [`Address::lookup_key`].
    pub(super) by_address: HashMap<String, AccountId>,
    pub(super) aliases: HashMap<String, Arc<Alias>>,
    pub(super) domains: HashMap<Domain, LocalDomain>,
    /// Of accounts whose limits are not the default ones.
    quotas: HashMap<AccountId, Quota>,
    /// Accounts that are to be removed.
    removals: HashMap<AccountId, Removal>,
    /// What accounts may do with mailboxes of others.
    pub(super) acls: Arc<Acls>,
    /// Moves with `acls`.
    pub(super) rights_version: u64,
    /// Moves with all but `acls`: who waits for news of accounts does not want those.
    pub(super) version: u64,
}

impl Directory {
    /// How many aliases may lead to aliases.
    const MAX_DEPTH: usize = 10;
    /// Accounts that one address may stand for.
    const MAX_TARGETS: usize = 1000;

    pub(super) fn put_account(&mut self, account: Account) {
        self.version += 1;
        self.by_address
            .insert(account.address.lookup_key(), account.id);
        self.accounts.insert(account.id, Arc::new(account));
    }

    pub(super) fn remove_account(&mut self, id: AccountId) {
        self.version += 1;
        if let Some(account) = self.accounts.remove(&id) {
            self.by_address.remove(&account.address.lookup_key());
        }
        self.quotas.remove(&id);
        self.removals.remove(&id);
    }

    /// Are records of this kind in memory?
    pub(super) fn keeps(kind: u16) -> bool {
        [Kind::Quota, Kind::Removal, Kind::Rights]
            .iter()
            .any(|k| *k as u16 == kind)
    }

    /// By the record's key in the index; gives the account whose quota it is. One that makes no
    /// sense is as good as none.
    pub(super) fn put_record(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<AccountId> {
        if let Some(mailbox) = records::mailbox(Kind::Rights, key) {
            self.put_acl(mailbox, value);
            return None;
        }
        self.version += 1;
        if let Some(account) = records::account(Kind::Removal, key) {
            match value.and_then(|value| records::decode(value).ok()) {
                Some(removal) => self.removals.insert(account, removal),
                None => self.removals.remove(&account),
            };
        }
        let account = records::account(Kind::Quota, key)?;
        match value.and_then(|value| records::decode(value).ok()) {
            Some(quota) => self.quotas.insert(account, quota),
            None => self.quotas.remove(&account),
        };
        Some(account)
    }

    /// An account's own limits.
    pub fn quota(&self, id: AccountId) -> Quota {
        self.quotas.get(&id).copied().unwrap_or_default()
    }

    /// When an account goes, where that was said.
    pub fn removal(&self, id: AccountId) -> Option<Removal> {
        self.removals.get(&id).copied()
    }

    /// The one that goes first.
    pub fn next_removal(&self) -> Option<(AccountId, Removal)> {
        let all = self.removals.iter().map(|(id, removal)| (*id, *removal));
        all.min_by_key(|(id, removal)| (removal.due, *id))
    }

    pub(super) fn put_alias(&mut self, alias: Alias) {
        self.aliases
            .insert(alias.address.lookup_key(), Arc::new(alias));
    }

    pub fn account(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.accounts.get(&id)
    }

    /// By exact address, case aside.
    pub fn account_by_address(&self, address: &Address) -> Option<&Arc<Account>> {
        self.accounts
            .get(self.by_address.get(&address.lookup_key())?)
    }

    /// In no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// In no order.
    pub fn aliases(&self) -> impl Iterator<Item = &Arc<Alias>> {
        self.aliases.values()
    }

    /// In no order.
    pub fn domains(&self) -> impl Iterator<Item = &LocalDomain> {
        self.domains.values()
    }

    pub fn alias(&self, address: &Address) -> Option<&Arc<Alias>> {
        self.aliases.get(&address.lookup_key())
    }

    pub fn is_local(&self, domain: &Domain) -> bool {
        self.domains.contains_key(domain)
    }

    /// See [`super::Store::resolve`].
    pub(super) fn resolve(&self, address: &Address, separator: char) -> Resolution {
        if !self.is_local(address.domain()) {
            return Resolution::NotLocal;
        }
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        self.collect(address, separator, 0, &mut seen, &mut found);
        if found.is_empty() && address.local().eq_ignore_ascii_case("postmaster") {
            found.extend(self.postmaster(address.domain()));
        }
        if found.is_empty() {
            Resolution::NoUser
        } else {
            Resolution::Accounts(found)
        }
    }

    fn collect(
        &self,
        address: &Address,
        separator: char,
        depth: usize,
        seen: &mut HashSet<String>,
        found: &mut Vec<AccountId>,
    ) {
        if depth > Self::MAX_DEPTH || found.len() >= Self::MAX_TARGETS {
            return;
        }
        let plain = address.without_detail(separator);
        for address in [Some(address), plain.as_ref()].into_iter().flatten() {
            if let Some(account) = self.account_by_address(address).filter(|a| !a.disabled) {
                if !found.contains(&account.id) {
                    found.push(account.id);
                }
                return;
            }
            if let Some(alias) = self.alias(address) {
                // Each alias once: those that name one another would be endless work.
                if seen.insert(alias.address.lookup_key()) {
                    for target in &alias.targets {
                        self.collect(target, separator, depth + 1, seen, found);
                    }
                }
                return;
            }
        }
    }

    /// Would mail for this alias come back to it? Such mail is delivered to whoever else is on
    /// the way, or to nobody; an administrator who wrote that did not mean it.
    pub(super) fn would_loop(&self, alias: &Alias, separator: char) -> bool {
        let own = alias.address.lookup_key();
        let mut todo: Vec<&Address> = alias.targets.iter().collect();
        let mut seen = HashSet::new();
        while let Some(target) = todo.pop() {
            let plain = target.without_detail(separator);
            for address in [Some(target), plain.as_ref()].into_iter().flatten() {
                let key = address.lookup_key();
                if key == own {
                    return true;
                }
                if self.by_address.contains_key(&key) {
                    break;
                }
                if let Some(next) = self.aliases.get(&key) {
                    if seen.insert(key) {
                        todo.extend(&next.targets);
                    }
                    break;
                }
            }
        }
        false
    }

    /// RFC 5321, 4.5.1: postmaster is always accepted. The oldest account answers for it.
    fn postmaster(&self, domain: &Domain) -> Option<AccountId> {
        let enabled = || self.accounts.values().filter(|a| !a.disabled);
        let here = enabled()
            .filter(|a| a.address.domain() == domain)
            .map(|a| a.id)
            .min();
        here.or_else(|| enabled().map(|a| a.id).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UnixMillis;

    fn address(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    fn directory() -> Directory {
        let mut directory = Directory::default();
        let domain = Domain::parse("x.test").expect("domain");
        let created = UnixMillis(0);
        directory
            .domains
            .insert(domain.clone(), LocalDomain { domain, created });
        for (id, name) in [(1, "alice@x.test"), (2, "bob@x.test")] {
            directory.put_account(Account {
                id: AccountId(id),
                address: address(name),
                password_hash: String::new(),
                created,
                disabled: false,
            });
        }
        for (from, to) in [
            (
                "all@x.test",
                vec!["alice@x.test", "bob@x.test", "team@x.test"],
            ),
            ("team@x.test", vec!["bob@x.test", "all@x.test"]),
            ("away@x.test", vec!["gone@x.test"]),
        ] {
            let targets = to.into_iter().map(address).collect();
            directory.put_alias(Alias {
                address: address(from),
                targets,
            });
        }
        directory
    }

    #[test]
    fn aliases_that_all_name_one_another_are_looked_at_once() {
        let mut directory = directory();
        let all: Vec<Address> = (0..40).map(|n| address(&format!("l{n}@x.test"))).collect();
        for alias in &all {
            let mut targets = all.clone();
            targets.push(address("bob@x.test"));
            directory.put_alias(Alias {
                address: alias.clone(),
                targets,
            });
        }
        assert_eq!(
            directory.resolve(&all[0], '+'),
            Resolution::Accounts(vec![AccountId(2)])
        );
    }

    #[test]
    fn resolves() {
        let directory = directory();
        let resolve = |text| directory.resolve(&address(text), '+');
        let accounts =
            |ids: &[u32]| Resolution::Accounts(ids.iter().map(|n| AccountId(*n)).collect());
        assert_eq!(resolve("Alice@X.test"), accounts(&[1]));
        assert_eq!(resolve("alice+x+y@x.test"), accounts(&[1]));
        assert_eq!(
            resolve("all@x.test"),
            accounts(&[1, 2]),
            "once each, the loop cut"
        );
        assert_eq!(resolve("postmaster@x.test"), accounts(&[1]));
        assert_eq!(resolve("away@x.test"), Resolution::NoUser);
        assert_eq!(resolve("carol@x.test"), Resolution::NoUser);
        assert_eq!(resolve("alice@y.test"), Resolution::NotLocal);
    }
}
