//! Metrics and log lines of `imap`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::errors::{ErrorKind, Errors};
use super::{MetricError, latency_buckets};

/// Where a connection stands. `Idle` is a selected or authenticated one that is in IDLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImapState {
    NotAuthenticated,
    Authenticated,
    Selected,
    Idle,
}

impl ImapState {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NotAuthenticated => "not_authenticated",
            Self::Authenticated => "authenticated",
            Self::Selected => "selected",
            Self::Idle => "idle",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImapEnd {
    Logout,
    /// The client closed without LOGOUT, or the network did.
    Gone,
    /// No command for too long, or no login in time.
    Timeout,
    /// It did not read what it was sent.
    Stalled,
    /// Nonsense, again and again.
    Nonsense,
    /// The account was removed, or has a new password.
    Revoked,
    Shutdown,
    /// STARTTLS did not work out.
    Tls,
    /// Another session deleted what it had selected.
    Deleted,
}

impl ImapEnd {
    const ALL: [Self; 9] = [
        Self::Logout,
        Self::Gone,
        Self::Timeout,
        Self::Stalled,
        Self::Nonsense,
        Self::Revoked,
        Self::Shutdown,
        Self::Tls,
        Self::Deleted,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::Nonsense => "nonsense",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Tls => "tls",
            Self::Deleted => "mailbox_deleted",
        }
    }
}

/// The tagged answer's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImapResult {
    Ok,
    No,
    Bad,
}

impl ImapResult {
    const ALL: [Self; 3] = [Self::Ok, Self::No, Self::Bad];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Bad => "bad",
        }
    }
}

pub struct ImapMetrics {
    errors: Errors,
    ends: IntCounterVec,
    commands: IntCounterVec,
    append_bytes: IntCounter,
    announce: Histogram,
}

impl ImapMetrics {
    pub(super) fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let metrics = Self {
            errors: errors.clone(),
            ends: IntCounterVec::new(
                Opts::new(
                    "posthorn_imap_disconnects_total",
                    "IMAP connections that ended, by reason.",
                ),
                &["reason"],
            )?,
            commands: IntCounterVec::new(
                Opts::new(
                    "posthorn_imap_commands_total",
                    "IMAP commands that were answered, by name (`invalid`: what is none) and kind of the \
                     tagged answer.",
                ),
                &["command", "result"],
            )?,
            append_bytes: IntCounter::new(
                "posthorn_imap_append_bytes_total",
                "Message bytes stored by APPEND.",
            )?,
            announce: Histogram::with_opts(
                HistogramOpts::new(
                    "posthorn_imap_delivery_to_exists_seconds",
                    "From the commit of the newest message until its EXISTS was written to a \
                     connection in IDLE.",
                )
                .buckets(latency_buckets()),
            )?,
        };
        registry.register(Box::new(metrics.ends.clone()))?;
        registry.register(Box::new(metrics.commands.clone()))?;
        registry.register(Box::new(metrics.append_bytes.clone()))?;
        registry.register(Box::new(metrics.announce.clone()))?;
        for end in ImapEnd::ALL {
            metrics.ends.with_label_values(&[end.label()]);
        }
        for command in [
            "login",
            "authenticate",
            "select",
            "fetch",
            "idle",
            "invalid",
        ] {
            for result in ImapResult::ALL {
                metrics
                    .commands
                    .with_label_values(&[command, result.label()]);
            }
        }
        Ok(metrics)
    }

    pub fn ended(&self, why: ImapEnd) {
        self.ends.with_label_values(&[why.label()]).inc();
        tracing::debug!(reason = why.label(), "IMAP connection ended");
    }

    /// `command` is one of the names that the session machine knows, never what a client sent.
    pub fn command(&self, command: &'static str, result: ImapResult) {
        self.commands
            .with_label_values(&[command, result.label()])
            .inc();
    }

    pub fn appended(&self, bytes: u64) {
        self.append_bytes.inc_by(bytes);
    }

    pub fn announced(&self, waited: std::time::Duration) {
        self.announce.observe(waited.as_secs_f64());
    }

    /// An account logged in or a session failed in a way that its operator wants to see.
    pub fn store_failed(&self, command: &'static str, error: &dyn std::fmt::Display) {
        self.errors.count(ErrorKind::Store);
        tracing::warn!(command, %error, "IMAP command failed in the store");
    }
}
