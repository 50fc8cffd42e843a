//! Dates of messages (RFC 5322, 3.3 and 4.3), tolerantly.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use super::content::skip_comment;
use super::header::{field, unfold};

/// A moment and the zone it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailDate {
    /// Milliseconds since 1970 in UTC; negative before.
    pub millis: i64,
    /// East of UTC.
    pub zone_minutes: i16,
}

impl MailDate {
    /// Days since 1970-01-01 as written, whatever the zone (SENTON, RFC 9051, 6.4.4).
    pub fn local_day(&self) -> i32 {
        let local = self.millis + i64::from(self.zone_minutes) * 60_000;
        i32::try_from(local.div_euclid(86_400_000)).unwrap_or(i32::MAX)
    }
}

/// The Date field of a message.
pub fn sent_date(raw: &[u8]) -> Option<MailDate> {
    parse_date(field(raw, "Date")?.value)
}

/// `[day,] 21 Nov 97 09:55[:06] -0600`, in which blanks and comments may stand anywhere; also
/// the order of C's asctime.
pub fn parse_date(value: &[u8]) -> Option<MailDate> {
    let value = unfold(value);
    let tokens = tokens(&value);
    let mut day = None;
    let mut month = None;
    let mut year = None;
    let mut seconds = None;
    let mut zone = None;
    for mut token in tokens {
        if seconds.is_none()
            && let [b'-', rest @ ..] = token
        {
            // Between day, month and year it is no sign.
            token = rest;
        }
        if token.is_empty() {
            continue;
        }
        if token.contains(&b':') && seconds.is_none() {
            seconds = Some(clock(token)?);
        } else if matches!(token[0], b'+' | b'-') && seconds.is_some() {
            zone = zone.or(numeric_zone(token));
        } else if token[0].is_ascii_digit() {
            let number = number(token)?;
            if day.is_none() && (1..=31).contains(&number) && token.len() <= 2 {
                day = Some(number);
            } else if year.is_none() && token.len() >= 2 {
                year = Some(full_year(number, token.len()));
            }
        } else if let (None, Some(found)) = (month, month_of(token)) {
            month = Some(found);
        } else if seconds.is_some() {
            zone = zone.or(named_zone(token));
        }
    }
    let (day, month, year) = (day?, month?, year?);
    if !(1..=9999).contains(&year) || day > days_in(year, month) {
        return None;
    }
    let zone = zone.unwrap_or(0);
    let local = days_since_1970(year, month, day) * 86_400 + seconds.unwrap_or(0);
    Some(MailDate {
        millis: (local - i64::from(zone) * 60) * 1000,
        zone_minutes: zone,
    })
}

/// At most 12 words, cut at blanks, commas, comments and before signs: `21-Nov-97` is three.
fn tokens(value: &[u8]) -> Vec<&[u8]> {
    let mut tokens = Vec::with_capacity(8);
    let mut at = 0;
    while at < value.len() && tokens.len() < 12 {
        match value[at] {
            b'(' => at = skip_comment(value, at),
            b if separates(b) => at += 1,
            _ => {
                let start = at;
                at += 1;
                while at < value.len() && !separates(value[at]) && !b"(+-".contains(&value[at]) {
                    at += 1;
                }
                tokens.push(&value[start..at]);
            }
        }
    }
    tokens
}

fn separates(b: u8) -> bool {
    b.is_ascii_whitespace() || b == b','
}

fn number(token: &[u8]) -> Option<i64> {
    if token.len() > 4 || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(token.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
}

/// `09:55`, `09:55:06`, also with a fraction; seconds of the day. A leap second (`:60`) is the
/// one before it, so that it stays on its day.
fn clock(token: &[u8]) -> Option<i64> {
    let mut parts = token.split(|b| *b == b':');
    let hour = number(parts.next()?)?;
    let minute = number(parts.next()?)?;
    let second = match parts.next() {
        Some(second) => number(second.split(|b| *b == b'.').next()?)?,
        None => 0,
    };
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second.min(59))
}

fn month_of(token: &[u8]) -> Option<i64> {
    const MONTHS: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let prefix = token.get(..3)?.to_ascii_lowercase();
    let index = MONTHS.chunks(3).position(|month| month == prefix)?;
    i64::try_from(index + 1).ok()
}

/// RFC 5322, 4.3.
fn full_year(number: i64, digits: usize) -> i64 {
    match digits {
        2 if number < 50 => number + 2000,
        2 | 3 => number + 1900,
        _ => number,
    }
}

fn numeric_zone(token: &[u8]) -> Option<i16> {
    let digits = number(token.get(1..5)?)?;
    let minutes = i16::try_from(digits / 100 * 60 + digits % 100).ok()?;
    if minutes > 24 * 60 {
        return None;
    }
    Some(if token[0] == b'-' { -minutes } else { minutes })
}

/// RFC 5322, 4.3: the military letters and unknown names mean nothing, so UTC.
fn named_zone(token: &[u8]) -> Option<i16> {
    Some(match token.to_ascii_uppercase().as_slice() {
        b"EDT" => -4 * 60,
        b"EST" | b"CDT" => -5 * 60,
        b"CST" | b"MDT" => -6 * 60,
        b"MST" | b"PDT" => -7 * 60,
        b"PST" => -8 * 60,
        b"UT" | b"UTC" | b"GMT" => 0,
        [_] => 0,
        _ => return None,
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years start in March here, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}
