//! Metrics and log lines of `net`.

use std::io;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::MetricError;
use super::errors::{ErrorKind, Errors};

const SERVICES: [&str; 4] = ["smtp", "submission", "imap", "http"];

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The listener has as many as it may.
    Limit,
    /// This address has as many as it may.
    PerAddress,
}

impl Refused {
    const ALL: [Self; 2] = [Self::Limit, Self::PerAddress];

    fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::PerAddress => "per_address",
        }
    }
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Done,
    Failed,
    TimedOut,
}

impl Handshake {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::TimedOut];

    pub fn of<T>(result: &io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            Err(_) => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
        }
    }
}

pub struct NetMetrics {
    errors: Errors,
    open: IntGaugeVec,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    handshakes: IntCounterVec,
    accept_errors: IntCounterVec,
    panics: IntCounterVec,
}

impl NetMetrics {
    pub fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, MetricError>(counter)
        };
        let open = IntGaugeVec::new(
            Opts::new(
                "posthorn_net_connections",
                "Connections that are open, by service.",
            ),
            &["service"],
        )?;
        registry.register(Box::new(open.clone()))?;
        let metrics = Self {
            errors: errors.clone(),
            open,
            accepted: counter(
                "posthorn_net_connections_accepted_total",
                "Connections that were let in.",
                &["service"],
            )?,
            refused: counter(
                "posthorn_net_connections_refused_total",
                "Connections that were closed at once, by reason.",
                &["service", "reason"],
            )?,
            handshakes: counter(
                "posthorn_net_tls_handshakes_total",
                "TLS handshakes, by how they ended.",
                &["service", "result"],
            )?,
            accept_errors: counter(
                "posthorn_net_accept_errors_total",
                "Accepts that failed for want of a resource.",
                &["service"],
            )?,
            panics: counter(
                "posthorn_net_connection_panics_total",
                "Connections that ended by a bug.",
                &["service"],
            )?,
        };
        for service in SERVICES {
            metrics.open.with_label_values(&[service]).set(0);
            for counter in [&metrics.accepted, &metrics.accept_errors, &metrics.panics] {
                counter.with_label_values(&[service]);
            }
            for reason in Refused::ALL {
                metrics
                    .refused
                    .with_label_values(&[service, reason.label()]);
            }
            for result in Handshake::ALL {
                metrics
                    .handshakes
                    .with_label_values(&[service, result.label()]);
            }
        }
        Ok(metrics)
    }

    pub fn opened(&self, service: &'static str) {
        self.open.with_label_values(&[service]).inc();
        self.accepted.with_label_values(&[service]).inc();
    }

    /// `panicked`: it ended by a bug, which the runtime has reported.
    pub fn closed(&self, service: &'static str, panicked: bool) {
        self.open.with_label_values(&[service]).dec();
        if panicked {
            self.errors.count(ErrorKind::Panic);
            self.panics.with_label_values(&[service]).inc();
            tracing::error!(service, "a connection ended by a panic");
        }
    }

    pub fn refused(&self, service: &'static str, reason: Refused) {
        self.refused
            .with_label_values(&[service, reason.label()])
            .inc();
        tracing::debug!(service, reason = reason.label(), "connection refused");
    }

    pub fn handshake(&self, service: &'static str, result: Handshake) {
        self.handshakes
            .with_label_values(&[service, result.label()])
            .inc();
    }

    pub fn accept_failed(&self, service: &'static str, error: &io::Error) {
        self.errors.count(ErrorKind::Accept);
        self.accept_errors.with_label_values(&[service]).inc();
        tracing::warn!(service, %error, "accept failed");
    }

    /// Connections that are open now.
    pub fn open(&self, service: &str) -> i64 {
        self.open.with_label_values(&[service]).get()
    }
}
