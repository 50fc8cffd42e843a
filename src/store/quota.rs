//! How much an account may keep, and how much it keeps (RFC 9208).
//!
//! May import: mail, types.
//!
//! Usage is nowhere on disk: it is the sum over the mailboxes' records, found when somebody first
//! asks, kept in memory and moved by what each published group changed. So it can't be wrong for
//! longer than until the next start. Limits are in the directory, so that RCPT is answered
//! without the disk. The check is in the commit: what is under way together can't pass a limit
//! together.

use serde::{Deserialize, Serialize};

use super::beside::beside;
use super::error::StoreError;
use super::handle::Store;
use super::keys::{self, MailboxRecord};
use super::model::Recipient;
use super::prepared::Prepared;
use super::records::{self, Kind};
use super::shared::Shared;
use super::state::Tx;
use crate::config::StoreConfig;
use crate::mail::notice;
use crate::telemetry::OverQuota;
use crate::types::{AccountId, MailboxKey, SystemFlags, UidSet};

/// What an account keeps, or a limit of it: bytes as sum of RFC822.SIZE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub messages: u64,
}

impl Usage {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            messages: self.messages.saturating_add(other.messages),
        }
    }

    pub(super) fn of(record: &MailboxRecord) -> Self {
        Self {
            bytes: record.bytes,
            messages: u64::from(record.exists),
        }
    }
}

/// A change of usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    bytes: i128,
    messages: i64,
}

impl Moved {
    pub(super) fn add(&mut self, before: Usage, after: Usage) {
        self.bytes += i128::from(after.bytes) - i128::from(before.bytes);
        self.messages += after.messages as i64 - before.messages as i64;
    }

    fn on(self, usage: Usage) -> Usage {
        let bytes = (i128::from(usage.bytes) + self.bytes).max(0);
        Usage {
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            messages: usage.messages.saturating_add_signed(self.messages),
        }
    }
}

/// One limit as it was set for one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// What the configuration says for all.
    #[default]
    Default,
    None,
    At(u64),
}

impl Limit {
    fn or(self, default: u64) -> Option<u64> {
        match self {
            Self::Default => Some(default).filter(|limit| *limit > 0),
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// Both limits as they were set for one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub bytes: Limit,
    pub messages: Limit,
}

/// What holds for an account; None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub bytes: Option<u64>,
    pub messages: Option<u64>,
}

/// How full an account is, as far as warnings go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Low,
    Between,
    High,
}

/// Below this much less than the warning, another one may come.
const CALM: u64 = 10;

impl Limits {
    pub fn of(quota: Quota, config: &StoreConfig) -> Self {
        Self {
            bytes: quota.bytes.or(config.quota_bytes),
            messages: quota.messages.or(config.quota_messages),
        }
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// May an account keep so much?
    pub fn allow(&self, usage: Usage) -> bool {
        self.bytes.is_none_or(|most| usage.bytes <= most)
            && self.messages.is_none_or(|most| usage.messages <= most)
    }

    fn reaches(&self, usage: Usage, percent: u64) -> bool {
        let one = |used: u64, most: Option<u64>| {
            most.is_some_and(|most| {
                u128::from(used) * 100 >= u128::from(most) * u128::from(percent)
            })
        };
        one(usage.bytes, self.bytes) || one(usage.messages, self.messages)
    }

    /// Nothing more fits.
    pub fn are_met(&self, usage: Usage) -> bool {
        self.reaches(usage, 100)
    }

    pub(super) fn level(&self, usage: Usage, warn_percent: u64) -> Level {
        if self.is_none() || !self.reaches(usage, warn_percent.saturating_sub(CALM)) {
            Level::Low
        } else if self.reaches(usage, warn_percent) {
            Level::High
        } else {
            Level::Between
        }
    }
}

/// Is there room for a message?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    Yes,
    /// It depends on the size that it comes to.
    Perhaps,
    No,
}

/// A usage in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub usage: Usage,
    /// What whoever warns was last told.
    told: Level,
}

/// Accounts of which each metric has so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaFigures {
    /// At the warning or beyond, the full ones included.
    pub near: u64,
    /// Nothing more fits.
    pub full: u64,
}

impl Shared {
    pub(super) fn limits(&self, account: AccountId) -> Limits {
        let quota = self.directory.load().quota(account);
        Limits::of(quota, &self.options.config)
    }

