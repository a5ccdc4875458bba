//! The router's admin pages: metrics, health, its streams and what happened to them.

use axum::{
    Json, Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use millrace_telemetry::{
    DecisionLog, DecisionQuery, Metrics, Readiness, Recorded, admin_routes, decision_routes,
};
use serde::Serialize;

use crate::sessions::Sessions;

/// An answer that is no report.
#[derive(Serialize)]
struct NotFound {
    error: String,
}

/// `/metrics`, `/healthz`, `/readyz`, `/v1/streams`, `/v1/streams/{id}`, `/v1/decisions`, and `/v1/events`: the newest
/// decisions about streams.
pub fn routes(
    metrics: Metrics,
    readiness: Readiness,
    sessions: Sessions,
    decisions: DecisionLog,
) -> Router {
    let (all, one, events) = (sessions.clone(), sessions, decisions.clone());
    admin_routes(metrics, readiness)
        .merge(decision_routes(decisions))
        .route("/v1/streams", get(move || async move { Json(all.reports().await) }))
        .route("/v1/streams/{id}", get(move |Path(id): Path<String>| stream(one, id)))
        .route("/v1/events", get(move || async move { Json(about_streams(&events)) }))
}

fn about_streams(log: &DecisionLog) -> Vec<Recorded> {
    let mut all = log.list(&DecisionQuery { limit: Some(usize::MAX), ..Default::default() });
    all.retain(|recorded| recorded.decision().stream.is_some());
    all
}

async fn stream(sessions: Sessions, id: String) -> Response {
    let reports = sessions.reports().await;
    match reports.into_iter().find(|report| report.stream.as_str() == id) {
        Some(report) => Json(report).into_response(),
        None => {
            let error = format!("no stream {id} on this router");
            (StatusCode::NOT_FOUND, Json(NotFound { error })).into_response()
        }
    }
}
