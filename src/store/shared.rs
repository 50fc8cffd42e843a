//! What readers and the committer share: the index, opened mailboxes and lists, the directory.
//!
//! May import: config, telemetry, types.
//!
//! Invariant: `publish` is held from the moment a group is applied to the index until it is
//! published, and by everybody who loads something from the index in order to keep it, so that
//! nothing stale is kept. It is never held over a write to the log.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::beside::beside;
use super::chunk::Chunk;
use super::directory::Directory;
use super::disk::Disk;
use super::engine::{Applied, Batch, Engines, Index, IndexError};
use super::error::StoreError;
use super::fulltext::FullText;
use super::image::capture::Capture;
use super::keys::{self, BlobRecord, MailboxRecord, NameRecord};
use super::log::{BlobPlace, BlobStore, LogRead};
use super::lost::Damage;
use super::model::{MailboxInfo, MailboxList, MessageRecord};
use super::options::Options;
use super::outline::Outlines;
use super::quarantine::Quarantine;
use super::quota::Counted;
use super::ring::Ring;
use super::snapshot::{Mailbox, Messages, Snapshot};
use super::wake::{AccountView, Wake};
use crate::telemetry::Telemetry;
use crate::types::{AccountId, BlobId, LogPos, MailboxId, MailboxKey, Uid, UnixMillis};

/// What a scan does with each key and value; an error ends it.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// The same, until it gives false.
pub(super) type While<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub engines: Arc<dyn Engines>,
    pub options: Options,
    pub telemetry: Arc<Telemetry>,
    pub store_id: [u8; 16],
    /// Replaced as a whole when it is built anew.
    pub index: ArcSwap<Arc<dyn Index>>,
    /// Of the index, while an image of it is taken.
    pub capture: Capture,
    pub reader: Arc<dyn LogRead>,
    pub blobs: Arc<dyn BlobStore>,
    pub directory: ArcSwap<Directory>,
    /// Whoever is logged in looks again when it changes.
    pub directory_changed: watch::Sender<()>,
    pub accounts: Mutex<HashMap<AccountId, Arc<AccountView>>>,
    pub mailboxes: Mutex<HashMap<MailboxKey, Arc<Mailbox>>>,
    /// What accounts keep, of those that somebody asked for; moved with `publish`.
    pub usages: Mutex<HashMap<AccountId, Counted>>,
    /// Accounts that may have to be warned of their quota, and a word to whoever does.
    pub unsettled: Mutex<BTreeSet<AccountId>>,
    pub settle: Notify,
    pub publish: Mutex<()>,
    pub ring: Ring,
    pub damage: Damage,
    pub quarantine: Quarantine,
    /// Where parts of large messages lie.
    pub outlines: Mutex<Outlines>,
    /// Files of large bodies that go at the next checkpoint.
    pub doomed: Mutex<Vec<BlobPlace>>,
    /// In which messages a text can't be.
    pub full_text: FullText,
    /// Who copies files of the log: none goes meanwhile.
    pub files_held: Mutex<u32>,
    /// When this process opened it.
    pub opened: UnixMillis,
    /// Somebody reads changes.
    fed: AtomicBool,
    /// The index is to be built anew as soon as that is possible.
    wanted: AtomicBool,
    /// See `is_starved`.
    starved: AtomicBool,
    /// The committer takes changes.
    writable: AtomicBool,
    /// A batch is applied that keeps readers waiting.
    applying: AtomicBool,
    clock: AtomicU64,
}

/// What stays the same when the index is built anew.
#[derive(Clone)]
pub(super) struct Ground {
    pub disk: Arc<dyn Disk>,
    pub engines: Arc<dyn Engines>,
    pub options: Options,
    pub telemetry: Arc<Telemetry>,
    pub store_id: [u8; 16],
    pub reader: Arc<dyn LogRead>,
    pub blobs: Arc<dyn BlobStore>,
}

/// A batch of more writes than this takes so long that who reads meanwhile waits beside the
/// runtime: the engine lets nobody read while it applies one.
const LARGE_BATCH: usize = 64;

/// A mailbox of more messages is opened without a look at each of their records.
const READ_AT_ONCE: u32 = 8192;

/// The file that asks the next start to build the index anew, where this process does not come
/// to it.
pub(super) const REBUILD_MARK: &str = "rebuild-index";

