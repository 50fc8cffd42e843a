//! The store's face, continued: messages that come in. They change and go in `bulk`, and are read
//! in `reading`.
//!
//! May import: telemetry, types.

use std::collections::HashMap;
use std::time::Duration;

use super::ballast;
use super::clock::now;
use super::error::StoreError;
use super::handle::Store;
use super::model::*;
use super::ops::{Entry, Op, Origin};
use super::prepared::{Prepared, Settled};
use super::quota::Usage;
use super::spool::{self, Spool};
use super::state::Tx;
use crate::telemetry::OverQuota;
use crate::types::{AccountId, Flag, Flags, MailboxKey, ModSeq, Uid, UnixMillis};

/// Longest header lines put in front for one recipient.
const MAX_PREFIX: usize = 1024;

impl Tx {
    /// Bits for flags. A new keyword gets a free one, or where there is none that of a keyword
    /// which no message carries any more, unless `held` has it: bits that messages of this change
    /// will carry once it is applied.
    pub(super) fn bits(
        &mut self,
        mailbox: MailboxKey,
        flags: &[Flag],
        held: &mut u64,
    ) -> Result<Flags, StoreError> {
        let mut bits = Flags::default();
        for flag in flags {
            match flag {
                Flag::System(flag) => bits.system = bits.system.with(*flag),
                Flag::Keyword(name) => {
                    let snapshot = &self.mailbox(mailbox)?.snapshot;
                    let known = snapshot.keywords();
                    let at = known.iter().position(|k| k.eq_ignore_ascii_case(name));
                    let bit = match at {
                        Some(at) => 1 << at,
                        None => {
                            let bit = snapshot
                                .free_keyword(*held)
                                .ok_or(StoreError::Limit("keywords of a mailbox"))?;
                            let name = name.clone();
                            self.fact(Op::Keyword { mailbox, bit, name })?;
                            1 << bit
                        }
                    };
                    bits.keywords |= bit;
                    *held |= bit;
                }
            }
        }
        Ok(bits)
    }

