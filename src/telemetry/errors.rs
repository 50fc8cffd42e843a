//! Errors of all services, by whose fault they are.

use prometheus::{IntCounterVec, Opts, Registry};

use super::MetricError;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever is at the other end.
    Peer,
    /// The configuration, the clock, keys and certificates.
    Operator,
    /// Disk, memory, places: it may work later.
    Resource,
    /// This program.
    Bug,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Peer, Self::Operator, Self::Resource, Self::Bug];

    const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Operator => "operator",
            Self::Resource => "resource",
            Self::Bug => "bug",
        }
    }
}

pub struct ErrorMetrics {
    errors: IntCounterVec,
}

impl ErrorMetrics {
    pub fn new(registry: &Registry) -> Result<Self, MetricError> {
        let errors = IntCounterVec::new(
            Opts::new(
                "posthorn_errors_total",
                "Errors by service and by whose fault they are.",
            ),
            &["service", "kind"],
        )?;
        for service in ["smtp", "imap", "http", "push"] {
            for fault in Fault::ALL {
                errors.with_label_values(&[service, fault.label()]);
            }
        }
        registry.register(Box::new(errors.clone()))?;
        Ok(Self { errors })
    }

    pub fn count(&self, service: &'static str, fault: Fault) {
        self.errors
            .with_label_values(&[service, fault.label()])
            .inc();
    }

    /// One outside the ranges of errors counts nothing.
    pub fn http_status(&self, status: u16) {
        match status {
            400..=499 => self.count("http", Fault::Peer),
            503 | 507 => self.count("http", Fault::Resource),
            500.. => self.count("http", Fault::Bug),
            _ => {}
        }
    }
}
