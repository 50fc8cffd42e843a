//! Metrics and log lines of `smtp`.

use std::net::IpAddr;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::errors::{ErrorKind, Errors};
use super::{MetricError, latency_buckets};

const ROLES: [&str; 2] = ["mx", "submission"];
const RESULTS: [&str; 3] = ["accepted", "deferred", "refused"];

/// Why a command was refused, before a message could come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpRefusal {
    UnknownUser,
    /// The recipient is of another domain.
    Relay,
    TooLarge,
    NoSpace,
    /// The recipient's account is full.
    OverQuota,
    LoginRequired,
    /// The sender address belongs to somebody else.
    NotYours,
    TooManyRecipients,
    TooManyMessages,
    Utf8,
    Sequence,
    Syntax,
}

impl SmtpRefusal {
    const ALL: [Self; 12] = [
        Self::UnknownUser,
        Self::Relay,
        Self::TooLarge,
        Self::NoSpace,
        Self::OverQuota,
        Self::LoginRequired,
        Self::NotYours,
        Self::TooManyRecipients,
        Self::TooManyMessages,
        Self::Utf8,
        Self::Sequence,
        Self::Syntax,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::Relay => "relay",
            Self::TooLarge => "too_large",
            Self::NoSpace => "no_space",
            Self::OverQuota => "over_quota",
            Self::LoginRequired => "login_required",
            Self::NotYours => "not_yours",
            Self::TooManyRecipients => "too_many_recipients",
            Self::TooManyMessages => "too_many_messages",
            Self::Utf8 => "utf8",
            Self::Sequence => "sequence",
            Self::Syntax => "syntax",
        }
    }
}

pub struct SmtpMetrics {
    errors: Errors,
    messages: IntCounterVec,
    refusals: IntCounterVec,
    bytes: IntCounter,
    answer_seconds: Histogram,
}

impl SmtpMetrics {
    pub fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let messages = IntCounterVec::new(
            Opts::new(
                "posthorn_smtp_messages_total",
                "Messages that were offered in full, by role of the listener and result.",
            ),
            &["role", "result"],
        )?;
        for role in ROLES {
            for result in RESULTS {
                messages.with_label_values(&[role, result]);
            }
        }
        let refusals = IntCounterVec::new(
            Opts::new(
                "posthorn_smtp_refusals_total",
                "Commands that were refused before a message could come, by role of the listener \
                 and reason.",
            ),
            &["role", "reason"],
        )?;
        for role in ROLES {
            for reason in SmtpRefusal::ALL {
                refusals.with_label_values(&[role, reason.label()]);
            }
        }
        let bytes = IntCounter::new(
            "posthorn_smtp_received_bytes_total",
            "Bytes of accepted messages.",
        )?;
        let answer_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "posthorn_smtp_delivery_seconds",
                "From the end of a message to its answer, the commit included.",
            )
            .buckets(latency_buckets()),
        )?;
        registry.register(Box::new(messages.clone()))?;
        registry.register(Box::new(refusals.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(answer_seconds.clone()))?;
        Ok(Self {
            errors: errors.clone(),
            messages,
            refusals,
            bytes,
            answer_seconds,
        })
    }

    /// A command was refused.
    pub fn refused(&self, role: &'static str, why: SmtpRefusal) {
        self.refusals.with_label_values(&[role, why.label()]).inc();
    }

    pub fn accepted(
        &self,
        role: &'static str,
        peer: IpAddr,
        size: u64,
        recipients: usize,
        id: &str,
        took: Duration,
    ) {
        self.messages.with_label_values(&[role, "accepted"]).inc();
        self.bytes.inc_by(size);
        self.answer_seconds.observe(took.as_secs_f64());
        tracing::info!(role, %peer, size, recipients, id, "message accepted");
    }

    /// `result` is `deferred` or `refused`.
    pub fn not_accepted(&self, role: &'static str, peer: IpAddr, result: &'static str, code: u16) {
        if result == "deferred" {
            self.errors.count(ErrorKind::Delivery);
        }
        self.messages.with_label_values(&[role, result]).inc();
        tracing::info!(role, %peer, result, code, "message not accepted");
    }
}
