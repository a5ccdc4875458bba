//! One registry of metrics per program; each crate defines its own in its `metrics.rs` and adds them here.

use prometheus::{IntCounter, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector};

use crate::{COMMIT, VERSION, logs::lines_left_out};

/// What `/metrics` of one program shows.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    log_lines_left_out: IntCounter,
}

impl Metrics {
    /// A registry that holds what every program has.
    pub fn new() -> Self {
        let log_lines_left_out = IntCounter::new(
            "millrace_log_lines_left_out_total",
            "Log lines that were not written, since nobody read what the program writes, or it could not be written.",
        )
        .expect("invariant: a constant metric definition is valid");
        let metrics = Self { registry: Registry::new(), log_lines_left_out };
        metrics.add(metrics.log_lines_left_out.clone());
        let info = metrics.add(
            IntGaugeVec::new(
                Opts::new("millrace_build_info", "Always 1; the labels say which build runs."),
                &["version", "commit"],
            )
            .expect("invariant: a constant metric definition is valid"),
        );
        info.with_label_values(&[VERSION, COMMIT]).set(1);
        metrics
    }

    /// Registers a metric and hands it back. Programs that run in one process share a registry, so names carry the program.
    pub fn add<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        if let Err(error) = self.registry.register(Box::new(metric.clone())) {
            tracing::error!(%error, "metric not registered");
        }
        metric
    }

    /// The exposition text (Prometheus text format 0.0.4).
    pub fn text(&self) -> String {
        let left_out = &self.log_lines_left_out;
        left_out.inc_by(lines_left_out().saturating_sub(left_out.get()));
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics not encoded");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
