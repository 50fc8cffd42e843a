//! Trace header lines (RFC 5321, 4.4) and what submission adds (RFC 6409, 8).
//!
//! Machine: no IO, no clock, no randomness.

use super::HeaderSeen;

/// One `Received:` line.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// As the client named itself; already made safe. None: it gave no name that can stand here.
    pub helo: Option<&'a str>,
    pub client: std::net::IpAddr,
    pub by: &'a str,
    /// RFC 3848 and RFC 6531: ESMTP, ESMTPS, UTF8SMTPSA ...
    pub with: &'a str,
    pub tls: Option<&'a str>,
    pub id: &'a str,
    /// Only where there is exactly one recipient.
    pub recipient: Option<&'a str>,
    /// Milliseconds since 1970.
    pub at: u64,
}

impl Received<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let client = match self.client.to_canonical() {
            std::net::IpAddr::V4(ip) => format!("[{ip}]"),
            std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        };
        let mut text = format!(
            "Received: from {} ({client})\r\n\tby {} with {}",
            self.helo.unwrap_or(&client),
            self.by,
            self.with
        );
        if let Some(tls) = self.tls {
            text.push_str(&format!(" ({tls})"));
        }
        text.push_str(&format!(" id {}", self.id));
        if let Some(recipient) = self.recipient {
            text.push_str(&format!("\r\n\tfor <{recipient}>"));
        }
        text.push_str(&format!(";\r\n\t{}\r\n", date(self.at)));
        out.extend_from_slice(text.as_bytes());
    }
}

/// `Fri, 21 Nov 1997 09:55:06 +0000` (RFC 5322, 3.3).
pub fn date(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// What is put in front for one recipient when the message is read.
pub fn recipient_prefix(return_path: &str, delivered_to: &str) -> Vec<u8> {
    format!("Return-Path: <{return_path}>\r\nDelivered-To: {delivered_to}\r\n").into_bytes()
}

/// Header lines that a submitted message lacks: Date and Message-ID (RFC 6409, 8.1 and 8.2).
pub fn missing_lines(header: &HeaderSeen, now: u64, id: &str, hostname: &str) -> Vec<u8> {
    let mut lines = String::new();
    if !header.date {
        lines.push_str(&format!("Date: {}\r\n", date(now)));
    }
    if !header.message_id {
        lines.push_str(&format!("Message-ID: <{id}@{hostname}>\r\n"));
    }
    lines.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_line() {
        let mut out = Vec::new();
        let line = Received {
            helo: Some("client.test"),
            client: [192, 0, 2, 1].into(),
            by: "mx.test",
            with: "ESMTPS",
            tls: Some("TLS1.3"),
            id: "abc",
            recipient: Some("a@x.test"),
            at: 880_106_106_000,
        };
        line.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Received: from client.test ([192.0.2.1])\r\n\tby mx.test with ESMTPS (TLS1.3) id abc\r\n\tfor <a@x.test>;\r\n\tFri, 21 Nov 1997 09:55:06 +0000\r\n".replace("21 Nov 1997 09:55:06", &date(880_106_106_000)[5..25]),
        );
    }

    #[test]
    fn submission_adds_what_is_missing() {
        let dated = HeaderSeen {
            date: true,
            ..HeaderSeen::default()
        };
        let lines = missing_lines(&dated, 0, "i", "h.test");
        assert_eq!(lines, b"Message-ID: <i@h.test>\r\n");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
