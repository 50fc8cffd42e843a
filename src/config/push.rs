//! `[push]`: wake-ups of phones.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Contact for push services, `mailto:` or `https:`; default: postmaster of the first domain.
    pub vapid_subject: Option<String>,
    /// Targets inside the network that are allowed: `192.168.1.20/32:8080`, `127.0.0.1/32:*`.
    pub allow_private: Vec<String>,
    /// `http:` endpoints at the allowed targets.
    pub allow_http: bool,
    /// At most one wake-up per device in this time, after the first.
    pub coalesce_secs: u64,
    pub max_per_hour: u32,
    pub ttl_secs: u64,
    pub max_devices_per_account: usize,
    /// Registrations an account may make in an hour.
    pub max_registrations_per_hour: u32,
    pub verify_timeout_secs: u64,
    pub connect_timeout_secs: u64,
    pub request_timeout_secs: u64,
    /// Look-ups of push services' names under way, in all and for one account: so many for
    /// registrations, and again for wake-ups.
    pub max_lookups: usize,
    pub max_lookups_per_account: usize,
    /// Requests in flight: for one account, to one origin, and in all.
    pub max_in_flight_per_account: usize,
    pub max_in_flight_per_origin: usize,
    pub max_in_flight: usize,
    /// In a row, before a device is paused.
    pub max_rejections: u32,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            vapid_subject: None,
            allow_private: vec![],
            allow_http: false,
            coalesce_secs: 15,
            max_per_hour: 60,
            ttl_secs: 86_400,
            max_devices_per_account: 32,
            max_registrations_per_hour: 10,
            verify_timeout_secs: 600,
            connect_timeout_secs: 10,
            request_timeout_secs: 30,
            max_lookups: 8,
            max_lookups_per_account: 2,
            max_in_flight_per_account: 4,
            max_in_flight_per_origin: 8,
            max_in_flight: 64,
            max_rejections: 20,
        }
    }
}
