//! Registering a device: the one operation on devices that a stranger's endpoint comes in with.
//!
//! May import: store, config, net, types.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::devices::{DeviceError, DeviceInfo, Devices, MAX_NAME, NewDevice, info, key, now};
use super::subscription::SubscriptionError;
use crate::config::PushConfig;
use crate::net::guard::Guard;
use crate::net::lookup::{LookupError, Most};
use crate::net::resolve::{Asker, resolve};
use crate::store::{Device, DeviceKind, DeviceState, OutboxEntry, StoreError, Update, WakeSlot};
use crate::types::{AccountId, DeviceId, UnixMillis};

const HOUR: u64 = 3600 * 1000;

impl Devices {
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
        let kind = DeviceKind::WebPush {
            endpoint: checked.endpoint,
            p256dh: checked.p256dh,
            auth: checked.auth,
            vapid_key: self.vapid_key()?.unwrap_or_default(),
        };
        let most = config.push.max_devices_per_account;
        let known = self.store.devices(account)?;
        // Looked at twice, because nobody may hold the lock while a name is looked up.
        let is_new = verified(&known, &kind).is_none();
        if is_new {
            // First of all, so that what is counted bounds the look-ups too.
            self.count_registration(account, at)?;
            if same(&known, &kind).is_none() && known.len() >= most {
                return Err(DeviceError::TooMany(most));
            }
            self.resolves(&guard, account, endpoint(&kind), &config.push)
                .await?;
        }
        let whole = self.edit().await;
        let known = self.store.devices(account)?;
        if let Some(old) = verified(&known, &kind) {
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
        if !is_new {
            self.count_registration(account, at)?;
        }
        let same = same(&known, &kind);
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

    fn count_registration(&self, account: AccountId, at: UnixMillis) -> Result<(), DeviceError> {
        let most = self.config.load().push.max_registrations_per_hour.max(1) as usize;
        let mut all = self.registrations.lock();
        all.retain(|_, times| times.back().is_some_and(|last| at.since(*last) < HOUR));
        let times = all.entry(account).or_default();
        // Those from the future were counted before the clock was set back.
        times.retain(|time| *time <= at && at.since(*time) < HOUR);
        if let Some(oldest) = times.front().filter(|_| times.len() >= most) {
            let retry_secs = oldest.plus(HOUR).since(at).div_ceil(1000).max(1);
            return Err(DeviceError::TooOften { retry_secs });
        }
        times.push_back(at);
        Ok(())
    }

    /// Refuses a name that leads to forbidden addresses only. One that can't be resolved now is
    /// taken: its code is pushed as soon as it can be, or the device is forgotten.
    async fn resolves(
        &self,
        guard: &Guard,
        account: AccountId,
        endpoint: &str,
        push: &PushConfig,
    ) -> Result<(), DeviceError> {
        let url = guard.url(endpoint).map_err(SubscriptionError::from)?;
        let port = url.port_or_known_default().unwrap_or(443);
        let plain = url.scheme() == "http";
        let asker = Asker {
            lookups: self.lookups.clone(),
            account: Some(account),
            most: Most {
                all: push.max_lookups,
                per_account: push.max_lookups_per_account,
                patience: Duration::from_secs(push.connect_timeout_secs),
            },
        };
        let host = url.host_str().unwrap_or_default();
        match resolve(guard, &asker, host, port, plain).await {
            Ok(Err(why)) => Err(SubscriptionError::from(why).into()),
            Err(LookupError::Busy) => Err(DeviceError::Busy),
            _ => Ok(()),
        }
    }
}

/// The device that has this endpoint.
fn same<'a>(known: &'a [Device], kind: &DeviceKind) -> Option<&'a Device> {
    let mut known = known.iter();
    known.find(|device| endpoint(&device.kind) == endpoint(kind))
}

/// The same if nothing is to be proven anew.
fn verified<'a>(known: &'a [Device], kind: &DeviceKind) -> Option<&'a Device> {
    same(known, kind).filter(|old| {
        keys(&old.kind) == keys(kind) && !matches!(old.state, DeviceState::Unverified { .. })
    })
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
