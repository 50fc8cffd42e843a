//! The store's face: what everything above it calls. Mailboxes are in `mailboxes`, messages in
//! `messages`, devices and what is kept for workers in `devices`.
//!
//! Every `async` change returns after it is durable and applied. Reads are synchronous, touch
//! memory or the index (microseconds, warm), and say so where they may read the disk.
//!
//! May import: config, telemetry, types.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::asks::Progress;
use super::audit::CheckReport;
use super::clock::now;
use super::committer::{Committer, Room, Trouble};
use super::compact::Compacted;
use super::credentials::Credentials;
use super::directory::{Directory, Resolution};
use super::error::{OpenError, StoreError};
use super::fulltext::Indexer;
use super::identity;
use super::model::*;
use super::ops::Op;
use super::options::Options;
use super::pulse::{self, Pulse};
use super::queue::{Job, Message, Reply, Run};
use super::recovery;
use super::shared::Shared;
use super::state::Tx;
use super::turns::Turns;
use super::upkeep::{ImageTaken, Keeper, Upkeep};
use crate::telemetry::Telemetry;
use crate::types::{AccountId, Address, Domain, MailboxId, MailboxKey, Settable};

/// Figures for `status` and metrics.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct StoreStatus {
    pub accounts: u64,
    pub domains: u64,
    pub aliases: u64,
    pub devices: u64,
    pub outbox: u64,
    /// Age of the oldest outbox entry, milliseconds.
    pub outbox_oldest_ms: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub disk_free_bytes: u64,
    /// False while the disk is nearly full, or nothing can be changed at all.
    pub takes_mail: bool,
    pub log_end: String,
    /// Frames replayed at start, and whether the index was rebuilt.
    pub replayed_frames: u64,
    pub rebuilt: bool,
    /// Acknowledged groups that the log has lost, as far as that is known.
    pub lost_groups: u64,
    /// Mailboxes that the last rebuild of the index had to put in order.
    pub mended_mailboxes: u64,
    /// Backups that are under way and keep files from being removed.
    pub backups_running: u64,
}

/// How long a change may wait for a place in the committer's queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that one permit of the queue stands for.
const UNIT: usize = 1024;

/// Large messages that are in memory whole at the same time while they are looked at.
const READS: usize = 4;

/// Spooled messages that may be in memory at the same time while they are parsed.
const ARRIVALS: usize = 2;

struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    /// Bytes that may wait in the queue, in units of [`UNIT`].
    waiting: Arc<Semaphore>,
    /// As many again for messages that were spooled and are in memory until they are committed.
    spooled: Arc<Semaphore>,
    units: u32,
    /// Large messages that are looked at, and those that are parsed as they come in.
    reads: Turns,
    arrivals: Arc<Turns>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopped: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    upkeep: Arc<Upkeep>,
    lock: Mutex<Option<std::fs::File>>,
    replayed: u64,
    rebuilt: bool,
    log_bytes_at_start: u64,
}

/// A handle; clones share one open store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Flags that whoever has this handle may set.
    pub(super) settable: Settable,
}

impl Store {
    /// Opens, locks and recovers. Blocking; seconds where there is much to replay.
    pub fn open(options: Options, telemetry: Arc<Telemetry>) -> Result<Self, OpenError> {
        Self::start(recovery::open(options, telemetry)?)
    }

    /// Who has the store of a directory open, as an error; None: nobody.
    pub fn held(dir: &std::path::Path) -> Option<OpenError> {
        recovery::holder(dir)
    }

    /// Is there a store, or what is left of one?
    pub fn is_at(dir: &std::path::Path) -> bool {
        dir.join("log").exists() || identity::is_at(dir)
    }

