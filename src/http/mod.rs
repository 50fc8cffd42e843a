//! HTTP: API, metrics, health.
//!
//! May import: admin, store, auth, tls, net, config, telemetry, types.
//!
//! On the plain listeners: metrics and health for whoever reaches them, the API for loopback
//! only. On the TLS listeners: health and the API.

mod api;
mod browser;
mod connection;
mod error;
mod health;
mod layers;
mod login;
mod server;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::admin::devices::Devices;
use crate::auth::Auth;
use crate::config::Config;
use crate::net::TlsSource;
use crate::store::Store;
use crate::telemetry::Telemetry;

pub use server::start;

/// What the HTTP service works with. Clones share everything.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub auth: Auth,
    pub config: Arc<ArcSwap<Config>>,
    pub tls: TlsSource,
    pub telemetry: Arc<Telemetry>,
    pub stop: CancellationToken,
    /// Set once all services listen; until then `/readyz` says 503.
    pub ready: Arc<AtomicBool>,
    pub devices: Devices,
}
