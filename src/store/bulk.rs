//! The store's face, continued: changes of any number of messages.
//!
//! A large change is cut into slices, each a commit of its own that waits its turn behind what
//! others want: nobody waits for more than a slice, and no group is larger than one.
//!
//! May import: telemetry, types.

use super::error::StoreError;
use super::handle::Store;
use super::model::*;
use super::ops::Op;
use super::state::Tx;
use super::unchanged::Unchanged;
use crate::telemetry::OverQuota;
use crate::types::{Flag, Flags, MailboxKey, ModSeq, SystemFlags, Uid, UidSet};

/// Messages of a slice of work that nobody waits for as a whole.
pub(super) const SLICE: usize = 1000;

/// A client's command is one commit for so many messages, then one more. (Tests want to see
/// several.)
const COMMAND: usize = if cfg!(test) { SLICE } else { 10_000 };

/// A COPY of at most so many messages is one commit: it happens or does not (RFC 9051, 6.4.7).
/// A larger one is taken back where it fails.
const COPY_WHOLE: usize = 10_000;

/// At least one, so that a change of nothing is checked as any other.
fn slices(found: &[u32], size: usize) -> Vec<UidSet> {
    if found.is_empty() {
        return vec![UidSet::new()];
    }
    let chunks = found.chunks(size);
    chunks.map(|c| c.iter().copied().collect()).collect()
}

/// Goes on when whoever asked for it goes away.
pub(super) async fn to_its_end<R: Send + 'static>(
    work: impl Future<Output = Result<R, StoreError>> + Send + 'static,
) -> Result<R, StoreError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or(Err(StoreError::Closed))
}

impl Copied {
    fn add(&mut self, part: Self) {
        self.source.extend(part.source);
        self.target.extend(part.target);
    }
}

impl Tx {
    /// COPY, or MOVE where `take` is true.
    fn transfer(
        &mut self,
        from: MailboxKey,
        uids: &UidSet,
        to: MailboxKey,
        take: bool,
    ) -> Result<Copied, StoreError> {
        if !(take && from == to) {
            let source = &self.mailbox(from)?.snapshot;
            let more = uids.ranges().flat_map(|r| source.range(r)).count();
            self.room_in(to, more)?;
        }
        // What moves within the account makes it no fuller.
        if !(take && from.account == to.account) && self.is_limited(to.account) {
            let more = self.sizes(from, uids)?;
            self.within_quota(to.account, more, OverQuota::Copy)?;
        }
        self.carry(from, uids, to, take)
    }

    /// COPY, or MOVE where `take` is true, whatever the target may hold.
    pub(super) fn carry(
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
                failed: None,
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
            let keywords = match self.settable.keywords {
                true => self.bits(to, &keywords, &mut held)?.keywords,
                false => 0,
            };
            let flags = Flags {
                keywords,
                ..message.flags
            };
            // RFC 4314, 4: the others do not come along.
            let flags = self.settable.change(Flags::default(), flags);
            entries.push((message.uid, Uid(uid), flags));
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
            failed: None,
        })
    }

    /// Something of the mailbox changed that is no message (RFC 7162, 3.2).
    pub(super) fn raise_modseq(&mut self, mailbox: MailboxKey) -> Result<(), StoreError> {
        let record = self.mailbox(mailbox)?.snapshot.record;
        self.fact(Op::MailboxFloor {
            mailbox,
            uid_next: record.uid_next,
            highest_modseq: ModSeq(record.highest_modseq.0 + 1),
        })
    }

    /// Expunges what is there of `uids`, marked or not, but at most `most` messages.
    pub(super) fn purge(
        &mut self,
        mailbox: MailboxKey,
        uids: &UidSet,
        most: usize,
    ) -> Result<(), StoreError> {
        let snapshot = &self.mailbox(mailbox)?.snapshot;
        let modseq = ModSeq(snapshot.record.highest_modseq.0 + 1);
        let there = uids.ranges().flat_map(|r| snapshot.range(r));
        let uids: UidSet = there.take(most).map(|(_, m)| m.uid.0).collect();
        if uids.is_empty() {
            return Ok(());
        }
        self.fact(Op::Expunge {
            mailbox,
            modseq,
            uids,
        })
    }
}

