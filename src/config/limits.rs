//! `[limits]`: what all services share.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// For what is under way when the server is told to stop.
    pub shutdown_grace_secs: u64,
    /// TCP keepalive of client connections.
    pub keepalive_secs: u64,
    /// Bytes that wait in the system for a client that reads slowly, besides what is under way
    /// to it. 0: as many as the system likes.
    pub unsent_bytes: u32,
    pub tls_handshake_timeout_secs: u64,
    /// Commands on the admin socket at a time, and the time that one may take.
    pub admin_connections: usize,
    pub admin_timeout_secs: u64,
    /// An import or export in which nothing comes or goes for so long ends.
    pub transfer_timeout_secs: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            shutdown_grace_secs: 10,
            keepalive_secs: 120,
            unsent_bytes: 128 * 1024,
            tls_handshake_timeout_secs: 15,
            admin_connections: 16,
            admin_timeout_secs: 60,
            transfer_timeout_secs: 900,
        }
    }
}
