//! What readers and the committer share: the index, opened mailboxes and lists, the directory.
//!
//! May import: config, telemetry, types.
//!
//! Invariant: `publish` is held from the moment a group is applied to the index until it is
//! published, and by everybody who loads something from the index in order to keep it, so that
//! nothing stale is kept. It is never held over a write to the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::chunk::Chunk;
use super::directory::Directory;
use super::engine::Index;
use super::error::StoreError;
use super::feed::Ring;
use super::handle::Options;
use super::keys::{self, BlobRecord, MailboxRecord, NameRecord};
use super::log::{BlobStore, LogRead};
use super::model::{MailboxInfo, MailboxList};
use super::snapshot::{Mailbox, Snapshot};
use crate::telemetry::Telemetry;
use crate::types::{AccountId, BlobId, MailboxId, MailboxKey};

/// What a scan does with each key and value; an error ends it.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// What is kept of an account that somebody asked for.
pub(super) struct AccountView {
    pub list: ArcSwap<MailboxList>,
    pub told: watch::Sender<u64>,
}

pub(super) struct Shared {
    pub options: Options,
    pub telemetry: Arc<Telemetry>,
    pub index: Arc<dyn Index>,
    pub reader: Arc<dyn LogRead>,
    pub blobs: Arc<dyn BlobStore>,
    pub directory: ArcSwap<Directory>,
    pub accounts: Mutex<HashMap<AccountId, Arc<AccountView>>>,
    pub mailboxes: Mutex<HashMap<MailboxKey, Arc<Mailbox>>>,
    pub publish: Mutex<()>,
    pub ring: Ring,
    clock: AtomicU64,
}

/// The file that asks the next start to build the index anew.
pub(super) const REBUILD_MARK: &str = "rebuild-index";

impl Shared {
    pub(super) fn new(
        options: Options,
        telemetry: Arc<Telemetry>,
        index: Arc<dyn Index>,
        reader: Arc<dyn LogRead>,
        blobs: Arc<dyn BlobStore>,
        directory: Directory,
    ) -> Self {
        Self {
            ring: Ring::new(options.config.feed_groups),
            options,
            telemetry,
            index,
            reader,
            blobs,
            directory: ArcSwap::from_pointee(directory),
            accounts: Mutex::default(),
            mailboxes: Mutex::default(),
            publish: Mutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    pub(super) fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.index
            .get(key)
            .map_err(index)?
            .map(|raw| keys::decode(&raw))
            .transpose()
    }

    pub(super) fn scan(&self, prefix: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        let mut failed = Ok(());
        let scanned = self.index.scan(prefix, None, &mut |key, value| {
            failed = each(key, value);
            failed.is_ok()
        });
        scanned.map_err(index)?;
        failed
    }

    /// The mailbox, from memory or the index.
    pub(super) fn mailbox(&self, key: MailboxKey) -> Result<Arc<Mailbox>, StoreError> {
        if let Some(mailbox) = self.cached(key) {
            return Ok(mailbox);
        }
        let _guard = self.publish.lock();
        if let Some(mailbox) = self.cached(key) {
            return Ok(mailbox);
        }
        let mailbox = Arc::new(Mailbox::new(key, self.load(key)?));
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        let mut all = self.mailboxes.lock();
        if all.len() >= self.options.config.open_mailboxes {
            evict(&mut all, self.options.config.open_mailboxes / 2);
        }
        all.insert(key, mailbox.clone());
        Ok(mailbox)
    }

    fn cached(&self, key: MailboxKey) -> Option<Arc<Mailbox>> {
        let mailbox = self.mailboxes.lock().get(&key)?.clone();
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(mailbox)
    }

    /// Reads a mailbox and checks it: sled was seen to lose records without an error.
    fn load(&self, key: MailboxKey) -> Result<Snapshot, StoreError> {
        let record: MailboxRecord = self
            .get(&keys::mailbox(b'M', key))?
            .ok_or(StoreError::NoMailbox)?;
        let mut keywords = Vec::new();
        self.scan(&keys::mailbox(b'K', key), &mut |_, value| {
            keywords.push(keys::decode(value)?);
            Ok(())
        })?;
        let mut chunks: Vec<(u32, Chunk)> = Vec::new();
        self.scan(&keys::mailbox(b'f', key), &mut |k, value| {
            chunks.push((keys::tail(k), keys::decode(value)?));
            Ok(())
        })?;
        Snapshot::load(record, keywords, chunks).ok_or_else(|| {
            self.ask_for_rebuild();
            self.telemetry.store.check_failed(key);
            StoreError::Index(format!(
                "mailbox {}/{} is not what it should be; it is rebuilt from the log at the next start",
                key.account, key.mailbox
            ))
        })
    }

    pub(super) fn ask_for_rebuild(&self) {
        let path = self.options.dir.join(REBUILD_MARK);
        if let Err(error) = std::fs::write(&path, b"") {
            tracing::error!(%error, "the mark that asks for a rebuild could not be written");
        }
    }

    pub(super) fn account(&self, account: AccountId) -> Result<Arc<AccountView>, StoreError> {
        if let Some(view) = self.accounts.lock().get(&account) {
            return Ok(view.clone());
        }
        let _guard = self.publish.lock();
        if let Some(view) = self.accounts.lock().get(&account) {
            return Ok(view.clone());
        }
        if !self.directory.load().accounts.contains_key(&account) {
            return Err(StoreError::NoAccount);
        }
        let view = Arc::new(AccountView {
            list: ArcSwap::from_pointee(self.load_list(account)?),
            told: watch::Sender::new(0),
        });
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

    pub(super) fn blob(&self, blob: BlobId) -> Result<BlobRecord, StoreError> {
        self.get(&keys::blob(blob))?.ok_or(StoreError::DamagedBody)
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

pub(super) fn index(error: super::engine::IndexError) -> StoreError {
    StoreError::Index(error.to_string())
}
