//! Asks another origin for what it serves of its own streams, at its intake. One client for all of them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use millrace_tls::{Expected, FarmConnector, FarmTls, Role, http_client};

/// Before a path that a player would ask for, at an origin's intake: answered from its own streams only.
pub(crate) const RELAY_PREFIX: &str = "/relay/v1";
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(500);
/// Two segments of the highest bitrate that is taken, with room to spare.
const MAX_BYTES: usize = 32 << 20;
/// Says how many players asked for a playlist since it was last asked for here.
pub(crate) const PLAYERS_HEADER: &str = "millrace-players";

/// No answer came.
#[derive(Debug, thiserror::Error)]
#[error("origin {address}: {text}")]
pub(crate) struct PeerError {
    address: SocketAddr,
    text: String,
}

/// A client of all origins; clones share its connections.
#[derive(Clone)]
pub(crate) struct Peers {
    scheme: &'static str,
    http: Client<FarmConnector, Body>,
}

impl Peers {
    pub(crate) fn new(tls: Option<Arc<FarmTls>>) -> Self {
        let connector =
            FarmConnector { tls, expected: Expected::any(Role::Origin), patience: CONNECT };
        let scheme = connector.scheme();
        Self { scheme, http: http_client(connector) }
    }

    /// What the origin at `intake` answers to a path and query that so many players asked for. Waits as long as it does.
    pub(crate) async fn get(
        &self,
        intake: SocketAddr,
        target: &str,
        players: u32,
    ) -> Result<(StatusCode, Bytes), PeerError> {
        let failed = |text: String| PeerError { address: intake, text };
        let request = Request::get(format!("{}://{intake}{RELAY_PREFIX}{target}", self.scheme));
        let request = request
            .header(PLAYERS_HEADER, players)
            .body(Body::empty())
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.http.request(request).await.map_err(|error| failed(chain(&error)))?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), MAX_BYTES).await;
        Ok((status, body.map_err(|error| failed(chain(&error)))?))
    }
}

/// An error with its causes: hyper's own text alone says only `client error (Connect)`.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
