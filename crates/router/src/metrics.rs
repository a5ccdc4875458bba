//! What the router counts.

use millrace_media::mapped_replay_bytes;
use millrace_telemetry::{
    Metrics,
    prometheus::{
        IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
        core::{Collector, Desc},
        proto::MetricFamily,
    },
};
use millrace_types::RefusalReason;

/// The router's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct RouterMetrics {
    /// Sessions, their publisher connected or not.
    pub sessions: IntGauge,
    /// Publishers taken.
    pub publishers: IntCounter,
    /// Streams that are to have a second encoder for their viewers, by what became of it: `granted`, or `waiting` for a place.
    pub hot_streams: IntGaugeVec,
    /// Placements by result: `admitted` or the refusal's reason.
    pub placements: IntCounterVec,
    /// Placements lost, by reason.
    pub losses: IntCounterVec,
    /// Streams given to another origin in place of a lost one.
    pub origin_changes: IntCounter,
    /// Attempts to move a stream to another node, by result.
    pub moves: IntCounterVec,
    /// Media kept for successors, of all sessions.
    pub replay_bytes: IntGauge,
    /// Sessions in which input had to be dropped before it was published.
    pub lossy: IntCounter,
}

impl RouterMetrics {
    /// Adds them to a program's registry.
    pub fn new(metrics: &Metrics) -> Self {
        const VALID: &str = "invariant: a constant metric definition is valid";
        let counters = |name: &str, help: &str, label: &str| {
            metrics.add(IntCounterVec::new(Opts::new(name, help), &[label]).expect(VALID))
        };
        let counter =
            |name: &str, help: &str| metrics.add(IntCounter::new(name, help).expect(VALID));
        let gauge = |name: &str, help: &str| metrics.add(IntGauge::new(name, help).expect(VALID));
        let placements =
            counters("millrace_router_placements_total", "Placements by result.", "result");
        // What is at zero before its first event is seen to grow with it.
        placements.with_label_values(&["admitted"]);
        for reason in RefusalReason::ALL {
            placements.with_label_values(&[reason.as_str()]);
        }
        let mapped = IntGauge::new(
            "millrace_router_replay_mapped_bytes",
            "The same and that of blocks that wait for streams to need them, 8 MiB at most for each thread that carries media.",
        );
        metrics.add(Mapped(mapped.expect(VALID)));
        Self {
            sessions: gauge(
                "millrace_router_sessions",
                "Sessions, their publisher connected or not.",
            ),
            publishers: counter("millrace_router_publishers_total", "Publishers taken."),
            hot_streams: metrics.add(
                IntGaugeVec::new(
                    Opts::new(
                        "millrace_router_hot_streams",
                        "Streams that are to have a second encoder for their viewers: granted, or waiting for others to leave it.",
                    ),
                    &["result"],
                )
                .expect(VALID),
            ),
            placements,
            losses: counters("millrace_router_losses_total", "Placements lost.", "reason"),
            origin_changes: counter(
                "millrace_router_origin_changes_total",
                "Streams given to another origin in place of a lost one.",
            ),
            moves: counters(
                "millrace_router_moves_total",
                "Attempts to move a stream to another node.",
                "result",
            ),
            replay_bytes: gauge(
                "millrace_router_replay_bytes",
                "Memory that holds media for successors, of all sessions, in whole blocks.",
            ),
            lossy: counter(
                "millrace_router_lossy_sessions_total",
                "Sessions in which input had to be dropped before it was published.",
            ),
        }
    }
}

/// Looked at when it is asked for.
#[derive(Clone)]
struct Mapped(IntGauge);

impl Collector for Mapped {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.set(i64::try_from(mapped_replay_bytes()).unwrap_or(i64::MAX));
        self.0.collect()
    }
}
