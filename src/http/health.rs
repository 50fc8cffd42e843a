//! `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;

use super::Context;
use super::error::ApiError;
use crate::store::{DeviceState, Store, StoreError};
use crate::telemetry::DeviceCounts;

/// Devices are counted anew after this.
const COUNT_EVERY: Duration = Duration::from_secs(15);

pub(super) fn health() -> Router<Context> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
}

async fn readyz(State(context): State<Context>) -> Response {
    let running = context.ready.load(Ordering::Acquire) && !context.stop.is_cancelled();
    let why = if !running {
        "not ready\n"
    } else if !context.store.is_writable() {
        "not ready: the store can't be written\n"
    } else if !context.store.takes_mail() {
        "not ready: the disk is nearly full\n"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

pub(super) fn metrics() -> Router<Context> {
    let counted = Arc::new(Mutex::new(None));
    Router::new().route(
        "/metrics",
        get(move |State(context): State<Context>| scrape(context, counted)),
    )
}

async fn scrape(
    context: Context,
    counted: Arc<Mutex<Option<Instant>>>,
) -> Result<Response, ApiError> {
    // The store's figures may read the disk.
    let page = tokio::task::spawn_blocking(move || {
        let status = context.store.status();
        let room = (status.disk_free_bytes, status.takes_mail);
        context.telemetry.store.set_room(room.0, room.1);
        let quotas = context.store.quota_figures();
        let metrics = &context.telemetry.store;
        metrics.set_quotas(quotas.near, quotas.full);
        let age = status.outbox_oldest_ms as f64 / 1000.0;
        context.telemetry.push.set_outbox(status.outbox, age);
        let mut counted = counted.lock();
        if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY)
            && let Ok(counts) = count_devices(&context.store)
        {
            context.telemetry.push.set_devices(counts);
            *counted = Some(Instant::now());
        }
        drop(counted);
        context.telemetry.text()
    });
    let internal = || ApiError::of_status(StatusCode::INTERNAL_SERVER_ERROR);
    let text = page.await.map_err(|_| internal())?.map_err(|error| {
        tracing::error!(%error, "metrics can't be written");
        internal()
    })?;
    let kind = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(([kind], text).into_response())
}

fn count_devices(store: &Store) -> Result<DeviceCounts, StoreError> {
    let mut counts = DeviceCounts::default();
    for account in store.directory().accounts() {
        for device in store.devices(account.id)? {
            match device.state {
                DeviceState::Active => counts.active += 1,
                DeviceState::Unverified { .. } => counts.unverified += 1,
                DeviceState::Paused { .. } => counts.paused += 1,
            }
        }
    }
    Ok(counts)
}
