//! Transports: one file per way to reach a phone.

pub(crate) mod webpush;

use std::future::Future;
use std::pin::Pin;

use super::outcome::Answer;
use crate::store::{Device, DeviceKind};
use crate::types::UnixMillis;

/// A future that a transport gives back.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What is sent: the same for all transports, each takes what it can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WakeUp {
    /// JSON of `payload`.
    pub(crate) full: Vec<u8>,
    /// The same without content, for services that find the full one too large.
    pub(crate) small: Vec<u8>,
    pub(crate) ttl_secs: u64,
    pub(crate) urgency: &'static str,
    /// A waiting wake-up of the same topic is replaced. Meaningless to strangers.
    pub(crate) topic: Option<String>,
}

/// One way to reach a phone. It bounds its own time.
pub(crate) trait Transport: Send + Sync {
    /// Metric label.
    fn name(&self) -> &'static str;
    /// Sends one wake-up; never fails, every end is an outcome.
    fn send<'a>(&'a self, device: &'a Device, wakeup: &'a WakeUp, now: UnixMillis) -> Sending<'a>;
    /// Was the registration made for the credentials that we use now?
    fn credentials_match(&self, device: &Device) -> bool;
}

/// Where a device's wake-ups go: failures of one origin are counted together.
pub(crate) fn origin(kind: &DeviceKind) -> String {
    match kind {
        DeviceKind::WebPush { endpoint, .. } => webpush::origin(endpoint),
    }
}
