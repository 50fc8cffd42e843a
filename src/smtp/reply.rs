//! Replies (RFC 5321, 4.2) with enhanced status codes (RFC 3463), and the one place where the
//! store's and the login's errors become replies.
//!
//! Machine: no IO, no clock, no randomness.

use crate::auth::AuthError;
use crate::store::StoreError;

/// One reply of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// `5.1.1`; empty for replies that carry none.
    pub enhanced: &'static str,
    pub text: String,
}

impl Reply {
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced,
            text: text.into(),
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let space = if self.enhanced.is_empty() { "" } else { " " };
        out.extend_from_slice(
            format!("{} {}{space}{}\r\n", self.code, self.enhanced, self.text).as_bytes(),
        );
    }

    /// A short name of the result for metrics.
    pub fn class(&self) -> &'static str {
        match self.code {
            200..=399 => "accepted",
            400..=499 => "deferred",
            _ => "refused",
        }
    }
}

/// What a failed delivery tells the peer.
pub(super) fn store_error(error: &StoreError) -> Reply {
    match error {
        StoreError::DiskFull => Reply::new(452, "4.3.1", "Insufficient system storage"),
        // RFC 3463, 3.3
        StoreError::MailboxFull => Reply::new(452, "4.2.2", "A mailbox is full, try again later"),
        StoreError::OverQuota => Reply::new(552, "5.2.2", "The mailbox is full"),
        StoreError::Busy => Reply::new(451, "4.3.2", "Too busy, try again later"),
        StoreError::Closed => Reply::new(451, "4.3.2", "Shutting down, try again later"),
        StoreError::NoAccount | StoreError::NoMailbox => {
            Reply::new(451, "4.2.1", "The recipient changed meanwhile, try again")
        }
        StoreError::Limit(_) | StoreError::Invalid(_) => {
            Reply::new(554, "5.3.0", "The message can't be stored")
        }
        _ => Reply::new(451, "4.3.0", "Local error in processing, try again later"),
    }
}

pub(super) fn auth_error(error: &AuthError) -> Reply {
    match error {
        AuthError::Invalid => Reply::new(535, "5.7.8", "Authentication credentials invalid"),
        AuthError::Throttled => Reply::new(454, "4.7.0", "Too many failed logins, try again later"),
        AuthError::Busy | AuthError::Store(_) => {
            Reply::new(454, "4.7.0", "Temporary authentication failure")
        }
    }
}
