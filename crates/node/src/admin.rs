//! The node's admin pages: metrics, health, and what it is working on.

use axum::{Json, Router, routing::get};
use millrace_telemetry::{Metrics, Readiness, admin_routes};

use crate::host::Host;

/// `/metrics`, `/healthz`, `/readyz`, `/v1/streams`.
pub fn routes(metrics: Metrics, readiness: Readiness, host: Host) -> Router {
    let streams = get(move || async move { Json(host.streams().await) });
    admin_routes(metrics, readiness).route("/v1/streams", streams)
}
