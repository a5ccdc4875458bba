//! The admin pages every program has: `/metrics`, `/healthz` (the process answers), `/readyz` (it can take work now).

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};

use crate::Metrics;

/// Whether the program can take work now, and what it does without meanwhile. Set by its main loop, read by `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    ready: AtomicBool,
    fault: Mutex<Option<String>>,
}

impl Readiness {
    /// Says it.
    pub fn set(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// What was said last; false at first.
    pub fn get(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// Says what a person must mend although the program works on; `None` when there is nothing.
    pub fn set_fault(&self, fault: Option<String>) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The text of `/readyz`.
    fn text(&self) -> String {
        let fault = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = if self.get() { "ready\n" } else { "not ready\n" };
        fault.as_ref().map_or_else(|| ready.to_owned(), |fault| format!("{ready}fault: {fault}\n"))
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
                let status = match readiness.get() {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                (status, readiness.text())
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

    #[test]
    fn a_fault_that_does_not_keep_a_program_from_working_is_said_beside_its_readiness() {
        let readiness = Readiness::default();
        readiness.set(true);
        readiness.set_fault(Some("tokens:3: no".to_owned()));
        assert_eq!(readiness.text(), "ready\nfault: tokens:3: no\n");
        readiness.set_fault(None);
        assert_eq!(readiness.text(), "ready\n");
    }
}