impl Shared {
    pub(super) fn new(ground: Ground, index: Arc<dyn Index>, directory: Directory) -> Self {
        Self {
            ring: Ring::new(ground.options.config.feed_groups),
            full_text: FullText::new(ground.options.config.text_index),
            disk: ground.disk,
            engines: ground.engines,
            options: ground.options,
            telemetry: ground.telemetry,
            store_id: ground.store_id,
            capture: Capture::default(),
            index: ArcSwap::from_pointee(index),
            reader: ground.reader,
            blobs: ground.blobs,
            directory: ArcSwap::from_pointee(directory),
            directory_changed: watch::Sender::new(()),
            accounts: Mutex::default(),
            mailboxes: Mutex::default(),
            usages: Mutex::default(),
            unsettled: Mutex::default(),
            settle: Notify::new(),
            publish: Mutex::default(),
            damage: Damage::default(),
            quarantine: Quarantine::default(),
            outlines: Mutex::default(),
            doomed: Mutex::default(),
            files_held: Mutex::default(),
            opened: super::clock::now(),
            fed: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            writable: AtomicBool::new(true),
            applying: AtomicBool::new(false),
            clock: AtomicU64::new(0),
        }
    }

    /// An index that is only read, to see what it still has: doubts of it have no effect.
    pub(super) fn of_old(ground: Ground, index: Arc<dyn Index>) -> Self {
        let old = Self::new(ground, index, Directory::default());
        old.wanted.store(true, Ordering::Release);
        old
    }

    pub(super) fn ground(&self) -> Ground {
        Ground {
            disk: self.disk.clone(),
            engines: self.engines.clone(),
            options: self.options.clone(),
            telemetry: self.telemetry.clone(),
            store_id: self.store_id,
            reader: self.reader.clone(),
            blobs: self.blobs.clone(),
        }
    }

