//! What a certificate says of itself: how long it is good, and whether somebody else signed it.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! rustls reads all else; but it does not give out these, because a server need not check its
//! own certificate. An operator wants to hear of it before the phones do.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Certificates that end in less than this are warned about.
const SOON_SECS: i64 = 14 * 86_400;

/// Times in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub not_before: i64,
    pub not_after: i64,
    pub self_signed: bool,
}

impl Facts {
    /// Of a certificate in DER (RFC 5280, 4.1); None where it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        if let Some((_, after)) = element(rest, VERSION) {
            rest = after;
        }
        let (_, rest) = element(rest, INTEGER)?;
        let (_, rest) = element(rest, SEQUENCE)?;
        let (issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, rest) = element(rest, SEQUENCE)?;
        let (subject, _) = element(rest, SEQUENCE)?;
        let (not_before, validity) = time(validity)?;
        let (not_after, _) = time(validity)?;
        Some(Self {
            not_before,
            not_after,
            self_signed: issuer == subject,
        })
    }

    /// What an operator should know at this time, in seconds since 1970.
    pub(super) fn remarks(&self, now: i64) -> Vec<String> {
        let mut remarks = Vec::new();
        if now < self.not_before {
            remarks.push(format!("is not good before {}", date(self.not_before)));
        }
        if now > self.not_after {
            remarks.push(format!("expired on {}", date(self.not_after)));
        } else if self.not_after - now < SOON_SECS {
            remarks.push(format!("expires on {}", date(self.not_after)));
        }
        remarks
    }
}

/// RFC 3339.
pub(super) fn date(secs: i64) -> String {
    Timestamp::from_second(secs).map_or_else(|_| secs.to_string(), |at| at.to_string())
}

pub(super) const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the element that begins here, and what is behind it.
pub(super) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Certificates are kilobytes.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// RFC 5280, 4.1.2.5: always with seconds, always in UTC.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (year_digits, (text, rest)) = match element(bytes, UTC_TIME) {
        Some(found) => (2, found),
        None => (4, element(bytes, GENERALIZED_TIME)?),
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != year_digits + 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize, digits: usize| text.get(at..at + digits)?.parse::<i16>().ok();
    let part = |n: usize| number(year_digits + 2 * n, 2).and_then(|n| i8::try_from(n).ok());
    let year = match (year_digits, number(0, year_digits)?) {
        (2, year @ 50..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let at = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    let at = TimeZone::UTC.to_timestamp(at).ok()?;
    Some((at.as_second(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (from, to, not_before, not_after) in [
            ((1970, 1, 1), (1970, 1, 2), 0, 86_400),
            ((2024, 2, 29), (2049, 12, 31), 1_709_164_800, 2_524_521_600),
            ((2050, 1, 1), (4096, 1, 1), 2_524_608_000, 67_090_118_400),
        ] {
            let facts = Facts::of(&made(from, to)).unwrap();
            let expected = Facts {
                not_before,
                not_after,
                self_signed: true,
            };
            assert_eq!(facts, expected, "{from:?}");
        }
    }

    #[test]
    fn cut_or_changed_bytes_never_panic() {
        let whole = made((2024, 1, 1), (2025, 1, 1));
        for length in 0..whole.len().min(200) {
            let _ = Facts::of(&whole[..length]);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let _ = Facts::of(&changed);
            }
        }
        assert_eq!(Facts::of(b""), None);
    }

    #[test]
    fn remarks_come_before_the_end_and_after_it() {
        let facts = Facts {
            not_before: 0,
            not_after: 100 * 86_400,
            self_signed: false,
        };
        let day = 86_400;
        for (now, says) in [
            (-1, "is not good before 1970-01-01T00:00:00Z"),
            (86 * day + 1, "expires on 1970-04-11T00:00:00Z"),
            (100 * day, "expires on 1970-04-11T00:00:00Z"),
            (100 * day + 1, "expired on 1970-04-11T00:00:00Z"),
        ] {
            assert_eq!(facts.remarks(now), [says], "{now}");
        }
        for now in [0, 50 * day, 86 * day] {
            assert_eq!(facts.remarks(now), Vec::<String>::new(), "{now}");
        }
    }
}
