//! The store's face, continued: mailboxes of an account.
//!
//! May import: types. Name rules are RFC 9051, 5.1; the hierarchy separator is `/`.

use std::collections::HashSet;
use std::sync::Arc;

use super::bulk::SLICE;
use super::error::StoreError;
use super::handle::Store;
use super::keys::MailboxRecord;
use super::keys::{self};
use super::model::*;
use super::ops::Op;
use super::snapshot::Mailbox;
use super::state::Tx;
use super::wake::{Changed, Noted};
use crate::types::{AccountId, MailboxId, MailboxKey, UidValidity, nfc};

/// Longest mailbox name, bytes of UTF-8.
const MAX_NAME: usize = 1000;
/// Levels of a hierarchy.
const MAX_LEVELS: usize = 50;
/// Subscriptions to names that do not exist.
const MAX_MISSING: usize = 1000;

/// INBOX in any case is INBOX; a trailing separator only says that children will come. Unicode
/// is in form C from here on, whatever came (RFC 9051, 5.1).
pub(super) fn clean(name: &str) -> Result<String, StoreError> {
    let name = &*nfc(name.strip_suffix('/').unwrap_or(name));
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(StoreError::Invalid("a mailbox name has 1 to 1000 bytes"));
    }
    if name
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return Err(StoreError::Invalid("control character in a mailbox name"));
    }
    if name.split('/').any(str::is_empty) {
        return Err(StoreError::Invalid("empty level in a mailbox name"));
    }
    if name.split('/').count() > MAX_LEVELS {
        return Err(StoreError::Limit("levels of a mailbox name"));
    }
    let (first, rest) = name
        .split_once('/')
        .map_or((name, None), |(a, b)| (a, Some(b)));
    Ok(match (first.eq_ignore_ascii_case("INBOX"), rest) {
        (true, None) => "INBOX".into(),
        (true, Some(rest)) => format!("INBOX/{rest}"),
        (false, _) => name.into(),
    })
}

pub(super) fn creatable(list: &MailboxList, name: &str, most: usize) -> Result<(), StoreError> {
    if list.find(name).is_some() {
        return Err(StoreError::Exists);
    }
    let parents = name.match_indices('/').map(|(at, _)| &name[..at]);
    let new = parents.filter(|parent| list.find(parent).is_none()).count();
    if list.mailboxes.len() + new >= most {
        return Err(StoreError::Limit("mailboxes of an account"));
    }
    Ok(())
}

/// So far above the highest one may the clock be, in seconds: twenty years. A clock that is
/// further ahead is wrong, and once the numbers have come to their end there is no way back.
const PLAUSIBLE: u32 = 20 * 366 * 24 * 3600;
/// The same where there is none yet: what is above it leaves less than twenty years.
const PLAUSIBLE_FIRST: u32 = u32::MAX - PLAUSIBLE;

fn next_validity(mark: u32, clock: u32) -> Result<UidValidity, StoreError> {
    let plausible = match mark {
        0 => clock <= PLAUSIBLE_FIRST,
        mark => clock - clock.min(mark) <= PLAUSIBLE,
    };
    let next = mark
        .checked_add(1)
        .ok_or(StoreError::Limit("values of UIDVALIDITY"))?;
    Ok(UidValidity(if plausible { next.max(clock) } else { next }))
}

impl Tx {
    /// Above all that any mailbox ever had, whatever the clock says: a name that is used again,
    /// in an account that is made again too, must not look as it did (RFC 9051, 2.3.1.1).
    pub(super) fn new_validity(&self) -> Result<UidValidity, StoreError> {
        let seconds = u32::try_from(self.now.secs()).unwrap_or(u32::MAX);
        next_validity(self.global_marks()?.uid_validity, seconds)
    }

    /// A mailbox that does not exist yet.
    fn new_mailbox(
        &mut self,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, StoreError> {
        let marks = self.account_marks(account)?;
        let uid_validity = self.new_validity()?;
        let mailbox = MailboxId(marks.next_mailbox);
        let list = self.list_as_it_is(account)?;
        let key = MailboxKey { account, mailbox };
        self.fact(Op::MailboxCreate {
            mailbox: key,
            name: name.into(),
            uid_validity,
            special_use,
            subscribed: false,
        })?;
        self.inherit_rights(&list, key, name)?;
        Ok(mailbox)
    }

    pub(super) fn make_parents(
        &mut self,
        account: AccountId,
        name: &str,
    ) -> Result<(), StoreError> {
        for (at, _) in name.match_indices('/') {
            if self.list(account)?.find(&name[..at]).is_none() {
                self.new_mailbox(account, &name[..at], None)?;
            }
        }
        Ok(())
    }

    pub(super) fn inbox(&mut self, account: AccountId) -> Result<MailboxKey, StoreError> {
        self.directory
            .account(account)
            .ok_or(StoreError::NoAccount)?;
        Ok(self
            .list(account)?
            .find("INBOX")
            .ok_or(StoreError::NoMailbox)?
            .key)
    }
}

impl Store {
    pub fn mailboxes(&self, account: AccountId) -> Result<Arc<MailboxList>, StoreError> {
        Ok(self.shared().account(account)?.list.load_full())
    }