impl Store {
    /// The UIDs of `uids` that are there now.
    fn found(
        &self,
        mailbox: MailboxKey,
        uids: &UidSet,
        concerned: impl Fn(&Message) -> bool,
    ) -> Result<Vec<u32>, StoreError> {
        let snapshot = self.mailbox(mailbox)?.snapshot();
        let there = uids.ranges().flat_map(|r| snapshot.range(r));
        let found = there.filter(|(_, m)| concerned(m)).map(|(_, m)| m.uid.0);
        Ok(found.collect())
    }

    /// Refused where a keyword finds no room: then nothing is changed. After another failure
    /// some messages may have changed.
    pub async fn store_flags(
        &self,
        mailbox: MailboxKey,
        uids: UidSet,
        action: FlagAction,
        flags: Vec<Flag>,
        unchanged: Option<Unchanged>,
    ) -> Result<FlagsChanged, StoreError> {
        let mut all = FlagsChanged::default();
        for uids in slices(&self.found(mailbox, &uids, |_| true)?, COMMAND) {
            // The first slice gives keywords their places, or is refused; the messages that have
            // them keep them.
            let part = self.store_slice(mailbox, uids, action, flags.clone(), unchanged.clone());
            let part = part.await?;
            all.changed.extend(part.changed);
            part.modified
                .iter()
                .for_each(|uid| all.modified.insert(uid));
        }
        Ok(all)
    }

