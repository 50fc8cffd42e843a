//! Metrics of `push`.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::errors::{ErrorKind, Errors};
use super::{MetricError, latency_buckets};

pub struct PushMetrics {
    errors: Errors,
    wakeups: IntCounterVec,
    attempt_seconds: Histogram,
    delivery_to_wake_seconds: Histogram,
    alarms: IntCounterVec,
    outbox_entries: IntGauge,
    outbox_oldest_age_seconds: Gauge,
    devices: IntGaugeVec,
}

/// Transports, as label values.
const TRANSPORTS: [&str; 1] = ["webpush"];
/// Ends of a wake-up; the first six are those of an attempt.
const OUTCOMES: [&str; 8] = [
    "delivered",
    "gone",
    "rejected",
    "auth",
    "throttled",
    "transient",
    "expired",
    "settled",
];

/// Devices by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    pub active: u64,
    pub unverified: u64,
    pub paused: u64,
}

impl PushMetrics {
    pub fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let wakeups = IntCounterVec::new(
            Opts::new(
                "posthorn_push_wakeups_total",
                "Attempts to wake a device by outcome, and wake-ups that expired or were settled (read or removed) before.",
            ),
            &["transport", "outcome"],
        )?;
        for transport in TRANSPORTS {
            for outcome in OUTCOMES {
                wakeups.with_label_values(&[transport, outcome]);
            }
        }
        let histogram = |name, help| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(latency_buckets()))
        };
        let attempt_seconds = histogram(
            "posthorn_push_attempt_seconds",
            "Duration of an attempt, from the request to the push service's answer.",
        )?;
        let delivery_to_wake_seconds = histogram(
            "posthorn_push_delivery_to_wake_seconds",
            "From the commit of a delivery to its wake-up accepted by the push service.",
        )?;
        let alarms = IntCounterVec::new(
            Opts::new(
                "posthorn_push_alarms_total",
                "Push services refuse the server's credentials, or wake-ups could not even be tried, by kind.",
            ),
            &["kind"],
        )?;
        for kind in [
            "credentials_refused",
            "origin_refuses",
            "transport_stopped",
            "own_fault",
        ] {
            alarms.with_label_values(&[kind]);
        }
        let outbox_entries =
            IntGauge::new("posthorn_push_outbox_entries", "Wake-ups that are owed.")?;
        let outbox_oldest_age_seconds = Gauge::new(
            "posthorn_push_outbox_oldest_age_seconds",
            "Age of the oldest wake-up that is owed; 0 where there is none.",
        )?;
        let devices = IntGaugeVec::new(
            Opts::new("posthorn_push_devices", "Registered devices by state."),
            &["state"],
        )?;
        for state in ["active", "unverified", "paused"] {
            devices.with_label_values(&[state]);
        }
        registry.register(Box::new(wakeups.clone()))?;
        registry.register(Box::new(attempt_seconds.clone()))?;
        registry.register(Box::new(delivery_to_wake_seconds.clone()))?;
        registry.register(Box::new(alarms.clone()))?;
        registry.register(Box::new(outbox_entries.clone()))?;
        registry.register(Box::new(outbox_oldest_age_seconds.clone()))?;
        registry.register(Box::new(devices.clone()))?;
        Ok(Self {
            errors: errors.clone(),
            wakeups,
            attempt_seconds,
            delivery_to_wake_seconds,
            alarms,
            outbox_entries,
            outbox_oldest_age_seconds,
            devices,
        })
    }

    /// An attempt ended.
    pub fn attempted(&self, transport: &str, outcome: &str, seconds: f64) {
        self.attempt_seconds.observe(seconds);
        self.wakeups.with_label_values(&[transport, outcome]).inc();
    }

    /// Mail reached the push service this long after it was committed.
    pub fn woke(&self, seconds: f64) {
        self.delivery_to_wake_seconds.observe(seconds);
    }

    /// A wake-up ended without an attempt: `expired` or `settled`.
    pub fn ended(&self, transport: &str, how: &str) {
        self.wakeups.with_label_values(&[transport, how]).inc();
    }

    /// Push services refuse our credentials.
    pub fn alarm(&self, kind: &str) {
        self.errors.count(ErrorKind::Push);
        self.alarms.with_label_values(&[kind]).inc();
        tracing::warn!(
            kind,
            "a push service refuses the server's VAPID key or its clock"
        );
    }

    /// A wake-up could not even be tried; it is tried again.
    pub fn own_fault(&self, class: &str) {
        self.errors.count(ErrorKind::Push);
        self.alarms.with_label_values(&["own_fault"]).inc();
        tracing::error!(class, "wake-ups can't be sent, by a fault of this server");
    }

    /// State of the outbox at this moment.
    pub fn set_outbox(&self, entries: u64, oldest_age_seconds: f64) {
        self.outbox_entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.outbox_oldest_age_seconds.set(oldest_age_seconds);
    }

    pub fn set_devices(&self, counts: DeviceCounts) {
        for (state, count) in [
            ("active", counts.active),
            ("unverified", counts.unverified),
            ("paused", counts.paused),
        ] {
            self.devices
                .with_label_values(&[state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
