//! The admin pages every program has: `/metrics`, `/healthz` (the process answers), `/readyz` (it can take work now).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};

use crate::Metrics;

/// Whether the program can take work now. Set by its main loop, read by `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says it.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// What was said last; false at first.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The three pages, to be merged with a program's own.
pub fn admin_routes(metrics: Metrics, readiness: Readiness) -> Router {
    let text = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Router::new()
        .route("/metrics", get(move || async move { ([text], metrics.text()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match readiness.get() {
                    true => (StatusCode::OK, "ready\n").into_response(),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
                }
            }),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_build_and_readiness_starts_false() {
        let metrics = Metrics::new();
        assert!(metrics.text().contains(&format!("commit=\"{}\"", crate::COMMIT)));
        assert!(!Readiness::default().get());
    }
}