    /// Told whenever the account's list of mailboxes or anything in them changes. For an
    /// account that is gone, a receiver whose sender is gone too.
    pub fn watch_account(&self, account: AccountId) -> tokio::sync::watch::Receiver<u64> {
        match self.shared().account(account) {
            Ok(view) => view.told.subscribe(),
            Err(_) => tokio::sync::watch::channel(0).1,
        }
    }

    /// Mailboxes of an account that changed since `after`, and the place to ask from next time.
    /// Only while somebody has a receiver of `watch_account` is anything written down.
    pub fn changed_mailboxes(&self, account: AccountId, after: u64) -> (Changed<MailboxId>, u64) {
        match self.shared().account(account) {
            Ok(view) => {
                let journal = view.journal.lock();
                (journal.after(after), journal.end())
            }
            Err(_) => (Changed::Only(Vec::new()), after),
        }
    }

    /// The same of annotations that the account can see.
    pub fn changed_annotations(&self, account: AccountId, after: u64) -> (Changed<Noted>, u64) {
        match self.shared().account(account) {
            Ok(view) => {
                let noted = view.noted.lock();
                (noted.after(after), noted.end())
            }
            Err(_) => (Changed::Only(Vec::new()), after),
        }
    }

    /// Was this mailbox made a moment ago by renaming INBOX, which stays where it is?
    pub fn is_from_inbox(&self, key: MailboxKey) -> bool {
        let view = self.shared().account(key.account);
        view.is_ok_and(|view| view.is_from_inbox(key.mailbox))
    }

    /// Opens a mailbox; about 1 ms for 100,000 messages not in memory.
    pub fn mailbox(&self, key: MailboxKey) -> Result<Arc<Mailbox>, StoreError> {
        self.shared().mailbox(key)
    }

    /// Without opening it.
    pub fn mailbox_status(&self, key: MailboxKey) -> Result<MailboxStatus, StoreError> {
        let shared = self.shared();
        let opened = shared.mailboxes.lock().get(&key).cloned();
        let record = match opened {
            Some(mailbox) => mailbox.snapshot().record,
            None => {
                let record: Option<MailboxRecord> = shared.get(&keys::mailbox(b'M', key))?;
                match record {
                    Some(record) => record,
                    // Finds out whether it should be there.
                    None => shared.mailbox(key)?.snapshot().record,
                }
            }
        };
        Ok(MailboxStatus {
            messages: record.exists,
            unseen: record.unseen,
            deleted: record.deleted,
            uid_next: record.uid_next,
            uid_validity: record.uid_validity,
            highest_modseq: record.highest_modseq,
            size: record.bytes,
        })
    }

    /// Why a mailbox of this name could not be created now.
    pub fn may_create(&self, account: AccountId, name: &str) -> Result<(), StoreError> {
        let most = self.shared().options.config.max_mailboxes_per_account;
        creatable(&*self.mailboxes(account)?, &clean(name)?, most)
    }

