//! The store's face, continued: messages that come, change and go. They are read in `reading`.
//!
//! May import: types.

use std::time::Duration;

use super::committer::free_bytes;
use super::error::StoreError;
use super::handle::Store;
use super::model::*;
use super::ops::{Entry, Op, Origin};
use super::prepared::{Prepared, Settled};
use super::shared::now;
use super::spool::{self, Spool};
use super::state::Tx;
use crate::types::{Flag, Flags, MailboxKey, ModSeq, SystemFlags, Uid, UidSet, UnixMillis};

/// Longest header lines put in front for one recipient.
const MAX_PREFIX: usize = 1024;

impl Tx {
    /// Bits for flags. A new keyword gets a free one, or where there is none that of a keyword
    /// which no message carries any more, unless `held` has it: bits that messages of this change
    /// will carry once it is applied.
    fn bits(
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

    fn next(&mut self, mailbox: MailboxKey) -> Result<(Uid, ModSeq), StoreError> {
        let record = self.mailbox(mailbox)?.snapshot.record;
        if record.uid_next.0 == u32::MAX {
            return Err(StoreError::Limit("UIDs of a mailbox"));
        }
        Ok((record.uid_next, ModSeq(record.highest_modseq.0 + 1)))
    }

    fn room(&self) -> Result<(), StoreError> {
        if self.room {
            Ok(())
        } else {
            Err(StoreError::DiskFull)
        }
    }

    fn store_body(&mut self, body: Settled) -> Option<super::log::BlobPlace> {
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

    /// COPY, or MOVE where `take` is true.
    pub(super) fn transfer(
        &mut self,
        from: MailboxKey,
        uids: &UidSet,
        to: MailboxKey,
        take: bool,
    ) -> Result<Copied, StoreError> {
        let source = &self.mailbox(from)?.snapshot;
        let names = source.keywords().clone();
        let found: Vec<_> = uids
            .ranges()
            .flat_map(|r| source.range(r).map(|(_, m)| m))
            .collect();
        let uid_validity = self.mailbox(to)?.snapshot.uid_validity();
        if found.is_empty() {
            return Ok(Copied {
                uid_validity,
                source: vec![],
                target: vec![],
            });
        }
        let (first, modseq) = self.next(to)?;
        let last = u32::try_from(found.len())
            .ok()
            .and_then(|n| first.0.checked_add(n));
        last.filter(|last| *last < u32::MAX)
            .ok_or(StoreError::Limit("UIDs of a mailbox"))?;
        let mut entries = Vec::with_capacity(found.len());
        let mut held = 0;
        for (message, uid) in found.iter().zip(first.0..) {
            let keywords: Vec<Flag> = names
                .iter()
                .enumerate()
                .filter(|(bit, _)| message.flags.keywords & (1 << bit) != 0)
                .map(|(_, name)| Flag::Keyword(name.clone()))
                .collect();
            let keywords = self.bits(to, &keywords, &mut held)?.keywords;
            entries.push((
                message.uid,
                Uid(uid),
                Flags {
                    keywords,
                    ..message.flags
                },
            ));
        }
        let source: Vec<Uid> = found.iter().map(|m| m.uid).collect();
        let target = entries.iter().map(|(_, uid, _)| *uid).collect();
        self.fact(Op::Copy {
            from,
            to,
            modseq,
            saved: self.now,
            entries,
        })?;
        if take {
            let (_, modseq) = self.next(from)?;
            let uids = source.iter().map(|u| u.0).collect();
            self.fact(Op::Expunge {
                mailbox: from,
                modseq,
                uids,
            })?;
        }
        Ok(Copied {
            uid_validity,
            source,
            target,
        })
    }
}

impl Store {
    /// For a message that comes in; up to `limit` bytes of it stay in memory.
    pub fn spool(&self, limit: usize) -> Spool {
        let (room, units) = self.room_in_memory();
        let dir = spool::directory(&self.shared().options.dir);
        Spool::new(dir, limit, room, units)
    }

    /// Would `size` more bytes leave what is kept free? Where that can't be told, yes.
    pub fn has_room(&self, size: u64) -> bool {
        let options = &self.shared().options;
        let needed = options.config.reserve_bytes.saturating_add(size);
        free_bytes(&options.dir).is_none_or(|free| free >= needed)
    }

    /// False while the disk is nearly full, or nothing can be changed at all.
    pub fn takes_mail(&self) -> bool {
        self.is_writable() && self.has_room(0)
    }

    async fn settle(&self, message: &Prepared) -> Result<Settled, StoreError> {
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
            let mut targets = Vec::with_capacity(recipients.len());
            for recipient in recipients {
                let inbox = match tx.inbox(recipient.account) {
                    Err(StoreError::NoAccount) => continue,
                    inbox => inbox?,
                };
                let asked = recipient
                    .mailbox
                    .map(|mailbox| MailboxKey { mailbox, ..inbox });
                let mailbox = match asked.map(|key| tx.mailbox(key).map(|_| key)) {
                    Some(Err(StoreError::NoMailbox)) | None => inbox,
                    Some(found) => found?,
                };
                tx.next(mailbox)?;
                targets.push((mailbox, recipient));
            }
            if targets.is_empty() {
                return Err(StoreError::NoAccount);
            }
            let mut entries: Vec<Entry> = Vec::with_capacity(targets.len());
            let mut delivered = Vec::with_capacity(targets.len());
            for (mailbox, recipient) in targets {
                let (mut uid, mut modseq) = tx.next(mailbox)?;
                // Entries of this fact are not applied yet.
                let before = entries.iter().filter(|e| e.mailbox == mailbox).count() as u32;
                uid.0 = uid.0.saturating_add(before);
                modseq.0 += u64::from(before);
                let flags = tx.bits_with_room(mailbox, &recipient.flags, &entries)?;
                let uid_validity = tx.mailbox(mailbox)?.snapshot.uid_validity();
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
                saved: tx.now,
                summary: message.summary,
            };
            let large = tx.store_body(body);
            tx.fact(Op::Arrive {
                origin: Origin::Delivery,
                large,
                record,
                entries,
            })?;
            Ok(delivered)
        })
        .await
    }

