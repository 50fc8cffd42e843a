//! `[smtp]`: receiving from other servers, and submission.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// From other servers (port 25).
    pub listen: Vec<SocketAddr>,
    /// Submission with STARTTLS (port 587).
    pub listen_submission: Vec<SocketAddr>,
    /// Submission over TLS (port 465).
    pub listen_submission_tls: Vec<SocketAddr>,
    /// Of other servers; as many again of submission.
    pub max_connections: usize,
    /// Likewise for each of the two.
    pub max_connections_per_ip: usize,
    pub max_message_bytes: u64,
    pub max_recipients: usize,
    /// `Received` lines that a message may come with; one more means a loop (RFC 5321, 6.3).
    pub max_hops: usize,
    /// A command line (RFC 5321 asks for 512, extensions for more).
    pub max_line_bytes: usize,
    /// A line of a message; RFC 5321 asks for 1000.
    pub max_data_line_bytes: usize,
    /// Errors in one session before 421.
    pub max_errors: u32,
    /// Commands that do nothing (NOOP, RSET, VRFY, ...) since the last message that was taken;
    /// each beyond counts as an error.
    pub max_junk_commands: u32,
    /// Transactions in one session before 421.
    pub max_transactions: u32,
    /// From one whole line to the next.
    pub command_timeout_secs: u64,
    /// While a message comes in: for each KiB of it.
    pub data_timeout_secs: u64,
    /// Whole session, so that a slow peer does not hold a place for ever.
    pub session_timeout_secs: u64,
    /// Messages up to this stay in memory while they come in; larger ones go to a spool file.
    pub spool_bytes: usize,
    /// What to do with a bare CR or LF from other servers.
    pub bare_line_endings: BareLineEndings,
    /// `alice+x@` delivers to `alice@`.
    pub subaddress_separator: char,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BareLineEndings {
    Refuse,
    Repair,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            listen: vec![],
            listen_submission: vec![],
            listen_submission_tls: vec![],
            max_connections: 2000,
            max_connections_per_ip: 50,
            max_message_bytes: 50 * 1024 * 1024,
            max_recipients: 100,
            max_hops: 50,
            max_line_bytes: 4096,
            max_data_line_bytes: 1024 * 1024,
            max_errors: 20,
            max_junk_commands: 100,
            max_transactions: 1000,
            command_timeout_secs: 300,
            data_timeout_secs: 300,
            session_timeout_secs: 3600,
            spool_bytes: 256 * 1024,
            bare_line_endings: BareLineEndings::Refuse,
            subaddress_separator: '+',
        }
    }
}
