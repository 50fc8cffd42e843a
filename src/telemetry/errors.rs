//! Errors of all services in one family, by kind: what an operator should be woken for.

use prometheus::{IntCounterVec, Opts, Registry};

use super::MetricError;

/// A kind of error; peers that are merely wrong are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A connection could not be taken for want of a resource.
    Accept,
    /// A connection ended by a bug.
    Panic,
    /// A commit group could not be written.
    Write,
    /// The index did not add up.
    Index,
    /// A message body was damaged or missing.
    Body,
    /// A message was put off for reasons of ours.
    Delivery,
    /// A command or login failed in the store.
    Store,
    /// A request failed inside this server.
    Http,
    /// A push service refuses the server's credentials, or a wake-up could not even be tried.
    Push,
}

impl ErrorKind {
    const ALL: [Self; 9] = [
        Self::Accept,
        Self::Panic,
        Self::Write,
        Self::Index,
        Self::Body,
        Self::Delivery,
        Self::Store,
        Self::Http,
        Self::Push,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Panic => "panic",
            Self::Write => "write",
            Self::Index => "index",
            Self::Body => "body",
            Self::Delivery => "delivery",
            Self::Store => "store",
            Self::Http => "http",
            Self::Push => "push",
        }
    }
}

/// The counter; clones count together.
#[derive(Clone)]
pub struct Errors(IntCounterVec);

impl Errors {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricError> {
        let opts = Opts::new("posthorn_errors_total", "Errors of this server, by kind.");
        let errors = IntCounterVec::new(opts, &["kind"])?;
        for kind in ErrorKind::ALL {
            errors.with_label_values(&[kind.label()]);
        }
        registry.register(Box::new(errors.clone()))?;
        Ok(Self(errors))
    }

    pub fn count(&self, kind: ErrorKind) {
        self.0.with_label_values(&[kind.label()]).inc();
    }
}
