//! The node's admin pages: metrics, health, and what it is working on.

use axum::{Json, Router, routing::get};
use millrace_telemetry::{DecisionLog, Metrics, Readiness, admin_routes, decision_routes};

use crate::host::Host;

/// `/metrics`, `/healthz`, `/readyz`, `/v1/streams`, `/v1/decisions`.
pub fn routes(
    metrics: Metrics,
    readiness: Readiness,
    host: Host,
    decisions: DecisionLog,
) -> Router {
    let streams = get(move || async move { Json(host.streams().await) });
    let routes = admin_routes(metrics, readiness).merge(decision_routes(decisions));
    routes.route("/v1/streams", streams)
}
