//! Metrics and log lines of `auth`.

use std::net::IpAddr;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use super::MetricError;
use super::errors::{ErrorKind, Errors};

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    Ok,
    Invalid,
    Throttled,
    Busy,
    Error,
}

impl LoginResult {
    const ALL: [Self; 5] = [
        Self::Ok,
        Self::Invalid,
        Self::Throttled,
        Self::Busy,
        Self::Error,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::Error => "error",
        }
    }
}

pub struct AuthMetrics {
    errors: Errors,
    logins: IntCounterVec,
    hash_seconds: Histogram,
    hash_waiting: IntGauge,
}

impl AuthMetrics {
    pub fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let logins = IntCounterVec::new(
            Opts::new(
                "posthorn_auth_logins_total",
                "Logins by service and result.",
            ),
            &["service", "result"],
        )?;
        for service in ["imap", "submission", "http"] {
            for result in LoginResult::ALL {
                logins.with_label_values(&[service, result.label()]);
            }
        }
        let hash_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "posthorn_auth_hash_seconds",
                "Time from asking for a password hash to its result, waiting included.",
            )
            .buckets(super::latency_buckets()),
        )?;
        let hash_waiting = IntGauge::new(
            "posthorn_auth_hashes_waiting",
            "Password hashes that are asked for and not done.",
        )?;
        registry.register(Box::new(logins.clone()))?;
        registry.register(Box::new(hash_seconds.clone()))?;
        registry.register(Box::new(hash_waiting.clone()))?;
        Ok(Self {
            errors: errors.clone(),
            logins,
            hash_seconds,
            hash_waiting,
        })
    }

    /// A login ended. The account's name is not written: it may be a password typed in the
    /// wrong field.
    pub fn login(&self, service: &'static str, result: LoginResult, peer: IpAddr) {
        self.logins
            .with_label_values(&[service, result.label()])
            .inc();
        match result {
            LoginResult::Ok => tracing::debug!(service, %peer, "login"),
            LoginResult::Invalid => tracing::info!(service, %peer, "login refused"),
            LoginResult::Throttled => tracing::info!(service, %peer, "login throttled"),
            LoginResult::Busy => tracing::warn!(service, %peer, "login put off: too many wait"),
            LoginResult::Error => {
                self.errors.count(ErrorKind::Store);
                tracing::error!(service, %peer, "login failed in the store");
            }
        }
    }

    pub fn hash_asked(&self) {
        self.hash_waiting.inc();
    }

    pub fn hash_done(&self, took: Duration) {
        self.hash_waiting.dec();
        self.hash_seconds.observe(took.as_secs_f64());
    }

    /// Logins of a service with a result, for tests.
    pub fn logins(&self, service: &'static str, result: LoginResult) -> u64 {
        self.logins
            .with_label_values(&[service, result.label()])
            .get()
    }
}
