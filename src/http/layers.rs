//! What every request passes: counting, a time limit, headers that keep browsers careful, and
//! JSON instead of the framework's own errors.

use std::time::{Duration, Instant};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::connection::{Activity, Connection};
use super::error::ApiError;
use super::{Context, api, browser};
use crate::admin::devices::TEST_PATIENCE;
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

/// A test has to outlast the push service that it asks.
fn time_limit(context: &Context, route: Option<&str>) -> Duration {
    let config = context.config.load();
    let usual = Duration::from_secs(config.http.request_timeout_secs);
    if route != Some(api::TEST_ROUTE) {
        return usual;
    }
    let asked = Duration::from_secs(config.push.request_timeout_secs);
    usual.max(asked + TEST_PATIENCE + Duration::from_secs(5))
}

/// Around everything.
pub(super) async fn guard(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let tls = request
        .extensions()
        .get::<Connection>()
        .is_some_and(|c| c.tls);
    let activity = request.extensions().get::<Activity>().cloned();
    let _busy = activity.as_ref().map(Activity::begin);
    // The route's pattern, so that label values are bounded.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let limit = time_limit(&context, route.as_ref().map(MatchedPath::as_str));
    let has_body = !request.body().is_end_stream();
    let (method, uri) = (request.method(), request.uri());
    let mut response = match browser::check(method, uri, request.headers(), tls, has_body) {
        Ok(()) => tokio::time::timeout(limit, next.run(request))
            .await
            .unwrap_or_else(|_| ApiError::of_status(StatusCode::REQUEST_TIMEOUT).into_response()),
        Err(error) => error.into_response(),
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
