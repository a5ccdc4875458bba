//! What the API counts.

use axum::http::StatusCode;
use millrace_telemetry::{
    Metrics,
    prometheus::{IntCounterVec, IntGauge, Opts},
};

/// The API's metrics.
#[derive(Clone, Debug)]
pub(crate) struct ApiMetrics {
    requests: IntCounterVec,
    tokens_stale: IntGauge,
}

impl ApiMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let options =
            Opts::new("millrace_api_requests_total", "Requests answered, by their result.");
        let requests = IntCounterVec::new(options, &["result"])
            .expect("invariant: a constant metric definition is valid");
        let tokens_stale = IntGauge::new(
            "millrace_api_tokens_stale",
            "1 while the file of tokens cannot be used, and what it said before counts.",
        )
        .expect("invariant: a constant metric definition is valid");
        Self { requests: metrics.add(requests), tokens_stale: metrics.add(tokens_stale) }
    }

    pub(crate) fn tokens_stale(&self, stale: bool) {
        self.tokens_stale.set(i64::from(stale));
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let result = match status {
            _ if status.is_client_error() => "refused",
            _ if status.is_server_error() => "failed",
            _ => "ok",
        };
        self.requests.with_label_values(&[result]).inc();
    }
}
