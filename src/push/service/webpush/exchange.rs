//! The request's headers (RFC 8030, 5) and what each answer means (push services' own codes).
//!
//! Machine: no IO, no clock, no randomness.

use crate::push::outcome::{Answer, Outcome, Rejection, retry_after};
use crate::types::UnixMillis;

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done(Answer),
    /// The token was refused: sign anew and try once more; if this was that try, [`Outcome::Auth`].
    SignAnew(Answer),
    /// Too large: try once with the small payload.
    Shrink(Answer),
}

/// An answer's parts, as far as they matter. `body` is cut at 4 KiB.
pub(crate) struct Received<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// Headers besides `Authorization`. `Content-Type` is not in the RFC, but some receivers insist.
pub(crate) fn headers(
    ttl_secs: u64,
    urgency: &str,
    topic: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("ttl", ttl_secs.to_string()),
        ("urgency", urgency.to_owned()),
        ("content-type", "application/octet-stream".to_owned()),
        ("content-encoding", "aes128gcm".to_owned()),
    ];
    if let Some(topic) = topic {
        headers.push(("topic", topic.to_owned()));
    }
    headers
}

/// What an answer means.
pub(crate) fn judge(received: &Received<'_>, now: UnixMillis) -> Verdict {
    let wait = || received.retry_after.and_then(|v| retry_after(v, now));
    let answer = |outcome, class| Answer {
        outcome,
        status: Some(received.status),
        class,
        own_fault: false,
    };
    let done = |outcome, class| Verdict::Done(answer(outcome, class));
    match received.status {
        200..=299 => done(Outcome::Delivered, "accepted"),
        300..=399 => done(Outcome::Rejected(Rejection::Redirect), "redirect"),
        400 if names_the_token(received.body) => {
            Verdict::SignAnew(answer(Outcome::Auth, "credentials"))
        }
        401 | 403 => Verdict::SignAnew(answer(Outcome::Auth, "credentials")),
        404 | 410 => done(Outcome::Gone, "gone"),
        413 => Verdict::Shrink(answer(Outcome::Rejected(Rejection::Message), "too-large")),
        408 | 425 => done(Outcome::Transient { wait: wait() }, "timeout"),
        429 => done(Outcome::Throttled { wait: wait() }, "throttled"),
        400..=499 => done(Outcome::Rejected(Rejection::Message), "refused"),
        _ => done(Outcome::Transient { wait: wait() }, "service-trouble"),
    }
}

/// Some services answer 400 where others say 401: only the body tells.
fn names_the_token(body: &[u8]) -> bool {
    const NAMES: [&str; 4] = [
        "badjwttoken",
        "vapidpkhashmismatch",
        "unauthorizedregistration",
        "invalid jwt",
    ];
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    NAMES.iter().any(|name| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, retry_after: Option<&str>, body: &str) -> Verdict {
        let received = Received {
            status,
            retry_after,
            body: body.as_bytes(),
        };
        judge(&received, UnixMillis::from_secs(1_800_000_000))
    }

    #[test]
    fn every_status_has_its_outcome() {
        let transient = Outcome::Transient { wait: None };
        let refused = Outcome::Rejected(Rejection::Message);
        for (status, outcome) in [
            (200, Outcome::Delivered),
            (201, Outcome::Delivered),
            (202, Outcome::Delivered),
            (204, Outcome::Delivered),
            (301, Outcome::Rejected(Rejection::Redirect)),
            (307, Outcome::Rejected(Rejection::Redirect)),
            (400, refused),
            (404, Outcome::Gone),
            (405, refused),
            (410, Outcome::Gone),
            (415, refused),
            (429, Outcome::Throttled { wait: None }),
            (500, transient),
            (502, transient),
            (503, transient),
            (504, transient),
            (507, transient),
            (600, transient),
        ] {
            match verdict(status, None, "") {
                Verdict::Done(answer) => {
                    assert_eq!((answer.outcome, answer.status), (outcome, Some(status)));
                }
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn tokens_and_sizes_get_a_second_try() {
        for (status, body) in [
            (401, ""),
            (403, r#"{"reason":"BadJwtToken"}"#),
            (400, r#"{"reason":"BadJwtToken"}"#),
            (400, r#"{"reason":"VapidPkHashMismatch"}"#),
            (400, "UnauthorizedRegistration"),
            (400, "error: Invalid JWT provided"),
        ] {
            match verdict(status, None, body) {
                Verdict::SignAnew(answer) => assert_eq!(answer.outcome, Outcome::Auth),
                other => panic!("{status} {body}: {other:?}"),
            }
        }
        assert!(matches!(verdict(413, None, ""), Verdict::Shrink(a)
            if a.outcome == Outcome::Rejected(Rejection::Message)));
        assert!(matches!(verdict(400, None, "bad topic"), Verdict::Done(a)
            if a.outcome == Outcome::Rejected(Rejection::Message)));
    }

    #[test]
    fn retry_after_counts_where_waiting_helps() {
        for (status, header, outcome) in [
            (429, "7", Outcome::Throttled { wait: Some(7000) }),
            (
                503,
                "120",
                Outcome::Transient {
                    wait: Some(120_000),
                },
            ),
            (503, "nonsense", Outcome::Transient { wait: None }),
        ] {
            assert!(
                matches!(verdict(status, Some(header), ""), Verdict::Done(a) if a.outcome == outcome)
            );
        }
    }

    #[test]
    fn headers_are_what_the_services_want() {
        assert_eq!(
            headers(86_400, "high", Some("q7mGxk3Vd0yW")),
            [
                ("ttl", "86400"),
                ("urgency", "high"),
                ("content-type", "application/octet-stream"),
                ("content-encoding", "aes128gcm"),
                ("topic", "q7mGxk3Vd0yW"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
        );
    }
}
