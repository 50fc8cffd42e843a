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
    /// It is neither the device nor its service that is in trouble, but this server.
    pub own_fault: bool,
}

impl Answer {
    /// No answer came.
    pub(crate) fn none(outcome: Outcome, class: &'static str) -> Self {
        Self {
            outcome,
            status: None,
            class,
            own_fault: false,
        }
    }

    /// We could not even ask.
    pub(crate) fn own_fault(class: &'static str) -> Self {
        Self {
            own_fault: true,
            ..Self::none(Outcome::Transient { wait: None }, class)
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

/// The class where the push service's name is the name of no host.
pub(crate) const NO_SUCH_HOST: &str = "no-such-host";
/// The class where that can't be told.
pub(crate) const NAME_LOOKUP: &str = "name-lookup";

/// The class where too many names are being looked up already.
pub(crate) const LOOKUPS_BUSY: &str = "name-lookups-busy";

/// Why a test was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untested {
    /// As often as it may be in a minute.
    TooOften { retry_secs: u64 },
    /// It was woken this very moment, its push service is in trouble, or too much is in flight.
    Later,
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
    let at = http_date(value, now)?;
    Some(UnixMillis(at).since(now).min(MOST))
}

/// An HTTP date in any of its three forms (RFC 9110, 5.6.7), in milliseconds since 1970.
fn http_date(value: &str, now: UnixMillis) -> Option<u64> {
    let imf = || Some(jiff::fmt::rfc2822::parse(value).ok()?.timestamp());
    let utc = |date| jiff::tz::TimeZone::UTC.to_timestamp(date).ok();
    let asctime = || {
        let date = jiff::civil::DateTime::strptime("%a %b %e %H:%M:%S %Y", value).ok()?;
        utc(date)
    };
    let rfc850 = || {
        let (_, date) = value.split_once(", ")?;
        let (days, rest) = date.strip_suffix(" GMT")?.rsplit_once('-')?;
        let (year, time) = rest.split_once(' ')?;
        let short: i64 = (year.len() == 2).then(|| year.parse().ok())??;
        let this = jiff::Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
        let this = i64::from(jiff::tz::TimeZone::UTC.to_datetime(this).year());
        // More than 50 years ahead means the past century.
        let mut year = this - this % 100 + short;
        if year > this + 50 {
            year -= 100;
        }
        let text = format!("{days}-{year} {time}");
        let date = jiff::civil::DateTime::strptime("%d-%b-%Y %H:%M:%S", text).ok()?;
        utc(date)
    };
    let at = imf().or_else(asctime).or_else(rfc850)?;
    u64::try_from(at.as_millisecond()).ok()
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
            // RFC 9110, 5.6.7: the obsolete forms must be understood too.
            ("Thursday, 01-Jan-26 00:01:00 GMT", Some(60_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(0)),
            ("Thu Jan  1 00:01:00 2026", Some(60_000)),
            ("Sun Nov  6 08:49:37 1994", Some(0)),
            ("Thursday, 01-Jan-26", None),
            ("Thu Jan", None),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(value, now), wait, "{value:?}");
        }
    }
}