    /// The value as it lies there: it may have been split.
    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let index = self.index.load();
        let mut known = None;
        if index.is_held_up() && index.recent(key, &mut |v| known = v.map(<[u8]>::to_vec)) {
            return Ok(known);
        }
        let read = self.unless_held_up(|| index.get(key));
        read.map_err(|e| self.failed(e))
    }

    /// Gives the value where it can be told without waiting for the index; false where not.
    pub(super) fn recent(&self, key: &[u8], with: &mut dyn FnMut(Option<&[u8]>)) -> bool {
        self.index.load().recent(key, with)
    }

    fn unless_held_up<R>(&self, read: impl FnOnce() -> R) -> R {
        match self.applying.load(Ordering::Acquire) || self.index.load().is_held_up() {
            true => beside(read),
            false => read(),
        }
    }

    pub(super) fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let Some(raw) = self.raw(key)? else {
            return Ok(None);
        };
        let decoded = keys::join(key, raw, &|key| self.raw(key)).and_then(|raw| keys::decode(&raw));
        decoded.map(Some).map_err(|error| self.doubt(error))
    }

    pub(super) fn scan(&self, prefix: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.scan_from(prefix, None, &mut |key, value| {
            each(key, value).map(|()| true)
        })
    }

    /// Keys and values under a prefix, from `from` on, until `each` returns false.
    pub(super) fn scan_from(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: While<'_>,
    ) -> Result<(), StoreError> {
        let mut done = Ok(true);
        let index = self.index.load();
        let mut each = |key: &[u8], value: &[u8]| {
            done = if keys::split_parts(value).is_some() {
                keys::join(key, value.to_vec(), &|key| self.raw(key))
                    .and_then(|value| each(key, &value))
            } else {
                each(key, value)
            };
            matches!(done, Ok(true))
        };
        let scanned = self.unless_held_up(|| index.scan(prefix, from, &mut each));
        scanned.map_err(|e| self.failed(e))?;
        done.map(|_| ()).map_err(|error| self.doubt(error))
    }

    pub(super) fn apply(&self, batch: Batch, at: LogPos, seq: u64) -> Result<(), StoreError> {
        let applied = Applied {
            store: self.store_id,
            at,
            seq,
        };
        let large = batch.len() > LARGE_BATCH;
        self.applying.store(large, Ordering::Release);
        let applied = self.capture.apply(&self.index.load(), batch, applied);
        self.applying.store(false, Ordering::Release);
        applied.map_err(|e| self.failed(e))
    }

    /// An error of the index: unless the machine lacks something, it can't be trusted any more.
    fn failed(&self, error: IndexError) -> StoreError {
        let resource = error.is_resource();
        let error = StoreError::Index(error.to_string());
        if resource {
            self.set_starved(true);
            return error;
        }
        self.doubt(error)
    }

    /// Asks for a rebuild where `error` says that the index is not what it should be.
    fn doubt(&self, error: StoreError) -> StoreError {
        if let StoreError::Index(reason) = &error
            && !self.wanted.load(Ordering::Acquire)
        {
            self.telemetry.store.index_doubted(reason);
            self.ask_for_rebuild();
        }
        error
    }

    pub(super) fn ask_for_rebuild(&self) {
        if self.wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let path = self.options.dir.join(REBUILD_MARK);
        let marked = self.disk.create_new(&path);
        if let Err(error) = marked
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::error!(%error, "the mark that asks for a rebuild could not be written");
        }
    }

    pub(super) fn rebuild_is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    pub(super) fn feeds(&self) {
        self.fed.store(true, Ordering::Release);
    }

    pub(super) fn is_fed(&self) -> bool {
        self.fed.load(Ordering::Acquire)
    }

    /// Bytes of the disk that mail leaves free.
    pub(super) fn reserve(&self) -> u64 {
        let config = &self.options.config;
        let total = self.disk.total_bytes(&self.options.dir);
        let part = total.map(|total| total / 100 * config.reserve_percent);
        part.map_or(config.reserve_bytes, |part| part.min(config.reserve_bytes))
    }

    /// The index failed for what the machine lacks: it may well be good.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Acquire)
    }

    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.store(starved, Ordering::Release);
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    pub(super) fn set_writable(&self, writable: bool) {
        self.writable.store(writable, Ordering::Release);
        self.telemetry.store.writable(writable);
    }

    /// Takes over what `fresh` has built from the log, in place of an index that failed.
    /// Mailboxes and lists that somebody holds stay theirs and show the new state.
    pub(super) fn adopt(&self, fresh: &Self) -> Wake {
        let mut wake = Wake::default();
        let guard = self.publish.lock();
        self.capture.end();
        let old = self.index.swap(fresh.index.load_full());
        self.directory.store(fresh.directory.load_full());
        self.directory_changed.send_replace(());
        self.usages.lock().clear();
        let mut accounts = self.accounts.lock();
        accounts.retain(|account, view| {
            wake.accounts.push(view.clone());
            view.break_off();
            match fresh.load_list(*account) {
                Ok(list) if fresh.directory.load().accounts.contains_key(account) => {
                    view.list.store(Arc::new(list));
                    true
                }
                _ => false,
            }
        });
        drop(accounts);
        let mut mailboxes = self.mailboxes.lock();
        mailboxes.retain(|key, mailbox| {
            wake.mailboxes.push(mailbox.clone());
            match fresh.load(*key) {
                Ok(snapshot) => mailbox.publish(Arc::new(snapshot)),
                Err(StoreError::NoMailbox) => mailbox.delete(),
                // As it was; whoever asks for its content is told.
                Err(_) => {}
            }
            !mailbox.is_deleted()
        });
        drop(mailboxes);
        self.wanted.store(false, Ordering::Release);
        self.note_damage(Some(fresh.damage.mended_mailboxes()));
        drop(guard);
        // An engine that failed may take its time over its end, or panic.
        let ended = std::thread::Builder::new().name("index-end".into());
        if let Err(error) = ended.spawn(move || drop(old)) {
            tracing::warn!(%error, "the old index could not be closed beside the work");
        }
        let mark = self.options.dir.join(REBUILD_MARK);
        if let Err(error) = self.disk.remove(&mark)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the mark that asks for a rebuild could not be removed");
        }
        wake
    }

    /// The mailbox, from memory or the index.
    pub(super) fn mailbox(&self, key: MailboxKey) -> Result<Arc<Mailbox>, StoreError> {
        if let Some(mailbox) = self.cached(key) {
            return Ok(mailbox);
        }
        beside(|| self.open_mailbox(key))
    }

    fn open_mailbox(&self, key: MailboxKey) -> Result<Arc<Mailbox>, StoreError> {
        let _guard = self.publish.lock();
        if let Some(mailbox) = self.cached(key) {
            return Ok(mailbox);
        }
        let mailbox = Arc::new(Mailbox::new(key, self.load(key)?));
        self.keep_open(&mut self.mailboxes.lock(), mailbox.clone());
        Ok(mailbox)
    }

    /// Puts one among those in memory, which are `all`.
    pub(super) fn keep_open(
        &self,
        all: &mut HashMap<MailboxKey, Arc<Mailbox>>,
        mailbox: Arc<Mailbox>,
    ) {
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        if all.len() >= self.options.config.open_mailboxes {
            evict(all, self.options.config.open_mailboxes / 2);
        }
        all.insert(mailbox.key(), mailbox);
    }

    fn cached(&self, key: MailboxKey) -> Option<Arc<Mailbox>> {
        let mailbox = self.mailboxes.lock().get(&key)?.clone();
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(mailbox)
    }

    /// Reads a mailbox and checks it: sled was seen to lose records without an error. What
    /// counts rests on is always checked. The messages' records of a large one are not: nobody
    /// waits for that. They are checked after each start, and one that is missing is noticed by
    /// whoever reads it.
    fn load(&self, key: MailboxKey) -> Result<Snapshot, StoreError> {
        self.look_at(key, READ_AT_ONCE)?
            .ok_or_else(|| self.check_failed(key))
    }

    /// None: what there is of it does not add up.
    pub(super) fn read(&self, key: MailboxKey) -> Result<Option<Snapshot>, StoreError> {
        self.look_at(key, u32::MAX)
    }

    fn look_at(&self, key: MailboxKey, most: u32) -> Result<Option<Snapshot>, StoreError> {
        let Some(record) = self.get::<MailboxRecord>(&keys::mailbox(b'M', key))? else {
            let named = self.raw(&keys::mailbox(b'N', key))?.is_some();
            return if named {
                Ok(None)
            } else {
                Err(StoreError::NoMailbox)
            };
        };
        let mut keywords = Vec::new();
        let mut gap = false;
        self.scan(&keys::mailbox(b'K', key), &mut |k, value| {
            // A name that is lost must not shift the others to other bits.
            gap |= keys::tail(k) as usize != keywords.len();
            keywords.push(keys::decode(value)?);
            Ok(())
        })?;
        let mut chunks: Vec<(u32, Chunk)> = Vec::new();
        self.scan(&keys::mailbox(b'f', key), &mut |k, value| {
            let chunk: Chunk = keys::decode(value)?;
            gap |= !chunk.is_sound();
            chunks.push((keys::tail(k), chunk));
            Ok(())
        })?;
        let mut messages = Messages::default();
        if record.exists > most {
            (messages.count, messages.bytes) = (record.exists, record.bytes);
            messages.uid_sum = record.uid_sum;
            return Ok((!gap)
                .then(|| Snapshot::load(record, keywords, chunks, messages))
                .flatten());
        }
        self.scan(&keys::mailbox(b'm', key), &mut |k, value| {
            messages.count += 1;
            messages.uid_sum += u64::from(keys::tail(k));
            messages.bytes = messages
                .bytes
                .wrapping_add(keys::record_size(value).unwrap_or(u64::MAX));
            Ok(())
        })?;
        Ok((!gap)
            .then(|| Snapshot::load(record, keywords, chunks, messages))
            .flatten())
    }

    /// What the index has of a mailbox does not add up.
    pub(super) fn check_failed(&self, key: MailboxKey) -> StoreError {
        self.telemetry.store.check_failed(key);
        self.ask_for_rebuild();
        StoreError::Index(format!(
            "mailbox {}/{} is not what it should be; the index is rebuilt from the log",
            key.account, key.mailbox
        ))
    }

    /// A message that a snapshot has and the index has not: only a commit may explain it.
    pub(super) fn missing(&self, key: MailboxKey, uid: Uid) -> Result<(), StoreError> {
        let Some(mailbox) = self.cached(key) else {
            return Ok(());
        };
        if mailbox.snapshot().by_uid(uid).is_none() {
            return Ok(());
        }
        let _guard = beside(|| self.publish.lock());
        let there = self.raw(&keys::message(key, uid))?.is_some();
        if there || mailbox.is_deleted() || mailbox.snapshot().by_uid(uid).is_none() {
            return Ok(());
        }
        Err(self.check_failed(key))
    }

    pub(super) fn account(&self, account: AccountId) -> Result<Arc<AccountView>, StoreError> {
        if let Some(view) = self.accounts.lock().get(&account) {
            return Ok(view.clone());
        }
        beside(|| self.open_account(account))
    }

    fn open_account(&self, account: AccountId) -> Result<Arc<AccountView>, StoreError> {
        let _guard = self.publish.lock();
        if let Some(view) = self.accounts.lock().get(&account) {
            return Ok(view.clone());
        }
        if !self.directory.load().accounts.contains_key(&account) {
            return Err(StoreError::NoAccount);
        }
        let view = Arc::new(AccountView::new(self.load_list(account)?));
        self.accounts.lock().insert(account, view.clone());
        Ok(view)
    }

    fn load_list(&self, account: AccountId) -> Result<MailboxList, StoreError> {
        let mut subscribed = std::collections::BTreeSet::new();
        let prefix = keys::account(b'S', account);
        self.scan(&prefix, &mut |key, _| {
            subscribed.insert(String::from_utf8_lossy(&key[prefix.len()..]).into_owned());
            Ok(())
        })?;
        let mut list = MailboxList::default();
        self.scan(&keys::account(b'N', account), &mut |key, value| {
            let record: NameRecord = keys::decode(value)?;
            list.mailboxes.push(MailboxInfo {
                key: MailboxKey {
                    account,
                    mailbox: MailboxId(keys::tail(key)),
                },
                subscribed: subscribed.remove(&record.name),
                name: record.name,
                uid_validity: record.uid_validity,
                special_use: record.special_use,
            });
            Ok(())
        })?;
        sort(&mut list);
        list.subscribed_missing = subscribed.into_iter().collect();
        Ok(list)
    }

    /// Where a body lies. None: nothing refers to it any more, or it is lost.
    pub(super) fn blob(&self, blob: BlobId) -> Result<Option<BlobRecord>, StoreError> {
        self.get(&keys::blob(blob))
    }

    /// Where the body of a message lies. None: the message is gone.
    pub(super) fn body(
        &self,
        key: MailboxKey,
        uid: Uid,
        blob: BlobId,
    ) -> Result<Option<BlobRecord>, StoreError> {
        match self.blob(blob)? {
            None => beside(|| self.body_missing(key, uid, blob)),
            found => Ok(found),
        }
    }

    /// A body that has no place: only a commit that removed the message may explain it.
    fn body_missing(
        &self,
        key: MailboxKey,
        uid: Uid,
        blob: BlobId,
    ) -> Result<Option<BlobRecord>, StoreError> {
        let guard = self.publish.lock();
        let place = self.blob(blob)?;
        if place.is_some() {
            return Ok(place);
        }
        match self.get::<MessageRecord>(&keys::message(key, uid))? {
            Some(record) if record.blob == blob => {
                let reason = format!("it has no place of body {blob}");
                Err(self.doubt(StoreError::Index(reason)))
            }
            Some(_) => Ok(None),
            None => {
                drop(guard);
                self.missing(key, uid).map(|()| None)
            }
        }
    }

    /// Forgets what was loaded, so that it is as if nobody had asked yet.
    pub(super) fn forget(&self) {
        self.mailboxes.lock().clear();
        self.accounts.lock().clear();
        self.usages.lock().clear();
    }
}

/// INBOX first, the rest by name.
pub(super) fn sort(list: &mut MailboxList) {
    list.mailboxes
        .sort_by(|a, b| (a.name != "INBOX", &a.name).cmp(&(b.name != "INBOX", &b.name)));
}

/// Drops the least lately used mailboxes that nobody holds, down to `keep`.
fn evict(all: &mut HashMap<MailboxKey, Arc<Mailbox>>, keep: usize) {
    let mut free: Vec<(u64, MailboxKey)> = all
        .iter()
        .filter(|(_, m)| Arc::strong_count(m) == 1)
        .map(|(key, m)| (m.used.load(Ordering::Relaxed), *key))
        .collect();
    free.sort_unstable();
    for (_, key) in free.iter().take(all.len().saturating_sub(keep)) {
        all.remove(key);
    }
}
