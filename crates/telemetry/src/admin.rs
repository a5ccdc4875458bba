//! The admin pages every program has: `/metrics`, `/healthz` (the process answers), `/readyz` (it can take work now; why not is
//! for whoever runs the farm).

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};

use crate::{Metrics, Readiness};

/// Who asks runs the farm: put among the extensions of a request by the door that knows.
#[derive(Clone, Copy, Debug)]
pub struct Insider;

/// The three pages, to be merged with a program's own.
pub fn admin_routes(metrics: Metrics, readiness: Readiness) -> Router {
    let text = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    let readyz = async move |request: Request| {
        let status = match readiness.get() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        match request.extensions().get::<Insider>() {
            Some(Insider) => (status, readiness.text()),
            None => (status, readiness.word().to_owned()),
        }
    };
    Router::new()
        .route("/metrics", get(move || async move { ([text], metrics.text()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_build() {
        let metrics = Metrics::new();
        assert!(metrics.text().contains(&format!("commit=\"{}\"", crate::COMMIT)));
    }
}
