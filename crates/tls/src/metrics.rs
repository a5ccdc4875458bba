//! What is counted of the farm's own connections, in every program that has a certificate.

use millrace_telemetry::{
    Metrics,
    prometheus::{IntCounterVec, IntGauge, Opts},
};

/// The counters.
#[derive(Clone, Debug)]
pub(crate) struct FarmMetrics {
    pub(crate) refused_peers: IntCounterVec,
    pub(crate) certificate_expiry: IntGauge,
}

impl FarmMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let valid = "invariant: a constant metric definition is valid";
        let refused = Opts::new(
            "millrace_farm_refused_peers_total",
            "Connections of the farm's own protocols that were turned away, by reason.",
        );
        Self {
            refused_peers: metrics.add(IntCounterVec::new(refused, &["reason"]).expect(valid)),
            certificate_expiry: metrics.add(
                IntGauge::new(
                    "millrace_farm_certificate_expiry_timestamp_seconds",
                    "Unix time at which this program's certificate in the farm expires.",
                )
                .expect(valid),
            ),
        }
    }
}
