//! What the API counts.

use axum::http::StatusCode;
use millrace_telemetry::{
    Metrics,
    prometheus::{IntCounterVec, Opts},
};

/// The API's metrics.
#[derive(Clone, Debug)]
pub(crate) struct ApiMetrics {
    requests: IntCounterVec,
}

impl ApiMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let options =
            Opts::new("millrace_api_requests_total", "Requests answered, by their result.");
        let requests = IntCounterVec::new(options, &["result"])
            .expect("invariant: a constant metric definition is valid");
        Self { requests: metrics.add(requests) }
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
