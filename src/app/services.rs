//! The servers and workers, started together and stopped together.
//!
//! May import: everything but cli.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{AppError, Core};
use crate::admin::devices::Devices;
use crate::net::lookup::Lookups;
use crate::net::{Listening, TlsSource};
use crate::tls::EndPointSource;
use crate::{http, imap, push, smtp};

pub(super) struct Services {
    stop: CancellationToken,
    ready: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    push: push::Handle,
    devices: Devices,
}

fn refused((addr, source): (SocketAddr, std::io::Error), key: &str) -> AppError {
    AppError::Listen {
        key: key.to_owned(),
        addr,
        source,
    }
}

impl Services {
    /// Starts the notifier and opens every port; nothing stays open where one is taken.
    pub(super) async fn start(core: &Core) -> Result<Self, AppError> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let ready = Arc::new(AtomicBool::new(false));
        let push = push::start(
            core.store.clone(),
            core.live.clone(),
            core.telemetry.clone(),
            stop.clone(),
        )
        .await
        .map_err(|error| AppError::Io {
            what: "starting the notifier".into(),
            source: std::io::Error::other(error),
        })?;
        let devices = Devices::new(
            core.store.clone(),
            core.live.clone(),
            Some(Arc::new(push.clone())),
            Lookups::new(),
        );
        let certificates = core.certificates.clone();
        let tls: TlsSource = Arc::new(move || certificates.server_config());
        let certificates = core.certificates.clone();
        let end_point: EndPointSource = Arc::new(move || certificates.end_point());
        let certificates = core.certificates.clone();
        let web: TlsSource =
            Arc::new(move || certificates.server_config_with_alpn(&[b"h2", b"http/1.1"]));
        let mut listening: Vec<Listening> = Vec::new();
        let mail = smtp::Context {
            store: core.store.clone(),
            auth: core.auth.clone(),
            config: core.live.clone(),
            tls: tls.clone(),
            end_point: end_point.clone(),
            telemetry: core.telemetry.clone(),
            stop: stop.clone(),
        };
        listening.extend(smtp::start(&mail).map_err(|error| refused(error, "[smtp] listen"))?);
        let reading = imap::Context {
            store: core.store.clone(),
            auth: core.auth.clone(),
            config: core.live.clone(),
            tls,
            end_point,
            telemetry: core.telemetry.clone(),
            keys: Arc::default(),
            stop: stop.clone(),
        };
        listening.extend(imap::start(&reading).map_err(|error| refused(error, "[imap] listen"))?);
        let pages = http::Context {
            store: core.store.clone(),
            auth: core.auth.clone(),
            config: core.live.clone(),
            tls: web,
            telemetry: core.telemetry.clone(),
            stop: stop.clone(),
            ready: ready.clone(),
            devices: devices.clone(),
        };
        listening.extend(http::start(&pages).map_err(|source| AppError::Io {
            what: "[http] listen".into(),
            source,
        })?);
        guard.disarm();
        let mut tasks: Vec<_> = listening.into_iter().map(|l| l.done).collect();
        tasks.extend(super::upkeep::start(&core.store, &stop));
        Ok(Self {
            stop,
            ready,
            tasks,
            push,
            devices,
        })
    }

    /// Cancelled when the server stops.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Operations on devices that reach the running notifier.
    pub(super) fn devices(&self) -> Devices {
        self.devices.clone()
    }

    /// From now on `/readyz` says so.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Tells all to stop, and waits for them as long as `grace` allows.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.ready.store(false, Ordering::Release);
        self.stop.cancel();
        let all = async {
            for task in &mut self.tasks {
                let _ = task.await;
            }
            self.push.stopped().await;
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("some connections did not end in {} s", grace.as_secs());
        }
    }
}
