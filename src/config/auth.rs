//! `[auth]`: password hashing and guessing.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// argon2id memory in KiB.
    pub argon2_memory_kib: u32,
    pub argon2_iterations: u32,
    pub argon2_parallelism: u32,
    /// PBKDF2 iterations of new keys for SCRAM-SHA-256; 0: no such keys, and no SCRAM.
    pub scram_iterations: u32,
    /// Threads that hash, apart from all others and behind them; 0: one for each processor, up to 8.
    pub hash_threads: usize,
    /// Logins that may wait for them; more are told to come back.
    pub hash_queue: usize,
    /// For how long a password that was right is known again without hashing; 0: never.
    pub cache_secs: u64,
    /// How many right passwords are remembered so.
    pub cache_entries: usize,
    /// Wrong passwords an address and account may give in `failure_window_secs`.
    pub max_failures: u32,
    /// Wrong passwords an address may give for all accounts together.
    pub max_failures_per_ip: u32,
    pub failure_window_secs: u64,
    /// Pairs of address and account that are remembered; the oldest are forgotten first.
    pub max_tracked: usize,
    /// Allows passwords without TLS on loopback connections.
    pub insecure_loopback_login: bool,
    /// Logins by tokens of an OAuth 2.0 server.
    pub oauth: OauthConfig,
}

/// `[auth.oauth]`: OAUTHBEARER is offered where `keys` is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OauthConfig {
    /// A file with the issuer's keys: PEM "PUBLIC KEY", or a JWK set.
    pub keys: Option<PathBuf>,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be or hold.
    pub audience: String,
    /// The claim that is the account's address.
    pub claim: String,
}

impl Default for OauthConfig {
    fn default() -> Self {
        Self {
            keys: None,
            issuer: String::new(),
            audience: String::new(),
            claim: "email".into(),
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            argon2_memory_kib: 19 * 1024,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            scram_iterations: 10_000,
            hash_threads: 0,
            hash_queue: 256,
            cache_secs: 600,
            cache_entries: 4096,
            max_failures: 10,
            max_failures_per_ip: 100,
            failure_window_secs: 300,
            max_tracked: 65_536,
            insecure_loopback_login: false,
            oauth: OauthConfig::default(),
        }
    }
}
