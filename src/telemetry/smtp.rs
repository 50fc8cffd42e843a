//! Metrics and log lines of `smtp`.

use std::net::IpAddr;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::errors::{ErrorKind, Errors};
use super::{MetricError, latency_buckets};

const ROLES: [&str; 2] = ["mx", "submission"];
const RESULTS: [&str; 3] = ["accepted", "deferred", "refused"];

pub struct SmtpMetrics {
    errors: Errors,
    messages: IntCounterVec,
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
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(answer_seconds.clone()))?;
        Ok(Self {
            errors: errors.clone(),
            messages,
            bytes,
            answer_seconds,
        })
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