    /// The threads of an open store.
    pub(super) fn start(recovered: recovery::Recovered) -> Result<Self, OpenError> {
        let options = &recovered.shared.options;
        let queue_len = options.config.queue_len.max(1);
        let units = (options.config.queue_bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let waiting = Arc::new(Semaphore::new(units as usize));
        let spooled = Arc::new(Semaphore::new(units as usize));
        let dir = options.dir.clone();
        let (queue, receiver) = mpsc::channel(queue_len);
        let stopped = Arc::new(AtomicBool::new(false));
        let pulse = Arc::new(Pulse::default());
        if !recovered.floors.is_empty() {
            // The committer begins with them; the other thread reminds it.
            recovered.shared.set_writable(false);
        }
        let committer = Committer {
            shared: recovered.shared.clone(),
            log: recovered.log,
            queue: receiver,
            next_seq: recovered.next_seq,
            room: Room::default(),
            stopped: stopped.clone(),
            pulse: pulse.clone(),
            trouble: Trouble::with_floors(recovered.floors),
        };
        let failed = |source| OpenError::Io {
            path: dir.clone(),
            source,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let commits = thread("committer")
            .spawn(move || committer.run())
            .map_err(failed)?;
        let (shared, beat, weak) = (recovered.shared.clone(), pulse.clone(), queue.downgrade());
        let checkpoints = thread("checkpoint")
            .spawn(move || pulse::run(&shared, &beat, &weak))
            .map_err(failed)?;
        let upkeep = Arc::new(Upkeep::default());
        let keeper = Keeper {
            shared: recovered.shared.clone(),
            upkeep: upkeep.clone(),
            queue: queue.downgrade(),
        };
        let upkeeps = thread("upkeep")
            .spawn(move || keeper.run())
            .map_err(failed)?;
        // After an index that was rebuilt nobody can say that UIDs mean what they meant.
        let indexer = Indexer::new(recovered.shared.clone(), recovered.rebuilt);
        let indexes = thread("full-text")
            .spawn(move || indexer.run())
            .map_err(failed)?;
        Ok(Self {
            settable: Settable::ALL,
            inner: Arc::new(Inner {
                shared: recovered.shared,
                queue,
                waiting,
                spooled,
                units,
                reads: Turns::new(READS),
                arrivals: Arc::new(Turns::new(ARRIVALS)),
                threads: Mutex::new(vec![indexes, upkeeps, commits, checkpoints]),
                stopped,
                pulse,
                upkeep,
                lock: Mutex::new(Some(recovered.lock)),
                replayed: recovered.replayed,
                rebuilt: recovered.rebuilt,
                log_bytes_at_start: recovered.log_bytes,
            }),
        })
    }

    /// Stops taking changes, commits what waits, checkpoints, lets go of the lock.
    pub async fn close(&self) {
        // First, while its changes are still taken.
        self.inner.upkeep.stop();
        self.inner.shared.full_text.stop();
        let _ = self.inner.queue.send(Message::Stop).await;
        let inner = self.inner.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let mut threads = std::mem::take(&mut *inner.threads.lock());
            let checkpoints = threads.pop();
            for thread in threads {
                let _ = thread.join();
            }
            inner.pulse.stop();
            if let Some(thread) = checkpoints {
                let _ = thread.join();
            }
            inner.lock.lock().take();
        });
        let _ = joined.await;
    }

    #[cfg(test)]
    pub(super) fn inner_waiting(&self) -> usize {
        self.inner.queue.max_capacity() - self.inner.queue.capacity()
    }