    /// For a delivery, which must not fail for a keyword: one that finds no room is left out.
    fn bits_with_room(
        &mut self,
        mailbox: MailboxKey,
        flags: &[Flag],
        before: &[Entry],
    ) -> Result<Flags, StoreError> {
        let here = before.iter().filter(|e| e.mailbox == mailbox);
        let mut held = here.fold(0, |held, e| held | e.flags.keywords);
        let mut bits = Flags::default();
        for flag in flags {
            match self.bits(mailbox, std::slice::from_ref(flag), &mut held) {
                Ok(more) => {
                    bits.system = bits.system.with(more.system);
                    bits.keywords |= more.keywords;
                }
                Err(StoreError::Limit(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bits)
    }

    pub(super) fn next(&mut self, mailbox: MailboxKey) -> Result<(Uid, ModSeq), StoreError> {
        let record = self.mailbox(mailbox)?.snapshot.record;
        if record.uid_next.0 == u32::MAX {
            return Err(StoreError::Limit("UIDs of a mailbox"));
        }
        Ok((record.uid_next, ModSeq(record.highest_modseq.0 + 1)))
    }

    /// Refused where `more` messages are more than a mailbox may have.
    pub(super) fn room_in(&mut self, mailbox: MailboxKey, more: usize) -> Result<(), StoreError> {
        let most = self.shared.options.config.max_messages_per_mailbox;
        let there = self.mailbox(mailbox)?.snapshot.len() as usize;
        if there.saturating_add(more) > most {
            return Err(StoreError::MailboxFull);
        }
        Ok(())
    }

    pub(super) fn room(&self) -> Result<(), StoreError> {
        if self.room {
            Ok(())
        } else {
            Err(StoreError::DiskFull)
        }
    }

    pub(super) fn store_body(&mut self, body: Settled) -> Option<super::log::BlobPlace> {
        match body {
            Settled::Inline(data) => {
                self.blobs.push(data);
                None
            }
            Settled::Placed(placed) => {
                let place = placed.place;
                self.placed.push(placed);
                Some(place)
            }
        }
    }

    /// One body for all, or for none. `limited`: not where that is over an account's quota.
    pub(super) fn deliver(
        &mut self,
        body: Settled,
        message: Prepared,
        received: UnixMillis,
        recipients: Vec<Recipient>,
        limited: bool,
    ) -> Result<Vec<Delivered>, StoreError> {
        let mut wanted: HashMap<AccountId, Usage> = HashMap::new();
        let mut targets = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let inbox = match self.inbox(recipient.account) {
                Err(StoreError::NoAccount) => continue,
                inbox => inbox?,
            };
            let asked = recipient
                .mailbox
                .map(|mailbox| MailboxKey { mailbox, ..inbox });
            let mailbox = match asked.map(|key| self.mailbox(key).map(|_| key)) {
                Some(Err(StoreError::NoMailbox)) | None => inbox,
                Some(found) => found?,
            };
            self.next(mailbox)?;
            let before = targets.iter().filter(|(to, _)| *to == mailbox).count();
            self.room_in(mailbox, before + 1)?;
            let more = wanted.entry(recipient.account).or_default();
            *more = more.plus(Usage {
                bytes: message.raw_len() + recipient.prefix.len() as u64,
                messages: 1,
            });
            targets.push((mailbox, recipient));
        }
        if targets.is_empty() {
            return Err(StoreError::NoAccount);
        }
        for (account, more) in wanted.into_iter().filter(|_| limited) {
            self.within_quota(account, more, OverQuota::Delivery)?;
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(targets.len());
        let mut delivered = Vec::with_capacity(targets.len());
        for (mailbox, recipient) in targets {
            let (mut uid, mut modseq) = self.next(mailbox)?;
            // Entries of this fact are not applied yet.
            let before = entries.iter().filter(|e| e.mailbox == mailbox).count() as u32;
            uid.0 = uid.0.saturating_add(before);
            modseq.0 += u64::from(before);
            let flags = self.bits_with_room(mailbox, &recipient.flags, &entries)?;
            let uid_validity = self.mailbox(mailbox)?.snapshot.uid_validity();
            delivered.push(Delivered {
                mailbox,
                uid_validity,
                uid,
                modseq,
            });
            entries.push(Entry {
                mailbox,
                uid,
                modseq,
                flags,
                prefix: recipient.prefix,
            });
        }
        let record = MessageRecord {
            blob: message.id()?,
            prefix: Vec::new(),
            size: message.raw_len(),
            internal_date: received,
            internal_zone: 0,
            saved: self.now,
            summary: message.summary,
        };
        let large = self.store_body(body);
        self.fact(Op::Arrive {
            origin: Origin::Delivery,
            large,
            record,
            entries,
        })?;
        Ok(delivered)
    }
}

impl Store {
    /// For a message that comes in; up to `limit` bytes of it stay in memory.
    pub fn spool(&self, limit: usize) -> Spool {
        let dir = spool::directory(&self.shared().options.dir);
        Spool::new(dir, limit, self.room_in_memory(), self.arrivals())
    }

    /// Would `size` more bytes leave what is kept free? Where that can't be told, yes.
    pub fn has_room(&self, size: u64) -> bool {
        ballast::leaves_room(self.shared(), size)
    }

    /// False where the account's INBOX takes no more messages. Where that can't be told, true.
    pub fn has_room_for(&self, account: AccountId) -> bool {
        let inbox = |list: &MailboxList| list.find("INBOX").map(|info| info.key);
        let list = self.mailboxes(account).ok();
        let inbox = list.as_deref().and_then(inbox);
        inbox.is_none_or(|inbox| self.has_room_in(inbox, 1) != Err(StoreError::MailboxFull))
    }

    /// False while the disk is nearly full, or nothing can be changed at all.
    pub fn takes_mail(&self) -> bool {
        self.is_writable() && self.has_room(0)
    }

    pub(super) async fn settle(&self, message: &Prepared) -> Result<Settled, StoreError> {
        let blobs = self.shared().blobs.clone();
        if !message.is_large() {
            return message.settle(&blobs);
        }
        // It would eat what is kept free before the committer sees it.
        if !self.has_room(message.raw_len()) {
            return Err(StoreError::DiskFull);
        }
        let message = message.clone();
        let settled = tokio::task::spawn_blocking(move || message.settle(&blobs)).await;
        settled.map_err(|_| StoreError::Closed)?
    }

    /// Stores the body once and one entry per recipient, all in one commit. An account that was
    /// removed meanwhile is left out, unless none is left.
    pub async fn deliver(
        &self,
        message: Prepared,
        received: UnixMillis,
        recipients: Vec<Recipient>,
    ) -> Result<Vec<Delivered>, StoreError> {
        if recipients.is_empty() {
            return Err(StoreError::Invalid("no recipient"));
        }
        if recipients.iter().any(|r| r.prefix.len() > MAX_PREFIX) {
            return Err(StoreError::Limit("header lines of a recipient"));
        }
        let body = self.settle(&message).await?;
        self.commit(body.weight() + 512 * recipients.len(), move |tx| {
            tx.room()?;
            tx.deliver(body, message, received, recipients, true)
        })
        .await
    }

    /// The time by the store's clock, for those who compare with what it wrote.
    pub fn now(&self) -> UnixMillis {
        now()
    }

    /// How long ago the group of this time was committed: to less than a millisecond where this
    /// process did it lately, else by the wall clock.
    pub fn since_commit(&self, at: UnixMillis) -> Duration {
        match self.shared().ring.moment(at) {
            Some(moment) => moment.elapsed(),
            None => Duration::from_millis(now().since(at)),
        }
    }
}
