//! Metrics of `http`.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use super::{ErrorKind, Errors, MetricError, latency_buckets};

pub struct HttpMetrics {
    errors: Errors,
    requests: IntCounterVec,
    request_seconds: Histogram,
}

impl HttpMetrics {
    /// Label for requests whose path nobody serves.
    pub const UNKNOWN_ROUTE: &'static str = "other";

    pub(super) fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let requests = IntCounterVec::new(
            Opts::new(
                "posthorn_http_requests_total",
                "HTTP requests by route and class of status.",
            ),
            &["route", "status"],
        )?;
        for status in ["2xx", "4xx"] {
            requests.with_label_values(&[Self::UNKNOWN_ROUTE, status]);
        }
        let request_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "posthorn_http_request_seconds",
                "Duration of an HTTP request, from its head to the answer's head.",
            )
            .buckets(latency_buckets()),
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(request_seconds.clone()))?;
        Ok(Self {
            errors: errors.clone(),
            requests,
            request_seconds,
        })
    }

    /// A request was answered. `route` is a pattern of ours, never the path that was asked for.
    pub fn answered(&self, route: &str, status: u16, seconds: f64) {
        // 503 is what /readyz says; its causes are counted where they arise.
        if matches!(status, 500 | 507) {
            self.errors.count(ErrorKind::Http);
        }
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.request_seconds.observe(seconds);
    }
}

impl super::Telemetry {
    /// Everything in the text format that Prometheus reads.
    pub fn text(&self) -> Result<String, MetricError> {
        let mut page = String::new();
        prometheus::TextEncoder::new().encode_utf8(&self.registry().gather(), &mut page)?;
        Ok(page)
    }
}
