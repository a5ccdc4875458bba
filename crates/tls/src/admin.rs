//! Who may read a program's admin pages: metrics and whether it is healthy whoever reaches the listener; why it is not, this host
//! and whoever has a certificate for it; everything else this host and, with a certificate, api and operators.

use std::sync::Arc;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use millrace_telemetry::Insider;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{FarmListener, FarmTls, Gate, Peer, Role, serve_pages};

/// Who may connect to an admin listener of a farm with TLS.
const ROLES: &[Role] = &[Role::Api, Role::Operator, Role::Monitor];
/// Who may do more there than read metrics and health.
const MORE: &[Role] = &[Role::Api, Role::Operator];
/// What says nothing of streams.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Serves a program's admin pages until `stop`: with TLS where the farm has any, from this host also without.
pub async fn serve_admin(
    tcp: TcpListener,
    tls: Option<Arc<FarmTls>>,
    pages: Router,
    stop: CancellationToken,
) {
    let gate = |tls| Gate { tls, roles: ROLES, listener: "admin", plain_from_here: true };
    let listener = FarmListener::new(tcp, tls.map(gate));
    serve_pages("admin", listener, pages.layer(middleware::from_fn(guard)), stop).await;
}

async fn guard(ConnectInfo(peer): ConnectInfo<Peer>, mut request: Request, next: Next) -> Response {
    if peer.is_one_of(ROLES) {
        request.extensions_mut().insert(Insider);
    }
    match OPEN.contains(&request.uri().path()) || peer.is_one_of(MORE) {
        true => next.run(request).await,
        false => StatusCode::FORBIDDEN.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use millrace_telemetry::{Metrics, Readiness, admin_routes};
    use tower_service::Service as _;

    use super::*;

    /// What a program that is starting tells who asks for `/readyz` from there.
    async fn told(address: &str, identity: Option<&str>) -> String {
        let pages = admin_routes(Metrics::new(), Readiness::default());
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "/readyz".parse().unwrap();
        let identity = identity.map(|identity| identity.parse().unwrap());
        let peer = Peer { address: address.parse().unwrap(), identity };
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = pages.layer(middleware::from_fn(guard)).call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(answer.into_body(), 4096).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn why_a_program_is_not_ready_is_for_who_runs_it() {
        let why = "not ready\nmissing: start: the program is starting, since ";
        assert_eq!(told("192.0.2.1:5", None).await, "not ready\n");
        assert!(told("127.0.0.1:5", None).await.starts_with(why));
        assert!(told("192.0.2.1:5", Some("monitor/prometheus")).await.starts_with(why));
        assert_eq!(told("192.0.2.1:5", Some("node/stolen")).await, "not ready\n");
    }
}
