//! What the ingest counts.

use millrace_telemetry::{
    Metrics,
    prometheus::{IntCounter, IntCounterVec, Opts},
};
use millrace_types::RefusalReason;

/// Counters since start; clones share them.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    pub(super) connections: IntCounter,
    pub(super) panicked: IntCounter,
    pub(super) received_bytes: IntCounter,
    refused: IntCounterVec,
}

impl IngestMetrics {
    /// Adds them to a program's registry, each reason at zero: the first refusal is then a growth that can be seen.
    pub fn new(metrics: &Metrics) -> Self {
        const VALID: &str = "invariant: a constant metric definition is valid";
        let counter =
            |name: &str, help: &str| metrics.add(IntCounter::new(name, help).expect(VALID));
        let refused = Opts::new("millrace_router_refusals_total", "Publishers turned away.");
        let refused = metrics.add(IntCounterVec::new(refused, &["reason"]).expect(VALID));
        for reason in RefusalReason::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        Self {
            connections: counter(
                "millrace_router_publisher_connections_total",
                "Connections of publishers, those that were turned away among them.",
            ),
            panicked: counter(
                "millrace_router_publisher_panics_total",
                "Publishers lost to a bug of ours.",
            ),
            received_bytes: counter(
                "millrace_router_received_bytes_total",
                "Received from publishers, after TLS.",
            ),
            refused,
        }
    }

    /// Connections lost to a bug of ours.
    pub fn panicked(&self) -> u64 {
        self.panicked.get()
    }

    /// Connections ended for that reason.
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        self.refused.with_label_values(&[reason.as_str()]).get()
    }

    pub(super) fn count_refusal(&self, reason: RefusalReason) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }
}
