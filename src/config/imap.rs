//! `[imap]`.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImapConfig {
    /// STARTTLS; no password before it.
    pub listen: Vec<SocketAddr>,
    /// TLS from the first byte.
    pub listen_tls: Vec<SocketAddr>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// A command line without its literals.
    pub max_line_bytes: usize,
    /// One literal, and all literals of a command, before login.
    pub max_literal_before_login: usize,
    /// One literal that is not a message (a mailbox name, a search string).
    pub max_literal_bytes: usize,
    /// A message in APPEND.
    pub max_append_bytes: u64,
    /// Messages in one APPEND (RFC 3502), and all of them together.
    pub max_append_messages: usize,
    pub max_multiappend_bytes: u64,
    /// An APPEND up to this stays in memory while it comes in; a larger one goes to a file.
    pub spool_bytes: usize,
    /// Dates, addresses, subjects and references of messages that SEARCH, SORT and THREAD keep in
    /// memory, for all accounts together.
    pub key_cache_bytes: usize,
    /// Results of SEARCH and SORT that one connection can have kept up to date (RFC 5267).
    pub max_contexts: usize,
    /// Mailboxes that one ESEARCH looks at (RFC 7377).
    pub max_searched_mailboxes: usize,
    /// Nesting of parentheses in a command.
    pub max_depth: usize,
    /// `BAD` answers in a row before `BYE`.
    pub max_bad_commands: u32,
    /// Logged-in connections without a command (RFC 9051, 5.4: at least 30 minutes).
    pub idle_timeout_secs: u64,
    pub login_timeout_secs: u64,
    /// A client that does not read is dropped after this.
    pub write_timeout_secs: u64,
    /// COMPRESS=DEFLATE, from 1 (fast) to 9 (small); 0: not offered.
    pub compress_level: u32,
    /// How often a client is told that its long command is under way (RFC 9585); 0: never.
    pub progress_secs: u64,
    /// `* OK Still here` in IDLE; 0: never.
    pub heartbeat_secs: u64,
    /// Accounts that may set what is the server's, by address.
    pub administrators: Vec<String>,
    /// `/shared/admin` and `/shared/comment` of the server (RFC 5464, 3.2.1.1).
    pub metadata_admin: Option<String>,
    pub metadata_comment: Option<String>,
    /// Mailboxes that one NOTIFY may watch (RFC 5465).
    pub notify_mailboxes: usize,
    /// Mailboxes and new messages that NOTIFY tells of in one turn; beyond that it is switched
    /// off, and the client is told.
    pub notify_events: usize,
    /// Messages that one command may work on (RFC 9738); 0: any number.
    pub message_limit: u32,
    /// UIDONLY is offered (RFC 9586).
    pub uidonly: bool,
}

impl Default for ImapConfig {
    fn default() -> Self {
        Self {
            listen: vec![],
            listen_tls: vec![],
            max_connections: 20_000,
            max_connections_per_ip: 100,
            max_line_bytes: 64 * 1024,
            max_literal_before_login: 4096,
            max_literal_bytes: 256 * 1024,
            max_append_bytes: 50 * 1024 * 1024,
            max_append_messages: 1000,
            max_multiappend_bytes: 100 * 1024 * 1024,
            spool_bytes: 256 * 1024,
            key_cache_bytes: 64 * 1024 * 1024,
            max_contexts: 10,
            max_searched_mailboxes: 1000,
            max_depth: 32,
            max_bad_commands: 10,
            idle_timeout_secs: 35 * 60,
            login_timeout_secs: 60,
            write_timeout_secs: 60,
            compress_level: 4,
            progress_secs: 10,
            heartbeat_secs: 240,
            administrators: vec![],
            metadata_admin: None,
            metadata_comment: None,
            notify_mailboxes: 10_000,
            notify_events: 5_000,
            message_limit: 0,
            uidonly: false,
        }
    }
}
