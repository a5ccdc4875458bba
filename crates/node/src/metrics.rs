//! What the node counts.

use millrace_telemetry::{
    Metrics,
    prometheus::{
        Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    },
};

/// The node's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    /// Worker processes that serve a stream.
    pub workers: IntGauge,
    /// Worker processes that SIGKILL did not end.
    pub unkillable: IntGauge,
    /// Ends of workers by reason.
    pub worker_ends: IntCounterVec,
    /// Workers of the daemon before this one, by what became of them: `adopted`, or why not.
    pub adoptions: IntCounterVec,
    /// Streams not taken, by reason.
    pub refusals: IntCounterVec,
    /// Parts taken from workers.
    pub parts: IntCounter,
    /// Requests to the origin by result.
    pub pushes: IntCounterVec,
    /// Origins that did not answer any more, once per stream.
    pub origin_losses: IntCounter,
    /// Streams gone on with whose past was fetched from the origin, by how much of it came.
    pub pasts: IntCounterVec,
    /// From a part's arrival to the origin's word that it is safe, seconds.
    pub push_seconds: Histogram,
    /// Promised share of each dimension of capacity, in its own unit.
    pub promised: IntGaugeVec,
    /// What the host has in each dimension of capacity that is limited.
    pub capacity: IntGaugeVec,
}

impl NodeMetrics {
    /// Adds them to a program's registry.
    pub fn new(metrics: &Metrics) -> Self {
        const VALID: &str = "invariant: a constant metric definition is valid";
        let counters = |name: &str, help: &str, label: &str| {
            metrics.add(IntCounterVec::new(Opts::new(name, help), &[label]).expect(VALID))
        };
        let gauges = |name: &str, help: &str| {
            metrics.add(IntGaugeVec::new(Opts::new(name, help), &["engine"]).expect(VALID))
        };
        let push_seconds = HistogramOpts::new(
            "millrace_node_push_seconds",
            "From a part's arrival to the origin's word that it is safe.",
        )
        .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        Self {
            workers: metrics.add(
                IntGauge::new("millrace_node_workers", "Worker processes that serve a stream.")
                    .expect(VALID),
            ),
            unkillable: metrics.add(
                IntGauge::new(
                    "millrace_node_unkillable_workers",
                    "Worker processes that SIGKILL did not end; what they hold stays promised.",
                )
                .expect(VALID),
            ),
            worker_ends: counters("millrace_node_worker_ends_total", "Ends of workers.", "reason"),
            adoptions: counters(
                "millrace_node_adoptions_total",
                "Workers of an earlier daemon, by whether a stream goes on with them.",
                "result",
            ),
            refusals: counters("millrace_node_refusals_total", "Streams not taken.", "reason"),
            parts: metrics.add(
                IntCounter::new("millrace_node_parts_total", "Parts taken from workers.")
                    .expect(VALID),
            ),
            origin_losses: metrics.add(
                IntCounter::new(
                    "millrace_node_origin_losses_total",
                    "Times that a stream's origin did not answer any more.",
                )
                .expect(VALID),
            ),
            pushes: counters("millrace_node_pushes_total", "Requests to the origin.", "result"),
            pasts: counters(
                "millrace_node_pasts_total",
                "Streams whose past was fetched from the origin, by how much of it came.",
                "result",
            ),
            push_seconds: metrics.add(Histogram::with_opts(push_seconds).expect(VALID)),
            promised: gauges(
                "millrace_node_promised_units",
                "What is promised to streams: pixels per second, workers, bytes, millicores, bits per second.",
            ),
            capacity: gauges(
                "millrace_node_capacity_units",
                "What the host has, where that is limited, in the same units.",
            ),
        }
    }
}
