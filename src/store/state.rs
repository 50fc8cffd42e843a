//! One commit group in the making: facts are applied to working copies as they are found, and
//! published only when the log has them. Replay applies the same facts by the same code.
//!
//! May import: types.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::directory::Directory;
use super::engine::Batch;
use super::error::StoreError;
use super::keys::{self, BlobRecord, GlobalMarks};
use super::log::{BlobData, BlobPlace};
use super::model::MailboxList;
use super::ops::Op;
use super::shared::{Each, Shared, index};
use super::snapshot::Snapshot;
use crate::types::{AccountId, BlobId, MailboxKey, UnixMillis};

/// A mailbox as this group leaves it.
pub(super) struct Work {
    pub snapshot: Snapshot,
    /// Chunks that this group touched.
    pub dirty: BTreeSet<u32>,
    pub changed: bool,
}

#[derive(Default)]
pub(super) struct Refs {
    pub delta: i64,
    pub place: Option<BlobPlace>,
}

/// The group: working copies over what is committed.
pub(super) struct Tx {
    pub shared: Arc<Shared>,
    pub now: UnixMillis,
    /// False where the disk is nearly full: nothing that adds mail.
    pub room: bool,
    pub ops: Vec<Op>,
    pub blobs: Vec<Arc<BlobData>>,
    pub(super) overlay: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) mailboxes: HashMap<MailboxKey, Work>,
    pub(super) deleted: HashSet<MailboxKey>,
    pub(super) lists: HashMap<AccountId, Arc<MailboxList>>,
    pub(super) gone: HashSet<AccountId>,
    pub(super) touched: HashSet<AccountId>,
    pub(super) directory: Arc<Directory>,
    pub(super) refs: HashMap<BlobId, Refs>,
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
            overlay: BTreeMap::new(),
            mailboxes: HashMap::new(),
            deleted: HashSet::new(),
            lists: HashMap::new(),
            gone: HashSet::new(),
            touched: HashSet::new(),
            refs: HashMap::new(),
        }
    }

    /// Applies a fact and writes it down. Whoever calls has checked that it can be applied.
    pub(super) fn fact(&mut self, op: Op) -> Result<(), StoreError> {
        self.apply(&op)?;
        self.ops.push(op);
        Ok(())
    }

    pub(super) fn put<T: serde::Serialize>(
        &mut self,
        key: Vec<u8>,
        value: &T,
    ) -> Result<(), StoreError> {
        let value = keys::encode(value)?;
        if value.len() > keys::MAX_VALUE {
            return Err(StoreError::Limit("a record is larger than 4 KiB"));
        }
        self.overlay.insert(key, Some(value));
        Ok(())
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.overlay.insert(key, None);
    }

    pub(super) fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        match self.overlay.get(key) {
            Some(value) => value.as_deref().map(keys::decode).transpose(),
            None => self.shared.get(key),
        }
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
                each(key, value)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_all(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.scan(prefix, &mut |key, _| {
            found.push(key.to_vec());
            Ok(())
        })?;
        found.into_iter().for_each(|key| self.remove(key));
        Ok(())
    }

    pub(super) fn mailbox(&mut self, key: MailboxKey) -> Result<&mut Work, StoreError> {
        if self.deleted.contains(&key) {
            return Err(StoreError::NoMailbox);
        }
        // Not `entry`: loading may fail.
        if !self.mailboxes.contains_key(&key) {
            let snapshot = (*self.shared.mailbox(key)?.snapshot()).clone();
            self.mailboxes.insert(
                key,
                Work {
                    snapshot,
                    dirty: BTreeSet::new(),
                    changed: false,
                },
            );
        }
        self.mailboxes.get_mut(&key).ok_or(StoreError::NoMailbox)
    }

    pub(super) fn list(&mut self, account: AccountId) -> Result<Arc<MailboxList>, StoreError> {
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
        Ok(self.get(b"g")?.unwrap_or(GlobalMarks { next_account: 1 }))
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
        for (blob, refs) in std::mem::take(&mut self.refs) {
            let key = keys::blob(blob);
            let known: Option<BlobRecord> = self.get(&key)?;
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
                _ => self.remove(key),
            }
        }
        Ok(std::mem::take(&mut self.overlay).into_iter().collect())
    }

    /// Applies the batch and shows the new state to everybody.
    pub(super) fn publish(
        mut self,
        batch: Batch,
        end: crate::types::LogPos,
        seq: u64,
    ) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let _guard = shared.publish.lock();
        shared.index.apply(batch, end, seq).map_err(index)?;
        if !Arc::ptr_eq(&self.directory, &shared.directory.load()) {
            shared.directory.store(self.directory.clone());
        }
        {
            let mut accounts = shared.accounts.lock();
            for account in &self.gone {
                accounts.remove(account);
            }
            for (account, list) in self.lists.drain() {
                if let Some(view) = accounts.get(&account) {
                    view.list.store(list);
                    self.touched.insert(account);
                }
            }
        }
        let mut opened = Vec::new();
        {
            let mut mailboxes = shared.mailboxes.lock();
            for key in &self.deleted {
                if let Some(mailbox) = mailboxes.remove(key) {
                    mailbox.publish_deleted(seq);
                }
            }
            for (key, work) in self.mailboxes.drain().filter(|(_, work)| work.changed) {
                if let Some(mailbox) = mailboxes.get(&key) {
                    self.touched.insert(key.account);
                    opened.push((mailbox.clone(), work));
                }
            }
        }
        for (mailbox, work) in opened {
            mailbox.publish(Arc::new(work.snapshot), seq);
        }
        let accounts = shared.accounts.lock();
        for account in &self.touched {
            if let Some(view) = accounts.get(account) {
                view.told.send_replace(seq);
            }
        }
        Ok(())
    }
}
