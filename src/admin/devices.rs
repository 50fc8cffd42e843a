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
use crate::net::resolve::resolve;
use crate::store::{
    ContentLevel, Device, DeviceKind, DeviceState, OutboxEntry, OutboxKey, Store, StoreError,
    Update, WakeSlot,
};
use crate::types::{AccountId, DeviceId, UnixMillis};

/// For how long a test waits for its turn.
pub const TEST_PATIENCE: Duration = Duration::from_secs(5);
/// Characters of a device's name.
pub const MAX_NAME: usize = 100;
const HOUR: u64 = 3600 * 1000;

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
    store: Store,
    config: Arc<ArcSwap<Config>>,
    tester: Option<Arc<dyn DeviceTester>>,
    edits: Arc<Mutex<()>>,
    registrations: Arc<parking_lot::Mutex<HashMap<AccountId, VecDeque<UnixMillis>>>>,
}

fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Devices {
    /// `tester` is None where the command line holds the store itself: what is changed then is
    /// done by the notifier at the server's next start.
    pub fn new(
        store: Store,
        config: Arc<ArcSwap<Config>>,
        tester: Option<Arc<dyn DeviceTester>>,
    ) -> Self {
        let edits = tester.as_ref().map_or_else(Arc::default, |t| t.edits());
        Self {
            store,
            config,
            tester,
            edits,
            registrations: Arc::default(),
        }
    }

    pub fn list(&self, account: AccountId) -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(self.store.devices(account)?.iter().map(info).collect())
    }

    pub fn get(&self, account: AccountId, id: DeviceId) -> Result<DeviceInfo, DeviceError> {
        let device = self.store.device(account, id)?;
        device.as_ref().map(info).ok_or(DeviceError::NotFound)
    }

    /// Registers a device; a code is pushed to it that has to come back through [`verify`].
    /// An endpoint that the account has already keeps its id, and stays verified if its keys
    /// are the same: pages do this at every visit. One that is not verified gets a new code.
    ///
    /// [`verify`]: Self::verify
    pub async fn add(&self, account: AccountId, new: NewDevice) -> Result<DeviceInfo, DeviceError> {
        let config = self.config.load_full();
        let name = new.name.trim();
        let length = name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || name.chars().any(char::is_control) {
            return Err(DeviceError::Name);
        }
        let guard = Guard::new(&config.push.allow_private, config.push.allow_http)
            .map_err(|error| DeviceError::Config(error.to_string()))?;
        let at = now();
        let checked = new.subscription.check(&guard, at)?;
        let patience = Duration::from_secs(config.push.connect_timeout_secs);
        resolves(&guard, &checked.endpoint, patience).await?;
        let kind = DeviceKind::WebPush {
            endpoint: checked.endpoint,
            p256dh: checked.p256dh,
            auth: checked.auth,
            vapid_key: self.vapid_key()?.unwrap_or_default(),
        };
        let whole = self.edit().await;
        let known = self.store.devices(account)?;
        let same = known
            .iter()
            .find(|device| endpoint(&device.kind) == endpoint(&kind));
        if let Some(old) = same
            && keys(&old.kind) == keys(&kind)
            && !matches!(old.state, DeviceState::Unverified { .. })
        {
            let mut device = old.clone();
            device.name = name.to_owned();
            device.show = new.show;
            if device != *old {
                self.store
                    .update(vec![Update::DevicePut(Box::new(device.clone()))])
                    .await?;
            }
            return Ok(info(&device));
        }
        self.count_registration(account, at)?;
        let most = config.push.max_devices_per_account;
        if same.is_none() && known.len() >= most {
            return Err(DeviceError::TooMany(most));
        }
        let expires = at.plus(config.push.verify_timeout_secs.saturating_mul(1000));
        let mut device = Device {
            id: same.map_or(DeviceId(0), |old| old.id),
            account,
            name: name.to_owned(),
            kind,
            state: DeviceState::Unverified {
                code: code().ok_or(DeviceError::Later)?,
                expires,
            },
            show: new.show,
            created: at,
            last_success: None,
            last_failure: None,
            last_error: None,
            failures: 0,
        };
        let mut updates = Vec::new();
        match same {
            Some(_) => updates.push(Update::DevicePut(Box::new(device.clone()))),
            None => {
                let added = self.store.device_add(device.clone(), most).await;
                device.id = added.map_err(|error| match error {
                    StoreError::Limit(_) => DeviceError::TooMany(known.len()),
                    other => other.into(),
                })?;
            }
        }
        updates.push(Update::OutboxPut(verification(&device, at, expires)));
        self.store.update(updates).await?;
        drop(whole);
        self.changed(account, device.id).await;
        Ok(info(&device))
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

    async fn edit(&self) -> OwnedMutexGuard<()> {
        self.edits.clone().lock_owned().await
    }

    async fn changed(&self, account: AccountId, id: DeviceId) {
        if let Some(tester) = &self.tester {
            tester.changed(account, id).await;
        }
    }

    fn read(&self, account: AccountId, id: DeviceId) -> Result<Device, DeviceError> {
        self.store.device(account, id)?.ok_or(DeviceError::NotFound)
    }

    fn count_registration(&self, account: AccountId, at: UnixMillis) -> Result<(), DeviceError> {
        let most = self.config.load().push.max_registrations_per_hour.max(1) as usize;
        let mut all = self.registrations.lock();
        all.retain(|_, times| times.back().is_some_and(|last| at.since(*last) < HOUR));
        let times = all.entry(account).or_default();
        times.retain(|time| at.since(*time) < HOUR);
        if let Some(oldest) = times.front().filter(|_| times.len() >= most) {
            let retry_secs = oldest.plus(HOUR).since(at).div_ceil(1000).max(1);
            return Err(DeviceError::TooOften { retry_secs });
        }
        times.push_back(at);
        Ok(())
    }
}

/// Refuses a name that leads to forbidden addresses only. One that can't be resolved now is taken:
/// its code is pushed as soon as it can be, or the device is forgotten.
async fn resolves(guard: &Guard, endpoint: &str, patience: Duration) -> Result<(), DeviceError> {
    let url = guard.url(endpoint).map_err(SubscriptionError::from)?;
    let port = url.port_or_known_default().unwrap_or(443);
    let plain = url.scheme() == "http";
    let found = resolve(guard, url.host_str().unwrap_or_default(), port, plain);
    match tokio::time::timeout(patience, found).await {
        Ok(Ok(Err(why))) => Err(SubscriptionError::from(why).into()),
        _ => Ok(()),
    }
}

fn key(account: AccountId, device: DeviceId, slot: WakeSlot) -> OutboxKey {
    OutboxKey {
        account,
        device,
        slot,
    }
}

fn verification(device: &Device, at: UnixMillis, expires: UnixMillis) -> OutboxEntry {
    OutboxEntry {
        key: key(device.account, device.id, WakeSlot::Verify),
        uids: vec![],
        count: 1,
        caused: at,
        due: at,
        expires,
        attempts: 0,
    }
}

/// 128 bits in base64url.
fn code() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn endpoint(kind: &DeviceKind) -> &str {
    let DeviceKind::WebPush { endpoint, .. } = kind;
    endpoint
}

fn keys(kind: &DeviceKind) -> (&[u8], &[u8], &[u8]) {
    let DeviceKind::WebPush {
        p256dh,
        auth,
        vapid_key,
        ..
    } = kind;
    (p256dh, auth, vapid_key)
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
