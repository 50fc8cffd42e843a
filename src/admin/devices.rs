//! Devices: list, add, verify, pause, remove, test. For their owners over the API, and for the
//! administrator over the command line.
//!
//! May import: store, config, net, types. The running notifier is reached through
//! [`DeviceTester`], so that nothing here knows it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::subscription::{Subscription, SubscriptionError};
use crate::config::Config;
use crate::net::guard::Guard;
use crate::net::lookup::Lookups;
use crate::store::{
    ContentLevel, Device, DeviceKind, DeviceState, OutboxKey, Store, StoreError, Update, WakeSlot,
};
use crate::types::{AccountId, DeviceId, UnixMillis};

/// For how long a test waits for its turn.
pub const TEST_PATIENCE: Duration = Duration::from_secs(5);
/// Characters of a device's name.
pub const MAX_NAME: usize = 100;

/// A future that a [`DeviceTester`] gives back.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running notifier, as far as devices need it.
pub trait DeviceTester: Send + Sync {
    /// Held from reading a device until its change is committed; the notifier does the same.
    fn edits(&self) -> Arc<Mutex<()>>;
    /// A device was added, changed or removed.
    fn changed(&self, account: AccountId, device: DeviceId) -> Asked<'_, ()>;
    /// Wakes it now.
    fn test(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Asked<'_, Result<TestResult, NotTested>>;
}

/// Why a test was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTested {
    /// As often as it may be.
    TooOften { retry_secs: u64 },
    /// Not possible at this moment.
    Later,
}

/// What the push service said to a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// `delivered`, `gone`, `rejected`, `auth`, `throttled` or `transient`.
    pub outcome: String,
    /// Its HTTP status, where it answered.
    pub status: Option<u16>,
    /// A short class of the answer; never its text.
    pub answer: String,
}

/// A new device as its owner gives it.
#[derive(Clone, Debug, Deserialize)]
pub struct NewDevice {
    pub name: String,
    pub subscription: Subscription,
    #[serde(default)]
    pub show: ContentLevel,
}

/// A device without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    pub id: u32,
    pub name: String,
    pub kind: &'static str,
    pub state: &'static str,
    /// Why it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub show: ContentLevel,
    /// Where the push service is.
    pub origin: String,
    /// To recognise the endpoint: the first 16 characters of its SHA-256 in base64url.
    pub endpoint_hash: String,
    /// Times in milliseconds since 1970.
    pub created: u64,
    pub last_success: Option<u64>,
    pub last_failure: Option<u64>,
    pub last_error: Option<String>,
    pub failures: u32,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("no such device")]
    NotFound,
    #[error("the name must have 1 to {MAX_NAME} characters and no control characters")]
    Name,
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    #[error("the account has as many devices as it may: {0}")]
    TooMany(usize),
    #[error("too often, try again later")]
    TooOften { retry_secs: u64 },
    #[error("the code is wrong or too old")]
    Code,
    #[error("the device does not wait for a code: it is verified already")]
    Verified,
    #[error("the device is not verified yet")]
    Unverified,
    #[error("no wake-up is possible at this moment, try again in a few seconds")]
    Later,
    #[error("too many names are being looked up, try again in a few seconds")]
    Busy,
    #[error("the server does not run, so nothing can be sent")]
    NotRunning,
    #[error("[push] allow_private: {0}")]
    Config(String),
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for DeviceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoDevice | StoreError::NoAccount => Self::NotFound,
            other => Self::Store(other),
        }
    }
}

/// The operations. Clones share their limits.
#[derive(Clone)]
pub struct Devices {
    pub(super) store: Store,
    pub(super) config: Arc<ArcSwap<Config>>,
    tester: Option<Arc<dyn DeviceTester>>,
    edits: Arc<Mutex<()>>,
    pub(super) registrations: Arc<parking_lot::Mutex<HashMap<AccountId, VecDeque<UnixMillis>>>>,
    pub(super) lookups: Arc<Lookups>,
}

