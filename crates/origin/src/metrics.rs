//! Every metric of the origin.

use hyper::StatusCode;
use millrace_telemetry::{
    Metrics,
    prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts},
};

const VALID: &str = "invariant: a constant metric definition is valid";

/// The origin's metrics, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OriginMetrics {
    pub(crate) streams: IntGauge,
    pub(crate) viewers: IntGauge,
    pub(crate) connections: IntGauge,
    pub(crate) turned_away: IntCounter,
    pub(crate) parked: IntGauge,
    requests: IntCounterVec,
    /// The one of `requests` that nearly all are: found once.
    answered_200: IntCounter,
    relays: IntCounterVec,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) uncopied_bytes: IntCounter,
    pub(crate) media_bytes: IntGauge,
    pub(crate) intake: IntCounterVec,
    pub(crate) intake_bytes: IntCounter,
    pub(crate) part_delay: Histogram,
}

impl OriginMetrics {
    pub(crate) fn new(registry: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| registry.add(IntGauge::new(name, help).expect(VALID));
        let counter =
            |name: &str, help: &str| registry.add(IntCounter::new(name, help).expect(VALID));
        let by_result = |name: &str, help: &str| {
            registry.add(IntCounterVec::new(Opts::new(name, help), &["result"]).expect(VALID))
        };
        let requests =
            by_result("millrace_origin_requests_total", "Requests of players by HTTP status.");
        Self {
            answered_200: requests.with_label_values(&["200"]),
            requests,
            streams: gauge("millrace_origin_streams", "Streams that can be watched."),
            viewers: gauge(
                "millrace_origin_viewers",
                "Players of the streams that this origin owns, at whichever origin: an estimate.",
            ),
            connections: gauge("millrace_origin_connections", "Open connections of players."),
            turned_away: counter(
                "millrace_origin_connections_turned_away_total",
                "Connections of players closed at once, since all places were taken.",
            ),
            parked: gauge(
                "millrace_origin_parked_requests",
                "Requests that wait for a playlist or a part to come.",
            ),
            relays: by_result(
                "millrace_origin_relays_total",
                "Requests for other origins' streams: asked of the owner, joined to one that was, kept, rejected.",
            ),
            sent_bytes: counter(
                "millrace_origin_sent_bytes_total",
                "Bytes of bodies handed to players' connections.",
            ),
            uncopied_bytes: counter(
                "millrace_origin_sent_uncopied_bytes_total",
                "Of these, bytes of media that went into plain connections without a copy.",
            ),
            media_bytes: gauge(
                "millrace_origin_media_bytes",
                "Memory that media pushed by nodes lies in, in huge pages: each stays for the last part in it.",
            ),
            intake: by_result(
                "millrace_origin_records_total",
                "Init sections and parts pushed by nodes: added, repeat, or why refused.",
            ),
            intake_bytes: counter(
                "millrace_origin_received_bytes_total",
                "Bytes of media taken from nodes.",
            ),
            part_delay: registry.add(
                Histogram::with_opts(
                    HistogramOpts::new(
                        "millrace_origin_part_delay_seconds",
                        "From the media time at which a part ends to its arrival.",
                    )
                    .buckets(vec![0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]),
                )
                .expect(VALID),
            ),
        }
    }

    pub(crate) fn count_relay(&self, result: &str) {
        self.relays.with_label_values(&[result]).inc();
    }

    pub(crate) fn count_answer(&self, status: StatusCode) {
        match status {
            StatusCode::OK => self.answered_200.inc(),
            other => self.requests.with_label_values(&[other.as_str()]).inc(),
        }
    }
}