    /// APPEND. `zone` is minutes east of UTC. Refused where a keyword finds no room.
    pub async fn append(
        &self,
        to: MailboxKey,
        message: Prepared,
        flags: Vec<Flag>,
        date: UnixMillis,
        zone: i16,
    ) -> Result<Delivered, StoreError> {
        let body = self.settle(&message).await?;
        self.commit(body.weight() + 512, move |tx| {
            tx.room()?;
            let (uid, modseq) = tx.next(to)?;
            let flags = tx.bits(to, &flags, &mut 0)?;
            let uid_validity = tx.mailbox(to)?.snapshot.uid_validity();
            let record = MessageRecord {
                blob: message.id()?,
                prefix: Vec::new(),
                size: message.raw_len(),
                internal_date: date,
                internal_zone: zone,
                saved: tx.now,
                summary: message.summary,
            };
            let large = tx.store_body(body);
            let entries = vec![Entry {
                mailbox: to,
                uid,
                modseq,
                flags,
                prefix: Vec::new(),
            }];
            tx.fact(Op::Arrive {
                origin: Origin::Append,
                large,
                record,
                entries,
            })?;
            Ok(Delivered {
                mailbox: to,
                uid_validity,
                uid,
                modseq,
            })
        })
        .await
    }

    /// All or nothing: refused where a keyword finds no room.
    pub async fn store_flags(
        &self,
        mailbox: MailboxKey,
        uids: UidSet,
        action: FlagAction,
        flags: Vec<Flag>,
        unchanged_since: Option<ModSeq>,
    ) -> Result<FlagsChanged, StoreError> {
        self.commit(64, move |tx| {
            let mut result = FlagsChanged::default();
            let snapshot = &tx.mailbox(mailbox)?.snapshot;
            let known = snapshot.keywords().clone();
            let there = |f: &Flag| match f {
                Flag::System(_) => true,
                Flag::Keyword(name) => known.iter().any(|k| k.eq_ignore_ascii_case(name)),
            };
            let concerned = uids
                .ranges()
                .flat_map(|r| snapshot.range(r))
                .any(|(_, m)| unchanged_since.is_none_or(|since| m.modseq <= since));
            // Keywords that are not in the table are on no message, and get there only with one.
            let flags: Vec<Flag> = match action {
                FlagAction::Replace | FlagAction::Add if concerned => flags,
                _ => flags.into_iter().filter(there).collect(),
            };
            let bits = tx.bits(mailbox, &flags, &mut 0)?;
            let modseq = ModSeq(tx.mailbox(mailbox)?.snapshot.record.highest_modseq.0 + 1);
            let mut changes = Vec::new();
            let snapshot = &tx.mailbox(mailbox)?.snapshot;
            for message in uids
                .ranges()
                .flat_map(|r| snapshot.range(r).map(|(_, m)| m))
            {
                if unchanged_since.is_some_and(|since| message.modseq > since) {
                    result.modified.insert(message.uid.0);
                    continue;
                }
                let old = message.flags;
                let new = match action {
                    FlagAction::Replace => bits,
                    FlagAction::Add => Flags {
                        system: old.system.with(bits.system),
                        keywords: old.keywords | bits.keywords,
                    },
                    FlagAction::Remove => Flags {
                        system: old.system.without(bits.system),
                        keywords: old.keywords & !bits.keywords,
                    },
                };
                if new != old {
                    changes.push((message.uid, new));
                    result.changed.push((message.uid, new, modseq));
                }
            }
            if !changes.is_empty() {
                tx.fact(Op::SetFlags {
                    mailbox,
                    modseq,
                    changes,
                })?;
            }
            Ok(result)
        })
        .await
    }

    /// Messages that are gone already are left out (RFC 9051, 6.4.7 leaves the choice).
    pub async fn copy(
        &self,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        self.commit(1024, move |tx| {
            tx.room()?;
            tx.transfer(from, &uids, to, false)
        })
        .await
    }

    /// Moving needs no room to speak of, so a full disk does not stop it. To the same mailbox
    /// it gives the messages new UIDs (RFC 6851 allows it).
    pub async fn move_messages(
        &self,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        self.commit(1024, move |tx| tx.transfer(from, &uids, to, true))
            .await
    }

    /// Removes those of `uids` (None: all) that carry \Deleted. Gives what went.
    pub async fn expunge(
        &self,
        mailbox: MailboxKey,
        uids: Option<UidSet>,
    ) -> Result<Vec<Uid>, StoreError> {
        self.commit(64, move |tx| {
            let uids = uids.unwrap_or_else(|| UidSet::from_ranges([(1, u32::MAX)]));
            let snapshot = &tx.mailbox(mailbox)?.snapshot;
            let gone: Vec<Uid> = uids
                .ranges()
                .flat_map(|r| snapshot.range(r).map(|(_, m)| m))
                .filter(|m| m.flags.system.contains(SystemFlags::DELETED))
                .map(|m| m.uid)
                .collect();
            if !gone.is_empty() {
                let modseq = ModSeq(snapshot.record.highest_modseq.0 + 1);
                let uids = gone.iter().map(|u| u.0).collect();
                tx.fact(Op::Expunge {
                    mailbox,
                    modseq,
                    uids,
                })?;
            }
            Ok(gone)
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