    async fn store_slice(
        &self,
        mailbox: MailboxKey,
        uids: UidSet,
        action: FlagAction,
        flags: Vec<Flag>,
        unchanged: Option<Unchanged>,
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
                .any(|(_, m)| unchanged.as_ref().is_none_or(|u| u.may_hold(&m)));
            // Keywords that are not in the table are on no message, and get there only with one.
            let flags: Vec<Flag> = match action {
                FlagAction::Replace | FlagAction::Add if concerned => flags,
                _ => flags.into_iter().filter(there).collect(),
            };
            let settable = tx.settable;
            let flags: Vec<Flag> = flags.into_iter().filter(|f| settable.has(f)).collect();
            let bits = tx.bits(mailbox, &flags, &mut 0)?;
            let modseq = ModSeq(tx.mailbox(mailbox)?.snapshot.record.highest_modseq.0 + 1);
            let mut changes = Vec::new();
            let snapshot = &tx.mailbox(mailbox)?.snapshot;
            for message in uids
                .ranges()
                .flat_map(|r| snapshot.range(r).map(|(_, m)| m))
            {
                let holds = |u: &Unchanged| u.holds(&message, action, bits, snapshot.keywords());
                if !unchanged.as_ref().is_none_or(holds) {
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
                let new = settable.change(old, new);
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

    /// Messages that are gone already are left out (RFC 9051, 6.4.9). Where it fails, the target
    /// is as it was.
    pub async fn copy(
        &self,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        self.copy_in(COPY_WHOLE, from, uids, to).await
    }

    /// Exactly these messages, or none where one of them is gone (RFC 9051, 6.4.7; RFC 2180, 4.4).
    pub async fn copy_exactly(
        &self,
        from: MailboxKey,
        uids: &UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        self.copy_those(COPY_WHOLE, from, uids.iter().collect(), to)
            .await
    }

    /// Up to `whole` messages in one commit.
    pub(super) async fn copy_in(
        &self,
        whole: usize,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        let found = self.found(from, &uids, |_| true)?;
        self.copy_found(whole, from, found, to, false).await
    }

    /// As `copy_exactly`; up to `whole` messages in one commit.
    pub(super) async fn copy_those(
        &self,
        whole: usize,
        from: MailboxKey,
        uids: Vec<u32>,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        self.copy_found(whole, from, uids, to, true).await
    }

    async fn copy_found(
        &self,
        whole: usize,
        from: MailboxKey,
        found: Vec<u32>,
        to: MailboxKey,
        exactly: bool,
    ) -> Result<Copied, StoreError> {
        if found.len() <= whole {
            let uids = found.into_iter().collect();
            return self.copy_slice(from, uids, to, exactly).await;
        }
        self.has_room_in(to, found.len())?;
        self.count_fits(to.account, found.len() as u64)?;
        let store = self.clone();
        to_its_end(async move { store.copy_slices(from, &found, to, exactly).await }).await
    }

    /// Where `exactly` is true, nothing is copied unless all of `uids` are there.
    async fn copy_slice(
        &self,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
        exactly: bool,
    ) -> Result<Copied, StoreError> {
        self.commit(1024, move |tx| {
            tx.room()?;
            if exactly {
                let source = &tx.mailbox(from)?.snapshot;
                let there = uids.ranges().flat_map(|r| source.range(r)).count();
                if there as u64 != uids.len() {
                    return Err(StoreError::Expunged);
                }
            }
            tx.transfer(from, &uids, to, false)
        })
        .await
    }

    async fn copy_slices(
        &self,
        from: MailboxKey,
        found: &[u32],
        to: MailboxKey,
        exactly: bool,
    ) -> Result<Copied, StoreError> {
        let mut all: Option<Copied> = None;
        for uids in slices(found, SLICE) {
            match (self.copy_slice(from, uids, to, exactly).await, &mut all) {
                (Ok(part), Some(all)) => all.add(part),
                (Ok(part), None) => all = Some(part),
                (Err(error), done) => {
                    let copied = done.take().map_or(Vec::new(), |done| done.target);
                    let copied: Vec<u32> = copied.iter().map(|uid| uid.0).collect();
                    self.take_back(to, &copied).await;
                    return Err(error);
                }
            }
        }
        all.ok_or(StoreError::NoMailbox)
    }

    async fn take_back(&self, mailbox: MailboxKey, copied: &[u32]) {
        for uids in slices(copied, SLICE) {
            let gone = self.commit(64, move |tx| tx.purge(mailbox, &uids, SLICE));
            match gone.await {
                Ok(()) => {}
                Err(StoreError::NoMailbox) => return,
                Err(error) => {
                    tracing::warn!(%error, "part of a COPY that failed remains");
                    return;
                }
            }
        }
    }

    /// Refused where it is known before that the mailbox has no room.
    pub(super) fn has_room_in(&self, mailbox: MailboxKey, more: usize) -> Result<(), StoreError> {
        let most = self.shared().options.config.max_messages_per_mailbox;
        let there = self.mailbox_status(mailbox)?.messages as usize;
        if there.saturating_add(more) > most {
            return Err(StoreError::MailboxFull);
        }
        Ok(())
    }

    /// Moving needs no room to speak of, so a full disk does not stop it. To the same mailbox
    /// it gives the messages new UIDs (RFC 6851 allows it). Each message is moved or not; where
    /// it fails in the middle, what was moved is told with the error (RFC 6851, 3.3).
    pub async fn move_messages(
        &self,
        from: MailboxKey,
        uids: UidSet,
        to: MailboxKey,
    ) -> Result<Copied, StoreError> {
        let found = self.found(from, &uids, |_| true)?;
        if from != to && found.len() > COMMAND {
            self.has_room_in(to, found.len())?;
        }
        let mut all: Option<Copied> = None;
        for uids in slices(&found, COMMAND) {
            let part = self.commit(1024, move |tx| tx.transfer(from, &uids, to, true));
            match (part.await, &mut all) {
                (Ok(part), Some(all)) => all.add(part),
                (Ok(part), None) => all = Some(part),
                (Err(error), None) => return Err(error),
                (Err(error), Some(all)) => {
                    all.failed = Some(error);
                    break;
                }
            }
        }
        all.ok_or(StoreError::NoMailbox)
    }

    /// All of `found`, whatever the target may hold.
    pub(super) async fn carry(
        &self,
        from: MailboxKey,
        found: &[u32],
        to: MailboxKey,
    ) -> Result<(), StoreError> {
        for uids in slices(found, SLICE) {
            self.commit(1024, move |tx| tx.carry(from, &uids, to, true))
                .await?;
        }
        Ok(())
    }

    /// Removes those of `uids` (None: all) that carry \Deleted. Gives what went.
    pub async fn expunge(
        &self,
        mailbox: MailboxKey,
        uids: Option<UidSet>,
    ) -> Result<Vec<Uid>, StoreError> {
        let uids = uids.unwrap_or_else(|| UidSet::from_ranges([(1, u32::MAX)]));
        let marked = |m: &Message| m.flags.system.contains(SystemFlags::DELETED);
        let mut all = Vec::new();
        for uids in slices(&self.found(mailbox, &uids, marked)?, COMMAND) {
            let gone = self.commit(64, move |tx| {
                let snapshot = &tx.mailbox(mailbox)?.snapshot;
                let there = uids.ranges().flat_map(|r| snapshot.range(r));
                let gone: Vec<Uid> = there
                    .filter(|(_, m)| marked(m))
                    .map(|(_, m)| m.uid)
                    .collect();
                let uids = gone.iter().map(|uid| uid.0).collect();
                tx.purge(mailbox, &uids, COMMAND)?;
                Ok(gone)
            });
            all.extend(gone.await?);
        }
        Ok(all)
    }
}
