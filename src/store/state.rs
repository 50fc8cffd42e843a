//! One commit group in the making: facts are applied to working copies as they are found, and
//! published only when the log has them. Replay applies the same facts by the same code.
//!
//! May import: types.
//!
//! Invariant: a change that is refused leaves nothing behind. Whoever asked for it may have got
//! halfway; then the group is made again from the facts of those before it (`rollback`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::check;
use super::directory::Directory;
use super::engine::Batch;
use super::error::StoreError;
use super::keys::{self, BlobRecord, GlobalMarks, MailboxRecord};
use super::log::{self, BlobData, BlobPlace};
use super::model::MailboxList;
use super::ops::Op;
use super::prepared::Placed;
use super::quota::Moved;
use super::records::{self, Kind};
use super::shared::{Each, Shared, sort};
use super::snapshot::{Mailbox, Snapshot};
use super::wake::{Noted, Wake};
use crate::types::{AccountId, BlobId, MailboxKey, Settable, Uid, UnixMillis};

/// A mailbox as this group leaves it.
pub(super) struct Work {
    pub snapshot: Snapshot,
    /// Chunks that this group touched.
    pub dirty: BTreeSet<u32>,
    pub changed: bool,
    /// What the index has of it. None: this group made it.
    pub before: Option<MailboxRecord>,
}

#[derive(Default)]
pub(super) struct Refs {
    pub delta: i64,
    pub place: Option<BlobPlace>,
}

/// A place in a group to which a change that fails is taken back.
pub(super) struct Mark {
    facts: usize,
    ops: usize,
    blobs: usize,
    placed: usize,
}

/// What is done with a message's record as it is kept.
pub(super) type EachMessage<'a> = &'a mut dyn FnMut(Uid, &[u8]) -> Result<(), StoreError>;

/// Of so many records one is wanted: then they are walked through.
const DENSE: usize = 4;

/// The group: working copies over what is committed.
pub(super) struct Tx {
    pub shared: Arc<Shared>,
    pub now: UnixMillis,
    /// False where the disk is nearly full: nothing that adds mail.
    pub room: bool,
    pub ops: Vec<Op>,
    pub blobs: Vec<Arc<BlobData>>,
    /// Files of large bodies, which go when the group does not come about.
    pub placed: Vec<Placed>,
    /// Records that were looked at or written, roughly: a group with much of it ends early.
    pub effort: usize,
    /// Flags that whoever asks for the change under way may set.
    pub settable: Settable,
    /// Why the group can't be committed as it is.
    pub failed: Option<StoreError>,
    /// Files of large bodies that nothing refers to any more.
    pub freed: Vec<BlobPlace>,
    /// Facts begun, finished or not.
    facts: usize,
    pub(super) overlay: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) mailboxes: HashMap<MailboxKey, Work>,
    pub(super) deleted: HashSet<MailboxKey>,
    pub(super) lists: HashMap<AccountId, Arc<MailboxList>>,
    /// Lists to sort before anybody sees them.
    pub(super) unsorted: HashSet<AccountId>,
    pub(super) gone: HashSet<AccountId>,
    pub(super) touched: HashSet<AccountId>,
    /// Annotations that changed, and whose they are; None: everybody's.
    pub(super) noted: Vec<(Option<AccountId>, Noted)>,
    /// Mailboxes that INBOX was renamed to.
    pub(super) from_inbox: Vec<MailboxKey>,
    pub(super) directory: Arc<Directory>,
    pub(super) refs: HashMap<BlobId, Refs>,
    /// Bodies that move to this frame, if they lie in this place.
    pub(super) kept: Vec<(BlobId, BlobPlace)>,
    /// By how much the group changes what accounts keep.
    pub(super) moved: HashMap<AccountId, Moved>,
    /// Accounts with other limits than before.
    pub(super) requoted: BTreeSet<AccountId>,
}

impl Tx {
    pub(super) fn new(shared: Arc<Shared>, now: UnixMillis, room: bool) -> Self {
        Self {
            directory: shared.directory.load_full(),
            shared,
            now,
            room,
            ops: Vec::new(),
            blobs: Vec::new(),
            placed: Vec::new(),
            effort: 0,
            settable: Settable::ALL,
            failed: None,
            freed: Vec::new(),
            facts: 0,
            overlay: BTreeMap::new(),
            mailboxes: HashMap::new(),
            deleted: HashSet::new(),
            lists: HashMap::new(),
            unsorted: HashSet::new(),
            gone: HashSet::new(),
            touched: HashSet::new(),
            noted: Vec::new(),
            from_inbox: Vec::new(),
            refs: HashMap::new(),
            kept: Vec::new(),
            moved: HashMap::new(),
            requoted: BTreeSet::new(),
        }
    }