    #[cfg(test)]
    pub(super) fn inner_queue(&self) -> &mpsc::Sender<Message> {
        &self.inner.queue
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Whoever looks at a whole large message waits here for its turn.
    pub fn large_reads(&self) -> &Turns {
        &self.inner.reads
    }

    pub(super) fn arrivals(&self) -> Arc<Turns> {
        Arc::clone(&self.inner.arrivals)
    }

    pub(super) fn room_in_memory(&self) -> (Arc<Semaphore>, u32) {
        (self.inner.spooled.clone(), self.inner.units)
    }

    /// False while changes are refused: the disk or the index failed and is being mended.
    pub fn is_writable(&self) -> bool {
        self.shared().is_writable()
    }

    /// Takes a state image now.
    pub async fn take_image(&self, progress: Progress) -> Result<ImageTaken, StoreError> {
        self.inner.upkeep.image(progress).await
    }

    /// Takes a state image, and removes what nobody needs any more from the log.
    pub async fn compact(&self, progress: Progress) -> Result<Compacted, StoreError> {
        self.inner.upkeep.compact(progress).await
    }

    /// Looks at the whole store; with `deep` also whether every body can be read.
    pub async fn check(&self, deep: bool, progress: Progress) -> Result<CheckReport, StoreError> {
        let inner = &self.inner;
        let keeper = Keeper {
            shared: inner.shared.clone(),
            upkeep: inner.upkeep.clone(),
            queue: inner.queue.downgrade(),
        };
        let (answer, answered) = oneshot::channel();
        let thread = keeper.check(deep, progress, answer)?;
        {
            let mut threads = inner.threads.lock();
            if threads.is_empty() {
                return Err(StoreError::Closed);
            }
            threads.retain(|thread| !thread.is_finished());
            threads.insert(0, thread);
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Has `find` look for its facts in the committer, and waits until they are durable. What
    /// fails there, or panics, leaves nothing behind.
    pub(super) async fn commit<R: Send + 'static>(
        &self,
        weight: usize,
        find: impl FnOnce(&mut Tx) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let until = tokio::time::Instant::now() + QUEUE_PATIENCE;
        let needed = u32::try_from(weight / UNIT + 1).unwrap_or(u32::MAX);
        let needed = needed.min(self.inner.units);
        let place = self.inner.waiting.clone().acquire_many_owned(needed);
        let place = tokio::time::timeout_at(until, place)
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let settable = self.settable;
        let run: Run = Box::new(move |tx: Result<&mut Tx, StoreError>| {
            let found = tx.and_then(|tx| {
                tx.settable = settable;
                attempt(tx, find)
            });
            let reply: Reply = Box::new(move |durable: Result<(), StoreError>| {
                let _ = answer.send(found.and_then(|found| durable.map(|()| found)));
                drop(place);
            });
            reply
        });
        let sent = self
            .inner
            .queue
            .send_timeout(Message::Job(Job { weight, run }), QUEUE_PATIENCE);
        sent.await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => StoreError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => StoreError::Closed,
        })?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Figures of the moment. Reads the index.
    pub fn status(&self) -> StoreStatus {
        let shared = self.shared();
        let directory = self.directory();
        let mut devices = 0;
        let counted = shared.scan(b"p", &mut |_, _| {
            devices += 1;
            Ok(())
        });
        let outbox = self.outbox().unwrap_or_default();
        let oldest = outbox.iter().map(|e| e.caused).min();
        if let Err(error) = counted {
            tracing::warn!(%error, "devices could not be counted");
        }
        let logged = shared.disk.list(&shared.options.dir.join("log"));
        let logged = logged.map_or(0, |files| files.iter().map(|file| file.len).sum());
        StoreStatus {
            accounts: directory.accounts.len() as u64,
            domains: directory.domains.len() as u64,
            aliases: directory.aliases.len() as u64,
            devices,
            outbox: outbox.len() as u64,
            outbox_oldest_ms: oldest.map_or(0, |at| now().since(at)),
            log_bytes: logged.max(self.inner.log_bytes_at_start),
            index_bytes: shared.index.load().size_on_disk(),
            disk_free_bytes: shared.disk.free_bytes(&shared.options.dir).unwrap_or(0),
            takes_mail: self.takes_mail(),
            log_end: shared.ring.end().to_string(),
            replayed_frames: self.inner.replayed,
            rebuilt: self.inner.rebuilt,
            lost_groups: shared.damage.lost_groups(),
            mended_mailboxes: shared.damage.mended_mailboxes(),
            backups_running: u64::from(*shared.files_held.lock()),
        }
    }

    // ---- who is local (memory only) ----

    pub fn directory(&self) -> Arc<Directory> {
        self.shared().directory.load_full()
    }

    /// Exact address, then without `+detail`, aliases (followed to depth 10, loops cut),
    /// postmaster (alias, else the oldest account of the domain, else the oldest of all).
    pub fn resolve(&self, address: &Address) -> Resolution {
        let shared = self.shared();
        let separator = shared.options.subaddress_separator;
        match shared.directory.load().resolve(address, separator) {
            Resolution::NoUser if shared.damage.is_doubtful() => Resolution::Unsure,
            found => found,
        }
    }

    pub async fn domain_add(&self, domain: Domain) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            if domain.is_literal() {
                return Err(StoreError::Invalid("an address literal is no domain"));
            }
            if tx.directory.is_local(&domain) {
                return Err(StoreError::Exists);
            }
            tx.fact(Op::DomainPut(LocalDomain {
                domain,
                created: tx.now,
            }))
        })
        .await
    }

    /// Refused while accounts or aliases use it.
    pub async fn domain_remove(&self, domain: Domain) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            if !tx.directory.is_local(&domain) {
                return Err(StoreError::NoDomain);
            }
            let accounts = tx
                .directory
                .accounts()
                .any(|a| *a.address.domain() == domain);
            let aliases = tx
                .directory
                .aliases()
                .any(|a| *a.address.domain() == domain);
            if accounts || aliases {
                return Err(StoreError::Invalid(
                    "accounts or aliases still use the domain",
                ));
            }
            tx.fact(Op::DomainRemove(domain))
        })
        .await
    }

    /// Makes the account with INBOX, Drafts, Sent, Junk, Trash and Archive, all subscribed.
    pub async fn account_add(
        &self,
        address: Address,
        password_hash: String,
    ) -> Result<AccountId, StoreError> {
        self.account_create(address, password_hash.into()).await
    }

    /// [`Store::account_add`] with all that is kept of the password.
    pub async fn account_create(
        &self,
        address: Address,
        credentials: Credentials,
    ) -> Result<AccountId, StoreError> {
        self.commit(1024, move |tx| {
            if !tx.directory.is_local(address.domain()) {
                return Err(StoreError::NoDomain);
            }
            if tx.directory.account_by_address(&address).is_some()
                || tx.directory.alias(&address).is_some()
            {
                return Err(StoreError::Exists);
            }
            let id = AccountId(tx.global_marks()?.next_account);
            let account = Account {
                id,
                address,
                password_hash: credentials.hash,
                created: tx.now,
                disabled: false,
            };
            tx.fact(Op::AccountPut(account))?;
            tx.put_scram(id, credentials.scram.as_ref())?;
            let uses = [
                ("INBOX", None),
                ("Drafts", Some(SpecialUse::Drafts)),
                ("Sent", Some(SpecialUse::Sent)),
                ("Junk", Some(SpecialUse::Junk)),
                ("Trash", Some(SpecialUse::Trash)),
                ("Archive", Some(SpecialUse::Archive)),
            ];
            for (n, (name, special_use)) in (1..).zip(uses) {
                let uid_validity = tx.new_validity()?;
                tx.fact(Op::MailboxCreate {
                    mailbox: MailboxKey {
                        account: id,
                        mailbox: MailboxId(n),
                    },
                    name: name.into(),
                    uid_validity,
                    special_use,
                    subscribed: true,
                })?;
            }
            Ok(id)
        })
        .await
    }

    pub async fn account_set_password(
        &self,
        id: AccountId,
        hash: String,
    ) -> Result<(), StoreError> {
        self.account_set_credentials(id, hash.into()).await
    }

    /// Adds or replaces. Refused where an account has the address, or the domain is not local.
    pub async fn alias_put(&self, alias: Alias) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            if !tx.directory.is_local(alias.address.domain()) {
                return Err(StoreError::NoDomain);
            }
            if tx.directory.account_by_address(&alias.address).is_some() {
                return Err(StoreError::Exists);
            }
            if alias.targets.is_empty() {
                return Err(StoreError::Invalid("an alias needs a target"));
            }
            if alias
                .targets
                .iter()
                .any(|t| !tx.directory.is_local(t.domain()))
            {
                return Err(StoreError::Invalid("every target must be local"));
            }
            if alias.targets.len() > 50 {
                return Err(StoreError::Limit("50 targets of an alias"));
            }
            let separator = tx.shared.options.subaddress_separator;
            if tx.directory.would_loop(&alias, separator) {
                return Err(StoreError::Invalid("the alias leads back to itself"));
            }
            tx.fact(Op::AliasPut(alias))
        })
        .await
    }

    pub async fn alias_remove(&self, address: Address) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            tx.directory.alias(&address).ok_or(StoreError::NoAlias)?;
            tx.fact(Op::AliasRemove(address))
        })
        .await
    }
}

/// One change in the group; an error or a panic takes back what it did so far.
pub(super) fn attempt<R>(
    tx: &mut Tx,
    find: impl FnOnce(&mut Tx) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let mark = tx.mark();
    let found = catch_unwind(AssertUnwindSafe(|| find(tx))).unwrap_or_else(|_| {
        tx.shared.telemetry.store.panicked();
        Err(StoreError::Write("the change failed in the server".into()))
    });
    if found.is_err() {
        tx.rollback(&mark);
    }
    found
}
