//! The other IMAP server, as its client: only what an import needs.

pub mod client;
pub mod response;
