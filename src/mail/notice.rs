//! Mail that the server itself writes to the owner of an account.
//!
//! Machine: no IO, no clock, no randomness.

use super::trace::date;
use crate::types::Address;

/// The account is nearly full. Each of the two: what is kept, and how much may be.
#[derive(Clone, Copy, Debug)]
pub struct QuotaWarning<'a> {
    pub to: &'a Address,
    pub bytes: Option<(u64, u64)>,
    pub messages: Option<(u64, u64)>,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// Rounded down, and never more than the limit may look like.
fn percent(used: u64, most: u64) -> u64 {
    let percent = u128::from(used) * 100 / u128::from(most.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// `1.5 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes} {name}")
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

impl QuotaWarning<'_> {
    /// The whole message. `Auto-Submitted` keeps others from answering it (RFC 3834, 5).
    pub fn write(&self) -> Vec<u8> {
        let domain = self.to.domain();
        let full = |part: Option<(u64, u64)>| part.map_or(0, |(used, most)| percent(used, most));
        let percent = full(self.bytes).max(full(self.messages));
        let mut text = format!(
            "From: Postmaster <postmaster@{domain}>\r\n\
             To: <{to}>\r\n\
             Subject: Your mailbox is {percent} % full\r\n\
             Date: {date}\r\n\
             Message-ID: <quota.{at:x}@{domain}>\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\
             \r\n\
             The mail of {to} has nearly reached its limit:\r\n\
             \r\n",
            to = self.to,
            date = date(self.at),
            at = self.at,
        );
        if let Some((used, most)) = self.bytes {
            text.push_str(&format!("  {} of {} are used\r\n", size(used), size(most)));
        }
        if let Some((used, most)) = self.messages {
            text.push_str(&format!("  {used} of {most} messages are kept\r\n"));
        }
        text.push_str(
            "\r\n\
             Once the limit is reached, new mail is refused: whoever sends it is told\r\n\
             that your mailbox is full. To make room, delete what you do not need, in\r\n\
             all folders, and empty the trash (in some programs: compact or purge the\r\n\
             folder). Mail in the trash counts. Whoever runs this server can raise the\r\n\
             limit.\r\n",
        );
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_how_much_and_what_to_do() {
        let to = Address::parse("alice@x.test").unwrap();
        let warning = QuotaWarning {
            to: &to,
            bytes: Some((1_900_000_000, 2 << 30)),
            messages: Some((950, 1000)),
            at: 0,
        };
        let text = String::from_utf8(warning.write()).unwrap();
        for part in [
            "From: Postmaster <postmaster@x.test>\r\n",
            "To: <alice@x.test>\r\n",
            "Subject: Your mailbox is 95 % full\r\n",
            "  1.7 GiB of 2.0 GiB are used\r\n",
            "  950 of 1000 messages are kept\r\n",
            "empty the trash",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        let bytes = QuotaWarning {
            messages: None,
            ..warning
        };
        let text = String::from_utf8(bytes.write()).unwrap();
        assert!(text.contains("88 %") && !text.contains("messages are kept"));
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1024), "1.0 KiB");
    }
}