    /// What is committed. Reads the index where nobody asked before.
    pub(super) fn usage(&self, account: AccountId) -> Result<Usage, StoreError> {
        let known = |shared: &Self| shared.usages.lock().get(&account).map(|c| c.usage);
        if let Some(usage) = known(self) {
            return Ok(usage);
        }
        beside(|| {
            let _guard = self.publish.lock();
            if let Some(usage) = known(self) {
                return Ok(usage);
            }
            if self.directory.load().account(account).is_none() {
                return Err(StoreError::NoAccount);
            }
            let mut usage = Usage::default();
            self.scan(&keys::account(b'M', account), &mut |_, value| {
                usage = usage.plus(Usage::of(&keys::decode(value)?));
                Ok(())
            })?;
            let counted = Counted {
                usage,
                told: Level::Between,
            };
            self.usages.lock().insert(account, counted);
            Ok(usage)
        })
    }

    /// A group is published. Whoever holds `publish` calls it, after the directory is stored.
    pub(super) fn move_usages(&self, tx: &Tx) {
        let directory = self.directory.load();
        let mut usages = self.usages.lock();
        let mut due = tx.requoted.clone();
        for (account, moved) in &tx.moved {
            let Some(counted) = usages.get_mut(account) else {
                continue;
            };
            counted.usage = moved.on(counted.usage);
            let limits = Limits::of(directory.quota(*account), &self.options.config);
            let level = limits.level(counted.usage, self.options.config.quota_warn_percent);
            if level != Level::Between && level != counted.told {
                counted.told = level;
                due.insert(*account);
            }
        }
        for account in &tx.gone {
            usages.remove(account);
        }
        drop(usages);
        self.unsettled(due);
    }

    /// Accounts that may have to be warned, or no more.
    fn unsettled(&self, due: impl IntoIterator<Item = AccountId>) {
        let mut all = self.unsettled.lock();
        all.extend(due);
        if !all.is_empty() {
            self.settle.notify_one();
        }
    }
}

impl Tx {
    /// Of an account as this group leaves it.
    pub(super) fn usage(&self, account: AccountId) -> Result<Usage, StoreError> {
        let new = self.shared.directory.load().account(account).is_none();
        let before = match new && self.directory.account(account).is_some() {
            true => Usage::default(),
            false => self.shared.usage(account)?,
        };
        let moved = self.moved.get(&account).copied().unwrap_or_default();
        Ok(moved.on(before))
    }

    fn limits(&self, account: AccountId) -> Limits {
        let quota = self.directory.quota(account);
        Limits::of(quota, &self.shared.options.config)
    }

    pub(super) fn is_limited(&self, account: AccountId) -> bool {
        !self.limits(account).is_none()
    }

    /// Refused where `more` would be over the account's limit. Of what does not become more
    /// there may be too much already.
    pub(super) fn within_quota(
        &self,
        account: AccountId,
        more: Usage,
        what: OverQuota,
    ) -> Result<(), StoreError> {
        let limits = self.limits(account);
        if limits.is_none() {
            return Ok(());
        }
        let mut after = self.usage(account)?.plus(more);
        if more.bytes == 0 {
            after.bytes = 0;
        }
        if more.messages == 0 {
            after.messages = 0;
        }
        if limits.allow(after) {
            return Ok(());
        }
        self.shared.telemetry.store.over_quota(what);
        Err(StoreError::OverQuota)
    }

    /// What a copy of these messages comes to.
    pub(super) fn sizes(
        &mut self,
        mailbox: MailboxKey,
        uids: &UidSet,
    ) -> Result<Usage, StoreError> {
        let snapshot = &self.mailbox(mailbox)?.snapshot;
        let there = uids.ranges().flat_map(|r| snapshot.range(r));
        let found: Vec<_> = there.map(|(_, m)| m.uid).collect();
        let mut all = Usage::default();
        for uid in found {
            let record = self.raw(&keys::message(mailbox, uid))?;
            let size = record.as_deref().and_then(keys::record_size);
            all = all.plus(Usage {
                bytes: size.unwrap_or(0),
                messages: 1,
            });
        }
        Ok(all)
    }

    /// What the owner was warned of.
    fn warned(&self, account: AccountId) -> Result<Option<Limits>, StoreError> {
        let value: Option<Vec<u8>> = self.get(&records::of_account(Kind::QuotaWarned, account))?;
        // One that makes no sense is as good as none.
        Ok(value.and_then(|value| records::decode(&value).ok()))
    }
}

