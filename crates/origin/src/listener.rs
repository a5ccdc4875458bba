//! Accepts players' connections, plain (our own HTTP/1.1) or TLS (hyper), and drives them until they end or the origin stops.

use std::{sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming, header::ACCEPT_ENCODING};
use millrace_tls::serve_http;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    body::Body,
    http1::{self, PATIENCE},
    places::{Place, Places},
    player::{Asked, Player},
};

/// A TLS handshake may take so long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections get so long to finish their answer when the origin stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// One place where players connect.
pub(crate) struct PlayerListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) player: Arc<Player>,
    pub(crate) places: Arc<Places>,
}

impl PlayerListener {
    /// Serves until `stop`, then lets running answers finish.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.tcp.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        if let Some(place) = self.places.enter(peer) {
                            self.start(&mut connections, tcp, place, &stop);
                        }
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: others must end first.
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        let _ =
            timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    }

    fn start(
        &self,
        connections: &mut JoinSet<()>,
        tcp: TcpStream,
        place: Place,
        stop: &CancellationToken,
    ) {
        let _ = tcp.set_nodelay(true);
        let open = Open { player: self.player.clone(), _place: place };
        match self.tls.clone() {
            None => connections.spawn(serve_plain(tcp, open, stop.clone())),
            Some(tls) => connections.spawn(serve_tls(tcp, tls, open, stop.clone())),
        };
    }
}

/// What a connection has while it lives.
struct Open {
    player: Arc<Player>,
    _place: Place,
}

async fn serve_plain(tcp: TcpStream, open: Open, stop: CancellationToken) {
    http1::serve(tcp, &open.player, &stop).await;
}

async fn serve_tls(tcp: TcpStream, tls: TlsAcceptor, open: Open, stop: CancellationToken) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await else { return };
    serve_http(stream, |request| answer(open.player.clone(), request), PATIENCE, stop).await;
}

async fn answer(player: Arc<Player>, request: Request<Incoming>) -> Response<Body> {
    let accept = request.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let (method, uri) = (request.method().as_str(), request.uri());
    let asked = Asked::new(method, uri.path(), uri.query(), accept.unwrap_or_default());
    // What waits should hold little: the request's headers go first.
    drop(request);
    player.answer(asked).await.into()
}
