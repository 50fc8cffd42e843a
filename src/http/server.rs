//! Listeners and connections over `net`'s streams: HTTP/2 where TLS agreed upon it (ALPN), else
//! HTTP/1.1. On plain connections only the latter, as everywhere.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::connection::{Activity, Connection};
use super::stream::Watched;
use super::{Context, api, health, layers};
use crate::net::{
    ConnectionLimits, LimitSource, ListenOptions, Listening, Peer, Places, Stream, listen,
};

/// Of a request's head, and a connection's read buffer.
const MAX_HEAD: usize = 32 * 1024;
const MAX_STREAMS: u32 = 64;
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Binds all listeners of `[http]` and serves until `stop`.
pub fn start(context: &Context) -> io::Result<Vec<Listening>> {
    let config = context.config.load_full();
    let (live, places) = (context.config.clone(), Places::default());
    let limits: LimitSource = Arc::new(move || {
        let config = live.load();
        ConnectionLimits {
            connections: config.http.max_connections,
            per_ip: config.http.max_connections_per_ip,
            keepalive: Duration::from_secs(config.limits.keepalive_secs),
            unsent_bytes: config.limits.unsent_bytes,
            handshake_timeout: Duration::from_secs(config.limits.tls_handshake_timeout_secs),
        }
    });
    let mut listening = Vec::new();
    let plain = config.http.listen.iter().map(|addr| (*addr, false));
    let tls = config.http.listen_tls.iter().map(|addr| (*addr, true));
    for (addr, tls) in plain.chain(tls) {
        let options = ListenOptions {
            service: "http",
            implicit_tls: tls,
            limits: limits.clone(),
            places: places.clone(),
            busy_line: BUSY,
        };
        let router = router(context, tls);
        let shared = context.clone();
        listening.push(listen(
            addr,
            options,
            context.tls.clone(),
            context.telemetry.clone(),
            context.stop.clone(),
            move |stream, peer, stop| serve(shared.clone(), router.clone(), stream, peer, stop),
        )?);
    }
    Ok(listening)
}

pub(super) fn router(context: &Context, tls: bool) -> Router {
    let mut router = api::routes().merge(health::health());
    if !tls {
        router = router.merge(health::metrics());
    }
    let limit = context.config.load().http.max_body_bytes;
    router
        .fallback(|| async { super::error::ApiError::not_found() })
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn_with_state(
            context.clone(),
            layers::guard,
        ))
        .with_state(context.clone())
}

async fn serve(
    context: Context,
    router: Router,
    stream: Stream,
    peer: Peer,
    stop: CancellationToken,
) {
    let config = context.config.load_full();
    let timeout = Duration::from_secs(config.http.request_timeout_secs);
    let idle = Duration::from_secs(config.http.idle_timeout_secs);
    let stall = Duration::from_secs(config.http.write_timeout_secs);
    let grace = Duration::from_secs(config.limits.shutdown_grace_secs);
    let connection = Connection {
        peer,
        tls: stream.is_tls(),
    };
    let activity = Activity::new(context.telemetry.connections.http());
    let app = router
        .layer(axum::Extension(activity.clone()))
        .layer(axum::Extension(connection));
    let service = TowerToHyperService::new(app.into_service::<Incoming>());
    let http2 = stream.alpn() == Some(b"h2");
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(timeout)
        .keep_alive_timeout(timeout);
    // Never both: the builder would wait for a preface as long as the peer likes.
    let builder = if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let stream = Watched::new(stream, http2.then_some(timeout), stall);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let (ended, patience) = loop {
        let look = activity.idle_at(idle);
        let at = look.unwrap_or_else(|at| at);
        tokio::select! {
            ended = serving.as_mut() => break (Some(ended), grace),
            () = stop.cancelled() => break (None, grace),
            () = tokio::time::sleep_until(at.into()) => {
                if activity.idle_at(idle).is_ok_and(|at| at <= Instant::now()) {
                    break (None, stall);
                }
            }
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(patience, serving).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.remote, %error, "an HTTP connection broke");
    }
}