impl Store {
    /// What the account keeps now.
    pub fn usage(&self, account: AccountId) -> Result<Usage, StoreError> {
        self.shared().usage(account)
    }

    /// The limits that hold for the account.
    pub fn limits(&self, account: AccountId) -> Limits {
        self.shared().limits(account)
    }

    /// Sets an account's limits; None leaves one as it is.
    pub async fn set_quota(
        &self,
        account: AccountId,
        bytes: Option<Limit>,
        messages: Option<Limit>,
    ) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            tx.directory.account(account).ok_or(StoreError::NoAccount)?;
            let before = tx.directory.quota(account);
            let quota = Quota {
                bytes: bytes.unwrap_or(before.bytes),
                messages: messages.unwrap_or(before.messages),
            };
            if quota == before {
                return Ok(());
            }
            if quota == Quota::default() {
                return tx.fact(records::remove(Kind::Quota, account));
            }
            tx.fact(records::put(Kind::Quota, account, &quota)?)
        })
        .await
    }

    /// Would a message fit that has between `least` and `most` bytes? Where that can't be told,
    /// the commit will.
    pub fn fits(&self, account: AccountId, least: u64, most: u64) -> Fits {
        let limits = self.limits(account);
        if limits.is_none() {
            return Fits::Yes;
        }
        let Ok(usage) = self.usage(account) else {
            return Fits::Perhaps;
        };
        let with = |bytes| limits.allow(usage.plus(Usage { bytes, messages: 1 }));
        match (with(least.max(1)), with(most)) {
            (false, _) => Fits::No,
            (true, false) => Fits::Perhaps,
            (true, true) => Fits::Yes,
        }
    }

    /// Refused where it is known before that so many messages are too many.
    pub(super) fn count_fits(&self, account: AccountId, messages: u64) -> Result<(), StoreError> {
        let limits = self.limits(account);
        let more = Usage { bytes: 0, messages };
        if limits.is_none() || limits.allow(self.usage(account)?.plus(more)) {
            return Ok(());
        }
        self.shared().telemetry.store.over_quota(OverQuota::Copy);
        Err(StoreError::OverQuota)
    }

    /// Sum of RFC822.SIZE of what is marked \Deleted (RFC 9208, 4.1.4). Reads the index.
    pub fn deleted_bytes(&self, mailbox: MailboxKey) -> Result<u64, StoreError> {
        if self.mailbox_status(mailbox)?.deleted == 0 {
            return Ok(0);
        }
        let snapshot = self.mailbox(mailbox)?.snapshot();
        let marked = snapshot
            .iter()
            .filter(|(_, m)| m.flags.system.contains(SystemFlags::DELETED));
        let mut sum = 0u64;
        for (_, message) in marked {
            let record = self.shared().raw(&keys::message(mailbox, message.uid))?;
            let size = record.as_deref().and_then(keys::record_size);
            sum = sum.saturating_add(size.unwrap_or(0));
        }
        Ok(sum)
    }

    /// Figures of all accounts that have limits. Reads the index the first time.
    pub fn quota_figures(&self) -> QuotaFigures {
        let shared = self.shared();
        let warn = shared.options.config.quota_warn_percent;
        let mut figures = QuotaFigures::default();
        for account in self.limited() {
            let limits = shared.limits(account);
            if let Ok(usage) = shared.usage(account) {
                figures.near += u64::from(limits.level(usage, warn) == Level::High);
                figures.full += u64::from(limits.are_met(usage));
            }
        }
        figures
    }

    /// Accounts that have a limit, in no order.
    fn limited(&self) -> Vec<AccountId> {
        let shared = self.shared();
        let directory = shared.directory.load();
        let config = &shared.options.config;
        let limited = |id: &AccountId| !Limits::of(directory.quota(*id), config).is_none();
        directory.accounts.keys().copied().filter(limited).collect()
    }

    /// For who warns, at its start: all that have a limit, or were warned of one. Reads the index.
    pub fn settle_all(&self) {
        let mut due = self.limited();
        let warned = records::key(Kind::QuotaWarned as u16, &[]);
        let scanned = self.shared().scan(&warned, &mut |key, _| {
            due.extend(records::account(Kind::QuotaWarned, key));
            Ok(())
        });
        if let Err(error) = scanned {
            tracing::warn!(%error, "who was warned of a quota could not be read");
        }
        self.shared().unsettled(due);
    }

    /// Accounts that may have to be warned, or no more; waits for the first. Cancel-safe.
    pub async fn unsettled(&self) -> Vec<AccountId> {
        loop {
            let all = std::mem::take(&mut *self.shared().unsettled.lock());
            if !all.is_empty() {
                return all.into_iter().collect();
            }
            self.shared().settle.notified().await;
        }
    }

    /// Gives them back, where that failed.
    pub fn still_unsettled(&self, accounts: Vec<AccountId>) {
        self.shared().unsettled(accounts);
    }

    /// Warns the account's owner where it is nearly full and he was not warned of these limits;
    /// one who keeps less again may be warned again. The mail and the note that it was sent are
    /// one commit. True where a mail was sent.
    pub async fn settle_quota(&self, account: AccountId) -> Result<bool, StoreError> {
        let Some(owner) = self.directory().account(account).cloned() else {
            return Ok(false);
        };
        let limits = self.limits(account);
        let warn = self.shared().options.config.quota_warn_percent;
        let usage = self.usage(account)?;
        let now = self.now();
        let high = limits.level(usage, warn) == Level::High && !owner.disabled;
        let text = high.then(|| {
            let resource = |used: u64, most: Option<u64>| most.map(|most| (used, most));
            let text = notice::QuotaWarning {
                to: &owner.address,
                bytes: resource(usage.bytes, limits.bytes),
                messages: resource(usage.messages, limits.messages),
                at: now.0,
            };
            Prepared::from_bytes(text.write().into())
        });
        let body = match &text {
            Some(text) => Some((self.settle(text).await?, text.clone())),
            None => None,
        };
        let sent = self.commit(2048, move |tx| {
            if tx.limits(account) != limits {
                // Whoever changed them has said so, and it is looked at again.
                return Ok(false);
            }
            let level = limits.level(tx.usage(account)?, warn);
            let warned = tx.warned(account)?;
            let stale = level == Level::Low || warned != Some(limits);
            let untold = level == Level::Between || body.is_none() && level == Level::High && stale;
            // What comes to the warning after this is told again.
            if untold && let Some(counted) = tx.shared.usages.lock().get_mut(&account) {
                counted.told = Level::Between;
            }
            if warned.is_some() && stale {
                tx.fact(records::remove(Kind::QuotaWarned, account))?;
            }
            match body {
                Some((body, text)) if level == Level::High && stale => {
                    tx.room()?;
                    let to = Recipient {
                        account,
                        mailbox: None,
                        flags: vec![],
                        prefix: crate::mail::trace::recipient_prefix(
                            "",
                            &owner.address.to_string(),
                        ),
                    };
                    tx.deliver(body, text, now, vec![to], false)?;
                    tx.fact(records::put(Kind::QuotaWarned, account, &limits)?)?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        });
        let sent = sent.await?;
        if sent {
            let percent = self.shared().options.config.quota_warn_percent;
            self.shared().telemetry.store.quota_warned(account, percent);
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64, messages: u64) -> Usage {
        Usage { bytes, messages }
    }

    #[test]
    fn levels_of_either_limit() {
        let limits = Limits {
            bytes: Some(1000),
            messages: Some(10),
        };
        for (used, level) in [
            (usage(0, 0), Level::Low),
            (usage(799, 7), Level::Low),
            (usage(800, 0), Level::Between),
            (usage(899, 8), Level::Between),
            (usage(900, 0), Level::High),
            (usage(0, 9), Level::High),
            (usage(u64::MAX, u64::MAX), Level::High),
        ] {
            assert_eq!(limits.level(used, 90), level, "{used:?}");
        }
        assert!(limits.allow(usage(1000, 10)) && limits.are_met(usage(1000, 0)));
        assert!(!limits.allow(usage(1001, 0)) && !limits.allow(usage(0, 11)));
        let none = Limits::default();
        assert_eq!(none.level(usage(u64::MAX, u64::MAX), 1), Level::Low);
        assert!(none.allow(usage(u64::MAX, u64::MAX)));
    }

    #[test]
    fn what_was_set_goes_before_the_default() {
        let config = StoreConfig {
            quota_bytes: 5000,
            quota_messages: 0,
            ..StoreConfig::default()
        };
        for (bytes, messages, limits) in [
            (Limit::Default, Limit::Default, (Some(5000), None)),
            (Limit::None, Limit::At(3), (None, Some(3))),
            (Limit::At(u64::MAX), Limit::None, (Some(u64::MAX), None)),
        ] {
            let found = Limits::of(Quota { bytes, messages }, &config);
            assert_eq!((found.bytes, found.messages), limits);
        }
    }
}