    /// Applies a fact and writes it down. Whoever calls has checked that it can be applied.
    pub(super) fn fact(&mut self, op: Op) -> Result<(), StoreError> {
        self.facts += 1;
        self.apply(&op)?;
        self.ops.push(op);
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            facts: self.facts,
            ops: self.ops.len(),
            blobs: self.blobs.len(),
            placed: self.placed.len(),
        }
    }

    /// Takes back everything since `mark`.
    pub(super) fn rollback(&mut self, mark: &Mark) {
        self.blobs.truncate(mark.blobs);
        self.placed.truncate(mark.placed);
        if self.facts == mark.facts {
            return;
        }
        let mut before = Self::new(self.shared.clone(), self.now, self.room);
        before.blobs = std::mem::take(&mut self.blobs);
        before.placed = std::mem::take(&mut self.placed);
        for op in std::mem::take(&mut self.ops).into_iter().take(mark.ops) {
            if let Err(error) = before.fact(op) {
                before.failed = Some(error);
            }
        }
        // What was tried took its time.
        before.effort = self.effort.max(before.effort);
        *self = before;
    }

    /// A value of any size: a large one is split over several keys.
    pub(super) fn put<T: serde::Serialize>(
        &mut self,
        key: Vec<u8>,
        value: &T,
    ) -> Result<(), StoreError> {
        let value = keys::encode(value)?;
        self.remove_parts(&key)?;
        if value.len() <= keys::MAX_VALUE {
            self.overlay.insert(key, Some(value));
            return Ok(());
        }
        let parts = u16::try_from(value.len().div_ceil(keys::MAX_VALUE)).ok();
        let parts = parts
            .filter(|_| keys::may_split(&key))
            .ok_or(StoreError::Limit("a record is too large"))?;
        for (number, piece) in (0..parts).zip(value.chunks(keys::MAX_VALUE)) {
            let key = keys::part(&key, number);
            self.overlay.insert(key, Some(piece.to_vec()));
        }
        self.overlay.insert(key, Some(keys::split_mark(parts)));
        Ok(())
    }

    /// The pieces of a value that was split. Its own key stays.
    fn remove_parts(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if !keys::may_split(key) {
            return Ok(());
        }
        let old = self.raw(key)?;
        let parts = old.as_deref().and_then(keys::split_parts).unwrap_or(0);
        for number in 0..parts {
            self.overlay.insert(keys::part(key, number), None);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.remove_parts(&key)?;
        self.overlay.insert(key, None);
        Ok(())
    }

    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.overlay.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.shared.raw(key),
        }
    }

    pub(super) fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let Some(raw) = self.raw(key)? else {
            return Ok(None);
        };
        let raw = keys::join(key, raw, &|key| self.raw(key))?;
        keys::decode(&raw).map(Some)
    }

    /// Keys and values under a prefix, this group's changes included.
    pub(super) fn scan(&self, prefix: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.shared.scan(prefix, &mut |key, value| {
            if self.overlay.contains_key(key) {
                Ok(())
            } else {
                each(key, value)
            }
        })?;
        let after = self.overlay.range(prefix.to_vec()..);
        for (key, value) in after.take_while(|(key, _)| key.starts_with(prefix)) {
            if let Some(value) = value {
                let value = keys::join(key, value.clone(), &|key| self.raw(key))?;
                each(key, &value)?;
            }
        }
        Ok(())
    }

    /// The records of messages, as far as they are there, in any order; `uids` rise. Where they lie
    /// close together one walk finds them all.
    pub(super) fn each_message(
        &self,
        mailbox: MailboxKey,
        uids: &[Uid],
        each: EachMessage<'_>,
    ) -> Result<(), StoreError> {
        let mut rest = Vec::new();
        for uid in uids {
            let key = keys::message(mailbox, *uid);
            let mut done = Ok(());
            let mut with = |value: Option<&[u8]>| {
                if let Some(value) = value {
                    done = each(*uid, value);
                }
            };
            match self.overlay.get(&key) {
                Some(value) => with(value.as_deref()),
                None if self.shared.recent(&key, &mut with) => {}
                None => rest.push(*uid),
            }
            done?;
        }
        let (Some(first), Some(last)) = (rest.first(), rest.last()) else {
            return Ok(());
        };
        if last.0.saturating_sub(first.0) as usize > rest.len().saturating_mul(DENSE) {
            for uid in rest {
                if let Some(value) = self.shared.raw(&keys::message(mailbox, uid))? {
                    each(uid, &value)?;
                }
            }
            return Ok(());
        }
        let mut wanted = rest.iter().peekable();
        let from = keys::message(mailbox, *first);
        let prefix = keys::mailbox(b'm', mailbox);
        self.shared
            .scan_from(&prefix, Some(&from), &mut |key, value| {
                let uid = Uid(keys::tail(key));
                while wanted.next_if(|wanted| **wanted < uid).is_some() {}
                if wanted.next_if(|wanted| **wanted == uid).is_some() {
                    each(uid, value)?;
                }
                Ok(wanted.peek().is_some())
            })
    }

    pub(super) fn remove_all(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.scan(prefix, &mut |key, _| {
            found.push(key.to_vec());
            Ok(())
        })?;
        self.effort += found.len();
        found.into_iter().try_for_each(|key| self.remove(key))
    }

    pub(super) fn mailbox(&mut self, key: MailboxKey) -> Result<&mut Work, StoreError> {
        if self.deleted.contains(&key) {
            return Err(StoreError::NoMailbox);
        }
        // Not `entry`: loading may fail.
        if !self.mailboxes.contains_key(&key) {
            let snapshot = (*self.shared.mailbox(key)?.snapshot()).clone();
            let before = Some(snapshot.record);
            self.mailboxes.insert(
                key,
                Work {
                    snapshot,
                    dirty: BTreeSet::new(),
                    changed: false,
                    before,
                },
            );
        }
        self.mailboxes.get_mut(&key).ok_or(StoreError::NoMailbox)
    }

    pub(super) fn list(&mut self, account: AccountId) -> Result<Arc<MailboxList>, StoreError> {
        if self.unsorted.remove(&account)
            && let Some(list) = self.lists.get_mut(&account)
        {
            sort(Arc::make_mut(list));
        }
        self.list_as_it_is(account)
    }

    /// In any order.
    pub(super) fn list_as_it_is(&self, account: AccountId) -> Result<Arc<MailboxList>, StoreError> {
        if let Some(list) = self.lists.get(&account) {
            return Ok(list.clone());
        }
        if self.gone.contains(&account) {
            return Err(StoreError::NoAccount);
        }
        let made_here = self.directory.account(account).is_some()
            && self.shared.directory.load().account(account).is_none();
        if made_here {
            return Ok(Arc::default());
        }
        Ok(self.shared.account(account)?.list.load_full())
    }

    pub(super) fn refer(&mut self, blob: BlobId, by: i64) {
        self.refs.entry(blob).or_default().delta += by;
    }

    pub(super) fn global_marks(&self) -> Result<GlobalMarks, StoreError> {
        Ok(self.get(b"g")?.unwrap_or(GlobalMarks {
            next_account: 1,
            uid_validity: 0,
        }))
    }

    /// Everything that the index has to learn, once the log says where the bodies lie.
    pub(super) fn finish(
        &mut self,
        places: &HashMap<BlobId, BlobPlace>,
    ) -> Result<Batch, StoreError> {
        for (key, work) in &self.mailboxes {
            if self.deleted.contains(key) || !work.changed {
                continue;
            }
            let record = keys::encode(&work.snapshot.record)?;
            self.overlay.insert(keys::mailbox(b'M', *key), Some(record));
            for base in &work.dirty {
                let chunk = work.snapshot.chunk(*base).map(keys::encode).transpose()?;
                self.overlay
                    .insert(keys::in_mailbox(b'f', *key, *base), chunk);
            }
        }
        for (blob, from) in std::mem::take(&mut self.kept) {
            let key = keys::blob(blob);
            let known: Option<BlobRecord> = self.get(&key)?;
            if let (Some(record), Some(place)) = (known, places.get(&blob))
                && record.place == from
            {
                let place = *place;
                self.put(key, &BlobRecord { place, ..record })?;
            }
        }
        // In order: neighbours are found faster than what lies anywhere.
        let mut refs: Vec<(BlobId, Refs)> = std::mem::take(&mut self.refs).into_iter().collect();
        refs.sort_unstable_by_key(|(blob, _)| blob.0);
        for (blob, refs) in refs {
            let new = refs.place.is_some() || places.contains_key(&blob);
            if refs.delta == 0 && !new {
                // Moved: as many as before.
                continue;
            }
            let key = keys::blob(blob);
            let known: Option<BlobRecord> = self.get(&key)?;
            if refs.delta == 0 && known.is_some() {
                continue;
            }
            let place = known
                .map(|b| b.place)
                .or(refs.place)
                .or(places.get(&blob).copied());
            let count = i64::from(known.map_or(0, |b| b.references)) + refs.delta;
            match (place, u32::try_from(count)) {
                (Some(place), Ok(references @ 1..)) => {
                    self.put(key, &BlobRecord { place, references })?;
                }
                // A body that was not found in the log stays without a place: its messages
                // are shown as damaged.
                (place, _) => {
                    self.freed.extend(place.filter(log::has_own_file));
                    self.remove(key)?;
                    let line_ends = records::key(Kind::LineEnds as u16, &blob.0);
                    if self.raw(&line_ends)?.is_some() {
                        self.remove(line_ends)?;
                    }
                }
            }
        }
        for account in std::mem::take(&mut self.unsorted) {
            if let Some(list) = self.lists.get_mut(&account) {
                sort(Arc::make_mut(list));
            }
        }
        self.sum_up()?;
        Ok(std::mem::take(&mut self.overlay).into_iter().collect())
    }

    /// Moves the sums by which the small records are checked.
    fn sum_up(&mut self) -> Result<(), StoreError> {
        let before = check::stored(&***self.shared.index.load())?;
        let mut sums = before.unwrap_or_default();
        // Those of mailboxes are known: nobody has to wait for the index, which may be busy.
        let mut known = HashMap::new();
        for (key, work) in &self.mailboxes {
            if let Some(before) = &work.before {
                known.insert(keys::mailbox(b'M', *key), keys::encode(before)?);
            }
        }
        for (key, new) in &self.overlay {
            if check::concerns(key, new.as_deref()) {
                let old = match known.remove(key) {
                    Some(known) => {
                        debug_assert_eq!(Some(&known), self.shared.raw(key)?.as_ref());
                        Some(known)
                    }
                    None => self.shared.raw(key)?,
                };
                sums.change(key, old.as_deref(), new.as_deref());
            }
        }
        if before != Some(sums) {
            let value = keys::encode(&sums)?;
            self.overlay.insert(check::KEY.to_vec(), Some(value));
        }
        Ok(())
    }

    /// Applies the batch and makes the new state visible. Nobody is woken yet: that is for after
    /// the answers ([`Wake::tell`]).
    pub(super) fn publish(
        mut self,
        batch: Batch,
        end: crate::types::LogPos,
        seq: u64,
    ) -> Result<Wake, StoreError> {
        let shared = self.shared.clone();
        let mut wake = Wake {
            seq,
            ..Wake::default()
        };
        let _guard = shared.publish.lock();
        shared.apply(batch, end, seq)?;
        let before = shared.directory.load_full();
        if !Arc::ptr_eq(&self.directory, &before) {
            shared.directory.store(self.directory.clone());
            if self.directory.version != before.version {
                shared.directory_changed.send_replace(());
            }
        }
        shared.move_usages(&self);
        {
            let mut accounts = shared.accounts.lock();
            for account in &self.gone {
                accounts.remove(account);
            }
            for (account, list) in self.lists.drain() {
                if let Some(view) = accounts.get(&account) {
                    // First: whoever sees it in the list can ask.
                    let new = self.from_inbox.iter().filter(|key| key.account == account);
                    new.for_each(|key| view.was_inbox(key.mailbox));
                    view.list.store(list);
                    self.touched.insert(account);
                }
            }
        }
        let mut changed = Vec::new();
        {
            let mut mailboxes = shared.mailboxes.lock();
            for key in &self.deleted {
                shared.full_text.gone(*key);
                if let Some(mailbox) = mailboxes.remove(key) {
                    mailbox.delete();
                    wake.mailboxes.push(mailbox);
                }
            }
            for (key, work) in self.mailboxes.drain().filter(|(_, work)| work.changed) {
                // Also where nobody has it in memory any more: others watch the account.
                self.touched.insert(key.account);
                changed.push(key);
                shared.full_text.grew(key, work.snapshot.uid_next());
                match mailboxes.get(&key) {
                    Some(mailbox) => {
                        mailbox.publish(Arc::new(work.snapshot));
                        wake.mailboxes.push(mailbox.clone());
                    }
                    // Whoever makes one puts something into it.
                    None if work.before.is_none() => {
                        let mailbox = Mailbox::new(key, work.snapshot);
                        shared.keep_open(&mut mailboxes, Arc::new(mailbox));
                    }
                    None => {}
                }
            }
        }
        let accounts = shared.accounts.lock();
        for key in changed {
            if let Some(view) = accounts.get(&key.account) {
                view.changed(key.mailbox);
            }
        }
        for (whose, noted) in std::mem::take(&mut self.noted) {
            let all = whose
                .is_none()
                .then(|| accounts.iter())
                .into_iter()
                .flatten();
            let one = whose.and_then(|account| accounts.get_key_value(&account));
            for (account, view) in all.chain(one) {
                self.touched.insert(*account);
                view.annotated(noted.clone());
            }
        }
        let views = self.touched.iter().filter_map(|a| accounts.get(a).cloned());
        wake.accounts.extend(views);
        Ok(wake)
    }
}