    /// Creates missing parents too. Name rules (length, controls, empty levels) are checked here.
    pub async fn mailbox_create(
        &self,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, StoreError> {
        let name = clean(name)?;
        let most = self.shared().options.config.max_mailboxes_per_account;
        self.commit(512, move |tx| {
            let list = tx.list(account)?;
            creatable(&list, &name, most)?;
            if special_use.is_some() && list.mailboxes.iter().any(|m| m.special_use == special_use)
            {
                return Err(StoreError::UseTaken);
            }
            tx.make_parents(account, &name)?;
            tx.new_mailbox(account, &name, special_use)
        })
        .await
    }

    /// Renames it and all below it; INBOX: moves its messages into the new one (RFC 9051, 6.3.6).
    pub async fn mailbox_rename(
        &self,
        account: AccountId,
        from: &str,
        to: &str,
    ) -> Result<(), StoreError> {
        let (from, to) = (clean(from)?, clean(to)?);
        let most = self.shared().options.config.max_mailboxes_per_account;
        let rest = self.commit(4096, move |tx| {
            let list = tx.list(account)?;
            if list.find(&to).is_some() {
                return Err(StoreError::Exists);
            }
            let below = format!("{from}/");
            // INBOX itself stays where it is.
            if to.starts_with(&below) && from != "INBOX" {
                return Err(StoreError::Invalid("a mailbox can't become its own child"));
            }
            let found = list.find(&from).cloned();
            // Parents that will be made, and the mailbox that INBOX's messages go to.
            let parents = to.match_indices('/').map(|(at, _)| &to[..at]);
            let new = parents.filter(|name| list.find(name).is_none()).count();
            if list.mailboxes.len() + new + usize::from(from == "INBOX") > most {
                return Err(StoreError::Limit("mailboxes of an account"));
            }
            if from == "INBOX" {
                let inbox = found.ok_or(StoreError::NoMailbox)?.key;
                tx.make_parents(account, &to)?;
                let mailbox = tx.new_mailbox(account, &to, None)?;
                let to = MailboxKey { account, mailbox };
                tx.copy_annotations(inbox, to)?;
                let snapshot = &tx.mailbox(inbox)?.snapshot;
                let mut first: Vec<u32> = snapshot.iter().map(|(_, m)| m.uid.0).collect();
                let rest = first.split_off(first.len().min(SLICE));
                let first = first.into_iter().collect();
                tx.carry(inbox, &first, to, true)?;
                tx.from_inbox.push(to);
                return Ok(Some((inbox, rest, to)));
            }
            let children: Vec<_> = list
                .mailboxes
                .iter()
                .filter(|m| m.name.starts_with(&below))
                .cloned()
                .collect();
            if found.is_none() && children.is_empty() {
                return Err(StoreError::NoMailbox);
            }
            let renamed = |name: &str| format!("{to}{}", &name[from.len()..]);
            let taken: HashSet<&str> = list.mailboxes.iter().map(|m| &m.name[..]).collect();
            for info in found.iter().chain(&children) {
                let name = renamed(&info.name);
                if name.len() > MAX_NAME || name.split('/').count() > MAX_LEVELS {
                    return Err(StoreError::Invalid("a name below it would be too long"));
                }
                if taken.contains(&name[..]) {
                    return Err(StoreError::Exists);
                }
            }
            tx.make_parents(account, &to)?;
            for info in found.into_iter().chain(children) {
                let name = renamed(&info.name);
                tx.fact(Op::MailboxRename {
                    mailbox: info.key,
                    name,
                })?;
            }
            Ok(None)
        });
        match rest.await? {
            Some((inbox, rest, to)) if !rest.is_empty() => self.carry(inbox, &rest, to).await,
            _ => Ok(()),
        }
    }

    /// Children stay. INBOX is refused, and what is only a parent (RFC 9051, 6.3.5). Where that
    /// takes more than one commit, the mailbox loses its messages first.
    pub async fn mailbox_delete(&self, account: AccountId, name: &str) -> Result<(), StoreError> {
        let name = clean(name)?;
        let first = self.commit(128, move |tx| {
            if name == "INBOX" {
                return Err(StoreError::Invalid("INBOX can't be deleted"));
            }
            let list = tx.list(account)?;
            let Some(info) = list.find(&name) else {
                let below = format!("{name}/");
                let mut all = list.mailboxes.iter();
                return Err(if all.any(|m| m.name.starts_with(&below)) {
                    StoreError::HasChildren
                } else {
                    StoreError::NoMailbox
                });
            };
            Ok((info.key, tx.delete_slice(info.key)?))
        });
        match first.await? {
            (_, true) => Ok(()),
            (mailbox, false) => self.delete_rest(mailbox).await,
        }
    }

    /// A name need not exist.
    pub async fn subscribe(
        &self,
        account: AccountId,
        name: &str,
        on: bool,
    ) -> Result<(), StoreError> {
        let name = clean(name)?;
        self.commit(128, move |tx| {
            let list = tx.list(account)?;
            if on && list.find(&name).is_none() && list.subscribed_missing.len() >= MAX_MISSING {
                return Err(StoreError::Limit(
                    "subscriptions to names that do not exist",
                ));
            }
            tx.fact(Op::Subscribe { account, name, on })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, next_validity};
    use crate::store::StoreError;
    use crate::types::UidValidity;

    #[test]
    fn a_clock_that_is_wrong_does_not_use_up_uid_validity() {
        let now = 1_800_000_000;
        for (mark, clock, want) in [
            (0, now, now),
            (0, u32::MAX, 1),
            (0, 0, 1),
            (now, now, now + 1),
            (now, now - 9, now + 1),
            (now, now + 9, now + 9),
            (now, now + 300_000_000, now + 300_000_000),
            (now, u32::MAX, now + 1),
            (u32::MAX - 1, 0, u32::MAX),
        ] {
            assert_eq!(next_validity(mark, clock), Ok(UidValidity(want)), "{mark}");
        }
        let end = next_validity(u32::MAX, now);
        assert!(matches!(end, Err(StoreError::Limit(_))));
    }

    #[test]
    fn names() {
        assert_eq!(clean("inbox").as_deref(), Ok("INBOX"));
        assert_eq!(clean("iNbOx/a/").as_deref(), Ok("INBOX/a"));
        assert_eq!(clean("Inboxes").as_deref(), Ok("Inboxes"));
        assert_eq!(clean("a\u{308}/A").as_deref(), Ok("\u{e4}/A"));
        for bad in [
            "",
            "/",
            "a//b",
            "/a",
            "a\tb",
            "a\u{2028}b",
            &"x".repeat(1001),
            &"a/".repeat(51),
        ] {
            assert!(clean(bad).is_err(), "{bad:?}");
        }
    }
}
