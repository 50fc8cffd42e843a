//! What became of one attempt to wake a phone: one model for all transports.
//!
//! Machine: no IO, no clock, no randomness.

use crate::types::UnixMillis;

/// How one attempt ended. Times are milliseconds that the service asked us to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The push service took it. This never proves that the phone showed it.
    Delivered,
    /// The registration is dead.
    Gone,
    /// This message is wrong: never sent again unchanged.
    Rejected(Rejection),
    /// Our credentials are wrong.
    Auth,
    /// Too many; come back later.
    Throttled { wait: Option<u64> },
    /// Trouble over there or on the way.
    Transient { wait: Option<u64> },
}

/// How bad a rejection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    Message,
    /// A redirect, which is never followed: the service moved or something is in between.
    Redirect,
}

impl Outcome {
    /// All metric label values.
    pub const LABELS: [&'static str; 6] = [
        "delivered",
        "gone",
        "rejected",
        "auth",
        "throttled",
        "transient",
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => Self::LABELS[0],
            Self::Gone => Self::LABELS[1],
            Self::Rejected(_) => Self::LABELS[2],
            Self::Auth => Self::LABELS[3],
            Self::Throttled { .. } => Self::LABELS[4],
            Self::Transient { .. } => Self::LABELS[5],
        }
    }
}

/// An outcome with what may be told about it: never the answer's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// A short class such as `http-410` or `timeout`.
    pub class: &'static str,
}

impl Answer {
    /// No answer came.
    pub(crate) fn none(outcome: Outcome, class: &'static str) -> Self {
        Self {
            outcome,
            status: None,
            class,
        }
    }

    /// For the device list: `http-410` or the class.
    pub(crate) fn describe(&self) -> String {
        match self.status {
            Some(status) => format!("{} ({status})", self.class),
            None => self.class.to_owned(),
        }
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds or an HTTP date; gives milliseconds from `now`, at
/// most a day.
pub(crate) fn retry_after(value: &str, now: UnixMillis) -> Option<u64> {
    const MOST: u64 = 24 * 3600 * 1000;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds is still "very long".
        return Some(
            value
                .parse::<u64>()
                .map_or(MOST, |s| s.saturating_mul(1000).min(MOST)),
        );
    }
    // IMF-fixdate is what RFC 9110 allows to be sent; the two obsolete forms are not worth code.
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let at = u64::try_from(date.timestamp().as_millisecond()).ok()?;
    Some(UnixMillis(at).since(now).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after() {
        // Thu, 01 Jan 2026 00:00:00 GMT
        let now = UnixMillis::from_secs(1_767_225_600);
        for (value, wait) in [
            ("120", Some(120_000)),
            (" 5 ", Some(5_000)),
            ("0", Some(0)),
            ("86401", Some(86_400_000)),
            ("99999999999999999999999", Some(86_400_000)),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60_000)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("Sat, 01 Jan 2028 00:00:00 GMT", Some(86_400_000)),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(value, now), wait, "{value:?}");
        }
    }
}