pub(super) fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Devices {
    /// `tester` is None where the command line holds the store itself: what is changed then is
    /// done by the notifier at the server's next start. `lookups` are those of registrations.
    pub fn new(
        store: Store,
        config: Arc<ArcSwap<Config>>,
        tester: Option<Arc<dyn DeviceTester>>,
        lookups: Arc<Lookups>,
    ) -> Self {
        let edits = tester.as_ref().map_or_else(Arc::default, |t| t.edits());
        Self {
            store,
            config,
            tester,
            edits,
            registrations: Arc::default(),
            lookups,
        }
    }

    pub fn list(&self, account: AccountId) -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(self.store.devices(account)?.iter().map(info).collect())
    }

    pub fn get(&self, account: AccountId, id: DeviceId) -> Result<DeviceInfo, DeviceError> {
        let device = self.store.device(account, id)?;
        device.as_ref().map(info).ok_or(DeviceError::NotFound)
    }

    /// The code came back: from now on the device is woken.
    pub async fn verify(
        &self,
        account: AccountId,
        id: DeviceId,
        given: &str,
    ) -> Result<DeviceInfo, DeviceError> {
        let whole = self.edit().await;
        let mut device = self.read(account, id)?;
        match &device.state {
            DeviceState::Unverified { code, expires } => {
                let right = aws_lc_rs::constant_time::verify_slices_are_equal(
                    code.as_bytes(),
                    given.as_bytes(),
                );
                if right.is_err() || *expires <= now() {
                    return Err(DeviceError::Code);
                }
            }
            _ => return Err(DeviceError::Verified),
        }
        device.state = DeviceState::Active;
        // What went wrong with the code has come right.
        device.last_error = None;
        device.failures = 0;
        let slot = WakeSlot::Verify;
        self.store
            .update(vec![
                Update::DevicePut(Box::new(device.clone())),
                Update::OutboxRemove(key(account, id, slot)),
            ])
            .await?;
        drop(whole);
        self.changed(account, id).await;
        Ok(info(&device))
    }

    /// `reason`: pause it; None: wake it again.
    pub async fn pause(
        &self,
        account: AccountId,
        id: DeviceId,
        reason: Option<&str>,
    ) -> Result<DeviceInfo, DeviceError> {
        let whole = self.edit().await;
        let mut device = self.read(account, id)?;
        if let DeviceState::Unverified { .. } = device.state {
            return Err(DeviceError::Unverified);
        }
        device.state = match reason {
            Some(reason) => DeviceState::Paused {
                reason: reason.to_owned(),
            },
            None => DeviceState::Active,
        };
        self.store
            .update(vec![Update::DevicePut(Box::new(device.clone()))])
            .await?;
        drop(whole);
        self.changed(account, id).await;
        Ok(info(&device))
    }

    pub async fn remove(&self, account: AccountId, id: DeviceId) -> Result<(), DeviceError> {
        let whole = self.edit().await;
        self.store
            .update(vec![Update::DeviceRemove(account, id)])
            .await?;
        drop(whole);
        self.changed(account, id).await;
        Ok(())
    }

    /// Sends a wake-up now and says what the push service answered.
    pub async fn test(&self, account: AccountId, id: DeviceId) -> Result<TestResult, DeviceError> {
        let device = self.read(account, id)?;
        if let DeviceState::Unverified { .. } = device.state {
            return Err(DeviceError::Unverified);
        }
        let tester = self.tester.as_ref().ok_or(DeviceError::NotRunning)?;
        tester.test(account, id).await.map_err(|why| match why {
            NotTested::TooOften { retry_secs } => DeviceError::TooOften { retry_secs },
            NotTested::Later => DeviceError::Later,
        })
    }

    /// What browsers call `applicationServerKey`; None before the server's first start.
    pub fn vapid_key(&self) -> Result<Option<Vec<u8>>, DeviceError> {
        let Some(pkcs8) = self.store.setting("vapid-key")? else {
            return Ok(None);
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok();
        Ok(pair.map(|pair| pair.public_key().as_ref().to_vec()))
    }

    pub(super) async fn edit(&self) -> OwnedMutexGuard<()> {
        self.edits.clone().lock_owned().await
    }

    pub(super) async fn changed(&self, account: AccountId, id: DeviceId) {
        if let Some(tester) = &self.tester {
            tester.changed(account, id).await;
        }
    }

    fn read(&self, account: AccountId, id: DeviceId) -> Result<Device, DeviceError> {
        self.store.device(account, id)?.ok_or(DeviceError::NotFound)
    }
}

pub(super) fn key(account: AccountId, device: DeviceId, slot: WakeSlot) -> OutboxKey {
    OutboxKey {
        account,
        device,
        slot,
    }
}

/// A device as its owner may see it: the endpoint is a capability and never shown whole.
pub fn info(device: &Device) -> DeviceInfo {
    let DeviceKind::WebPush { endpoint, .. } = &device.kind;
    let origin = reqwest::Url::parse(endpoint)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default();
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, endpoint.as_bytes()));
    let (state, reason) = match &device.state {
        DeviceState::Unverified { .. } => ("unverified", None),
        DeviceState::Active => ("active", None),
        DeviceState::Paused { reason } => ("paused", Some(reason.clone())),
    };
    DeviceInfo {
        id: device.id.0,
        name: device.name.clone(),
        kind: "webpush",
        state,
        reason,
        show: device.show,
        origin,
        endpoint_hash: hash.chars().take(16).collect(),
        created: device.created.0,
        last_success: device.last_success.map(|at| at.0),
        last_failure: device.last_failure.map(|at| at.0),
        last_error: device.last_error.clone(),
        failures: device.failures,
    }
}

/// Throws a stranger's JSON at the parser of subscriptions.
#[doc(hidden)]
pub fn fuzz_subscription(data: &[u8]) {
    if let Ok(new) = serde_json::from_slice::<NewDevice>(data) {
        let _ = new.subscription.check(&Guard::default(), UnixMillis(0));
    }
    if let Ok(subscription) = serde_json::from_slice::<Subscription>(data) {
        let checked = subscription.check(&Guard::default(), UnixMillis(0));
        debug_assert!(checked.is_err() || checked.is_ok_and(|c| c.p256dh.len() == 65));
    }
}
