//! Errors as JSON, in one place: `{"error":{"code":"...","message":"..."}}`.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::admin::devices::DeviceError;
use crate::auth::AuthError;

/// An answer that says what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) retry_secs: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_secs: None,
        }
    }

    pub(super) fn later(mut self, secs: u64) -> Self {
        self.retry_secs = Some(secs);
        self
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "nothing is here")
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "login-required",
            "log in with address and password (HTTP Basic)",
        )
    }

    /// A body that is not what it should be.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// The error to an answer of the framework, whose text is for programmers.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => return Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "not with this method"),
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "the request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported-media-type", "send application/json")
            }
            StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took too long"),
            status if status.is_server_error() => ("internal", "something is wrong here"),
            _ => ("bad-request", "the request makes no sense"),
        };
        Self::new(status, code, message)
    }
}

impl From<DeviceError> for ApiError {
    fn from(error: DeviceError) -> Self {
        let (status, code) = match &error {
            DeviceError::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            DeviceError::Name => (StatusCode::UNPROCESSABLE_ENTITY, "bad-name"),
            DeviceError::Subscription(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad-subscription"),
            DeviceError::TooMany(_) => (StatusCode::CONFLICT, "too-many-devices"),
            DeviceError::TooOften { .. } => (StatusCode::TOO_MANY_REQUESTS, "too-often"),
            DeviceError::Code => (StatusCode::FORBIDDEN, "wrong-code"),
            DeviceError::Verified => (StatusCode::CONFLICT, "already-verified"),
            DeviceError::Unverified => (StatusCode::CONFLICT, "unverified"),
            DeviceError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            DeviceError::Later => (StatusCode::SERVICE_UNAVAILABLE, "try-later"),
            DeviceError::NotRunning => (StatusCode::SERVICE_UNAVAILABLE, "not-running"),
            DeviceError::Store(inner) if inner.is_temporary() => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy")
            }
            DeviceError::Store(_) | DeviceError::Config(_) => {
                tracing::error!(%error, "a device operation failed");
                return Self::of_status(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let answer = Self::new(status, code, error.to_string());
        match error {
            DeviceError::TooOften { retry_secs } => answer.later(retry_secs),
            DeviceError::Later | DeviceError::Busy => answer.later(5),
            DeviceError::Store(_) => Self::new(status, code, "try again later").later(5),
            _ => answer,
        }
    }
}

impl ApiError {
    /// `window`: for how many seconds a wrong password counts.
    pub(super) fn of_login(error: AuthError, window: u64) -> Self {
        match error {
            AuthError::Invalid => Self::unauthorized(),
            AuthError::Throttled => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                error.to_string(),
            )
            .later(window),
            AuthError::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string()).later(5)
            }
            AuthError::Store(error) => DeviceError::from(error).into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "error": { "code": self.code, "message": self.message }
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(secs) = self.retry_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"posthorn\", charset=\"UTF-8\""),
            );
        }
        response
    }
}
