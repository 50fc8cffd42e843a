//! The notifier: from deliveries to wake-ups.
//!
//! May import: store, auth, tls, net, config, mail, telemetry, types. Machines: `planner` and
//! each service's request and answer; `worker` does the IO.
//!
//! The delivery path knows nothing of this. The worker reads the store's changes from a durable
//! cursor; cursor and outbox move in one commit, so that a wake-up is owed from the moment of
//! the delivery's own commit. After a crash a phone may be woken twice, never not at all.

mod batch;
mod client;
mod outcome;
mod payload;
mod planner;
mod service;
mod tasks;
mod wakeup;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::service::Transport;
use self::service::webpush::WebPush;
use self::service::webpush::vapid::{KeyError, Vapid};
use self::worker::{Command, Worker};
use crate::config::Config;
use crate::store::{Store, StoreError, Update};
use crate::telemetry::Telemetry;
use crate::types::{AccountId, DeviceId};

pub use outcome::{Answer, Outcome, Rejection, Untested};

/// The store's setting that holds the VAPID key pair as PKCS#8.
pub const VAPID_SETTING: &str = "vapid-key";

/// The setting that holds since when push services have no host, by device.
const LOST_SETTING: &str = "push-lost-hosts";

/// Why the notifier could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the VAPID key in the store is damaged")]
    Key,
}

impl From<KeyError> for StartError {
    fn from(_: KeyError) -> Self {
        Self::Key
    }
}

/// To the running worker. Clones share it.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    edits: Arc<Mutex<()>>,
    public_key: Arc<[u8]>,
    done: Arc<parking_lot::Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

impl Handle {
    /// To be held from reading a device until its change is committed: the worker notes
    /// successes and failures in the same record.
    pub fn edits(&self) -> Arc<Mutex<()>> {
        self.edits.clone()
    }

    /// A device was added, changed or removed. Nothing is lost if the server dies before: what
    /// matters is in the store.
    pub async fn changed(&self, account: AccountId, device: DeviceId) {
        let _ = self
            .commands
            .send(Command::Changed((account, device)))
            .await;
    }

    /// Wakes the device now.
    pub async fn test(&self, account: AccountId, device: DeviceId) -> Result<Answer, Untested> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Test((account, device), reply);
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Untested::Later)?;
        answer.await.unwrap_or(Err(Untested::Later))
    }

    /// The key that browsers call `applicationServerKey`: an uncompressed point.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Waits until the worker has ended after `stop`.
    pub async fn stopped(&self) {
        let done = self.done.lock().take();
        if let Some(done) = done {
            let _ = done.await;
        }
    }
}

/// Starts the worker; it runs until `stop`.
pub async fn start(
    store: Store,
    config: Arc<ArcSwap<Config>>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
) -> Result<Handle, StartError> {
    let pkcs8 = match store.setting(VAPID_SETTING)? {
        Some(pkcs8) => pkcs8,
        None => {
            let pkcs8 = Vapid::generate()?;
            let put = Update::SettingPut(VAPID_SETTING.to_owned(), pkcs8.clone());
            store.update(vec![put]).await?;
            pkcs8
        }
    };
    let vapid = Arc::new(Vapid::from_pkcs8(&pkcs8)?);
    let public_key = vapid.public().into();
    let web_push = WebPush::new(store.clone(), config.clone(), vapid);
    // Mail is served all the same.
    if let Err(class) = web_push.check() {
        telemetry.push.own_fault(class);
    }
    let transport: Arc<dyn Transport> = Arc::new(web_push);
    let edits = Arc::new(Mutex::new(()));
    let (commands, receiver) = mpsc::channel(64);
    let worker = Worker::new(
        store,
        config,
        telemetry,
        transport,
        edits.clone(),
        wakeup::TopicKey::new(&pkcs8),
    )?;
    let done = tokio::spawn(worker.run(receiver, stop));
    Ok(Handle {
        commands,
        edits,
        public_key,
        done: Arc::new(parking_lot::Mutex::new(Some(done))),
    })
}

/// Throws bytes of a stranger at everything here that reads such: endpoint and keys of a
/// subscription, and a push service's answer.
#[doc(hidden)]
pub fn fuzz_subscription(data: &[u8]) {
    service::webpush::fuzz(data);
}
