//! Metrics and log lines. An event counts and logs in one place, so that the two never disagree.
//!
//! May import: types. Only this layer names `prometheus`. Labels are bounded: never an address,
//! an account or a host that a stranger chose. No message content, no passwords, no endpoints.

mod auth;
mod connections;
mod errors;
mod http;
mod imap;
mod net;
mod push;
mod seldom;
mod smtp;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry};

pub use auth::{AuthMetrics, LoginResult};
pub use connections::{Connections, HttpStanding, ImapStanding, SmtpStanding, SmtpState};
pub use errors::{ErrorKind, Errors};
pub use http::HttpMetrics;
pub use imap::{ImapEnd, ImapMetrics, ImapResult, ImapState};
pub use net::{Handshake, NetMetrics, Refused};
pub use push::{DeviceCounts, PushMetrics};
pub use smtp::{SmtpMetrics, SmtpRefusal};
pub use store::{OverQuota, StoreMetrics};

/// A metric could not be registered: a name was used twice, a bug.
pub use prometheus::Error as MetricError;

/// All metrics of one server.
pub struct Telemetry {
    registry: Registry,
    /// By kind, of all services.
    pub errors: Errors,
    pub auth: AuthMetrics,
    /// By protocol and state.
    pub connections: Connections,
    pub http: HttpMetrics,
    pub imap: ImapMetrics,
    pub net: NetMetrics,
    pub push: PushMetrics,
    pub smtp: SmtpMetrics,
    pub store: StoreMetrics,
}

/// Buckets from a tenth of a millisecond to two minutes.
pub(crate) fn latency_buckets() -> Vec<f64> {
    vec![
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        5.0, 15.0, 60.0, 120.0,
    ]
}

impl Telemetry {
    pub fn new() -> Result<Arc<Self>, MetricError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = IntGaugeVec::new(
            Opts::new("posthorn_build_info", "1, with the version as a label."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let errors = Errors::new(&registry)?;
        let connections = Connections::new(&registry)?;
        Ok(Arc::new(Self {
            auth: AuthMetrics::new(&registry, &errors)?,
            http: HttpMetrics::new(&registry, &errors)?,
            imap: ImapMetrics::new(&registry, &errors)?,
            net: NetMetrics::new(&registry, &errors)?,
            push: PushMetrics::new(&registry, &errors)?,
            smtp: SmtpMetrics::new(&registry, &errors)?,
            store: StoreMetrics::new(&registry, &errors)?,
            connections,
            errors,
            registry,
        }))
    }

    /// The registry, for the text page.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A gauge's values by one of its labels, summed over the others.
    pub fn gauge_by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        let families = self.registry.gather();
        for family in families.iter().filter(|family| family.name() == name) {
            for metric in family.get_metric() {
                let found = metric.get_label().iter().find(|pair| pair.name() == label);
                if let Some(pair) = found {
                    *values.entry(pair.value().to_owned()).or_default() +=
                        metric.get_gauge().get_value();
                }
            }
        }
        values
    }
}
