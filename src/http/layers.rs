//! What every request passes: counting, a time limit, headers that keep browsers careful, and
//! JSON instead of the framework's own errors.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Context;
use super::error::ApiError;
use super::server::Connection;
use crate::telemetry::HttpMetrics;

const HEADERS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (CACHE_CONTROL, "no-store"),
];

/// A browser sends a password that it knows along with what other sites' pages ask for. It
/// also says who asks, and that is held to the name that was asked (RFC 6454, 7; Fetch, 2.2).
fn same_site(request: &Request) -> Result<(), ApiError> {
    if request.method().is_safe() {
        return Ok(());
    }
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let refused = || {
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cross-origin",
            "pages of other sites may not do this",
        ))
    };
    match header("sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => {}
        Some(_) => return refused(),
    }
    let Some(origin) = header("origin") else {
        return Ok(());
    };
    let authority = request.uri().authority().map(|a| a.as_str().as_bytes());
    let host = header("host").or(authority).unwrap_or_default();
    let origin = origin
        .strip_prefix(b"https://")
        .or_else(|| origin.strip_prefix(b"http://"));
    match origin {
        Some(origin) if !host.is_empty() && origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => refused(),
    }
}

/// Around everything.
pub(super) async fn guard(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let secs = context.config.load().http.request_timeout_secs;
    let tls = request
        .extensions()
        .get::<Connection>()
        .is_some_and(|c| c.tls);
    // The route's pattern, so that label values are bounded.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = if let Err(error) = same_site(&request) {
        error.into_response()
    } else {
        tokio::time::timeout(Duration::from_secs(secs), next.run(request))
            .await
            .unwrap_or_else(|_| ApiError::of_status(StatusCode::REQUEST_TIMEOUT).into_response())
    };
    let status = response.status();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && !is_json && status != StatusCode::SERVICE_UNAVAILABLE {
        let allow = response.headers().get(axum::http::header::ALLOW).cloned();
        response = ApiError::of_status(status).into_response();
        if let Some(allow) = allow {
            response
                .headers_mut()
                .insert(axum::http::header::ALLOW, allow);
        }
    }
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if tls {
        response.headers_mut().insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    let route = route
        .as_ref()
        .map_or(HttpMetrics::UNKNOWN_ROUTE, |r| r.as_str());
    context
        .telemetry
        .http
        .answered(route, status.as_u16(), started.elapsed().as_secs_f64());
    response
}
