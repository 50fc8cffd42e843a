//! Who asks: HTTP Basic (RFC 7617), over TLS or from loopback only.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Context;
use super::connection::Connection;
use super::error::ApiError;
use crate::store::Account;
use crate::types::Secret;

/// The account that the request's credentials belong to.
pub(super) struct Login(pub(super) Arc<Account>);

impl FromRequestParts<Context> for Login {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        context: &Context,
    ) -> Result<Self, Self::Rejection> {
        let connection = parts.extensions.get::<Connection>().copied();
        let Some(connection) = connection.filter(Connection::may_carry_passwords) else {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "tls-required",
                "the API is for HTTPS, or for connections from this machine",
            ));
        };
        let header = parts.headers.get(AUTHORIZATION);
        let (login, password) = header
            .and_then(|value| value.to_str().ok())
            .and_then(basic)
            .ok_or_else(ApiError::unauthorized)?;
        let peer = connection.peer.remote.ip();
        let account = context.auth.login(&login, &password, peer, "http").await;
        let window = context.config.load().auth.failure_window_secs;
        account
            .map(Self)
            .map_err(|error| ApiError::of_login(error, window))
    }
}

/// `Basic <base64 of user:password>`; the user has no colon.
fn basic(value: &str) -> Option<(String, Secret)> {
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let bytes = STANDARD.decode(token.trim()).ok()?;
    let colon = bytes.iter().position(|b| *b == b':')?;
    let login = std::str::from_utf8(&bytes[..colon]).ok()?;
    Some((login.to_owned(), Secret::new(&bytes[colon + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_basic_credentials() {
        let some = |login: &str, password: &str| Some((login.to_owned(), Secret::new(password)));
        for (header, expected) in [
            ("Basic YTpi", some("a", "b")),
            ("basic YTpi", some("a", "b")),
            ("Basic YTpiOmM=", some("a", "b:c")),
            ("Basic Og==", some("", "")),
            ("Basic YQ==", None),
            ("Basic !", None),
            ("Basic", None),
            ("Bearer YTpi", None),
            ("Basic /zpi", None),
        ] {
            assert_eq!(basic(header), expected, "{header}");
        }
    }
}
