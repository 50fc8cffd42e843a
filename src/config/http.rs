//! `[http]`: pages, API, metrics.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Without TLS: metrics and health for everybody who reaches it, the API on loopback only.
    pub listen: Vec<SocketAddr>,
    pub listen_tls: Vec<SocketAddr>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_body_bytes: usize,
    pub request_timeout_secs: u64,
    /// A connection on which nothing is asked.
    pub idle_timeout_secs: u64,
    /// A client that does not read.
    pub write_timeout_secs: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: vec![],
            listen_tls: vec![],
            max_connections: 1000,
            max_connections_per_ip: 100,
            max_body_bytes: 64 * 1024,
            request_timeout_secs: 30,
            idle_timeout_secs: 60,
            write_timeout_secs: 30,
        }
    }
}
