//! Who may read a program's admin pages: metrics and health whoever reaches the listener, everything else this host and, with
//! a certificate, api and operators.

use std::sync::Arc;

use axum::{
    Router,
    extract::{ConnectInfo, Request, connect_info::IntoMakeServiceWithConnectInfo},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

use crate::{FarmListener, FarmTls, Gate, Peer, Role};

/// Who may connect to an admin listener of a farm with TLS.
const ROLES: &[Role] = &[Role::Api, Role::Operator, Role::Monitor];
/// Who may do more there than read metrics and health.
const MORE: &[Role] = &[Role::Api, Role::Operator];
/// What says nothing of streams.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Where admin pages are served: with TLS where the farm has any, from this host also without.
pub fn admin_listener(tcp: TcpListener, tls: Option<Arc<FarmTls>>) -> FarmListener {
    let gate = |tls| Gate { tls, roles: ROLES, listener: "admin", plain_from_here: true };
    FarmListener::new(tcp, tls.map(gate))
}

/// The pages, for [`axum::serve`] on [`admin_listener`].
pub fn admin_service(pages: Router) -> IntoMakeServiceWithConnectInfo<Router, Peer> {
    pages.layer(middleware::from_fn(guard)).into_make_service_with_connect_info()
}

async fn guard(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    match OPEN.contains(&request.uri().path()) || peer.is_one_of(MORE) {
        true => next.run(request).await,
        false => StatusCode::FORBIDDEN.into_response(),
    }
}
