//! What keeps other sites' pages away from the API: a browser adds the password that it knows to
//! whatever a page makes it send.
//!
//! Machine: no IO, no clock, no randomness.

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};

use super::error::ApiError;

/// Refuses a request that changes something and that another site's page may have sent. `tls`:
/// how it came in; `body`: whether it has one.
pub(super) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    tls: bool,
    body: bool,
) -> Result<(), ApiError> {
    if method.is_safe() {
        return Ok(());
    }
    let foreign = ["cross-site", "same-site"];
    let fetched = headers.get_all("sec-fetch-site").iter();
    let by_site = fetched
        .map(|site| site.as_bytes().to_ascii_lowercase())
        .any(|site| foreign.iter().any(|name| site == name.as_bytes()));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let own = |origin: &str| is_own(origin, host, tls);
    let by_origin = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !origin.to_str().is_ok_and(own));
    if by_site || by_origin {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cross-origin",
            "requests from other sites' pages are refused",
        ));
    }
    // Of the kinds of body that a page may send to another site without asking first, none is this.
    if body
        && !headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| is_json(kind.as_bytes()))
    {
        return Err(ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    Ok(())
}

/// Is `origin` (RFC 6454, 6.2) where the request went? Behind TLS a page without it is foreign;
/// on a plain connection a proxy may have taken the TLS away.
fn is_own(origin: &str, host: Option<&str>, tls: bool) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        "https" => ":443",
        "http" if !tls => ":80",
        _ => return false,
    };
    let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    host.is_some_and(|host| bare(host) == bare(authority))
}

fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &Method, headers: &[(&'static str, &str)], tls: bool, body: bool) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("valid"));
        }
        let uri = Uri::from_static("/api/v1/devices");
        check(method, &uri, &map, tls, body).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn other_sites_change_nothing() {
        let host = ("host", "mail.example.org");
        for (origin, tls, status) in [
            ("https://mail.example.org", true, 200),
            ("https://MAIL.example.org", true, 200),
            ("https://mail.example.org:443", true, 200),
            ("https://mail.example.org:8443", true, 403),
            ("http://mail.example.org", true, 403),
            ("http://mail.example.org", false, 200),
            ("https://mail.example.org", false, 200),
            ("https://evil.example", true, 403),
            ("https://mail.example.org.evil.example", true, 403),
            ("https://example.org", true, 403),
            ("null", true, 403),
            ("", true, 403),
            ("moz-extension://mail.example.org", false, 403),
        ] {
            let headers = [host, ("origin", origin)];
            assert_eq!(
                judged(&Method::POST, &headers, tls, false),
                status,
                "{origin}"
            );
            assert_eq!(
                judged(&Method::DELETE, &headers, tls, false),
                status,
                "{origin}"
            );
            assert_eq!(judged(&Method::GET, &headers, tls, false), 200);
        }
        let two = [
            host,
            ("origin", "https://mail.example.org"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(judged(&Method::POST, &two, true, false), 403);
        assert_eq!(
            judged(&Method::POST, &[two[1]], true, false),
            403,
            "no host"
        );
        for (site, status) in [
            ("cross-site", 403),
            ("same-site", 403),
            ("Cross-Site", 403),
            ("same-origin", 200),
            ("none", 200),
        ] {
            let headers = [host, ("sec-fetch-site", site)];
            assert_eq!(
                judged(&Method::POST, &headers, true, false),
                status,
                "{site}"
            );
        }
    }

    #[test]
    fn bodies_are_json_and_say_so() {
        for (kind, status) in [
            ("application/json", 200),
            ("Application/JSON ; charset=utf-8", 200),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("multipart/form-data; boundary=application/json", 415),
            ("application/json-patch+json", 415),
        ] {
            assert_eq!(
                judged(&Method::POST, &[("content-type", kind)], true, true),
                status,
                "{kind}"
            );
        }
        assert_eq!(judged(&Method::POST, &[], true, true), 415);
        assert_eq!(judged(&Method::POST, &[], true, false), 200);
    }
}
