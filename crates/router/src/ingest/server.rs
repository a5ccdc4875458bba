//! Accepts publishers on RTMP and RTMPS, each in a task of its own: a panic there loses that connection and is
//! counted, nothing else.

use std::{future::Future, net::SocketAddr, sync::Arc};

use millrace_types::RefusalReason;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Duration, Instant, sleep, timeout_at},
};
use tokio_rustls::{TlsAcceptor, rustls};
use tracing::{error, info, warn};

use super::{
    Gate, IngestEnd, IngestStats, Limits, Network, Refusal, connection::Connection,
    connection_limit::ConnectionLimit, proxy_protocol, stats::count,
};

/// Pause after the system refused us a socket; another connection must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an ingest is given at start.
#[derive(Clone, Debug, Default)]
pub struct IngestConfig {
    /// Bounds on everything a stranger can send.
    pub limits: Limits,
    /// Load balancers that must send a PROXY protocol version 2 header, and are believed.
    pub proxies: Vec<Network>,
}

/// The ingest of one router: any number of listeners that share limits and counters.
#[derive(Debug)]
pub struct IngestServer<G> {
    config: Arc<IngestConfig>,
    gate: Arc<G>,
    stats: Arc<IngestStats>,
    places: Arc<ConnectionLimit>,
}

impl<G> Clone for IngestServer<G> {
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            gate: Arc::clone(&self.gate),
            stats: Arc::clone(&self.stats),
            places: Arc::clone(&self.places),
        }
    }
}

impl<G: Gate> IngestServer<G> {
    /// An ingest without listeners.
    pub fn new(config: IngestConfig, gate: Arc<G>) -> Self {
        let Limits { connections, connections_per_address, .. } = config.limits;
        let places = ConnectionLimit::new(connections, connections_per_address);
        Self { config: Arc::new(config), gate, stats: Arc::default(), places }
    }

    /// The counters, for metrics.
    pub fn stats(&self) -> Arc<IngestStats> {
        Arc::clone(&self.stats)
    }

    /// Serves a listener, with TLS if given. When `stop` completes it accepts no more and returns once the
    /// publishers it has are gone; dropped, it cuts them off.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: impl Future<Output = ()>,
    ) {
        let tls = tls.map(TlsAcceptor::from);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        count(&self.stats.connections, 1);
                        connections.spawn(self.clone().connection(socket, peer, tls.clone()));
                    }
                    Err(error) => {
                        error!(%error, "publisher not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => self.count_panic(ended),
                () = &mut stop => break,
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            self.count_panic(ended);
        }
    }

    fn count_panic(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            count(&self.stats.panicked, 1);
            error!(%error, "publisher's connection lost to a bug");
        }
    }

    /// One connection from accept to close.
    async fn connection(self, socket: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        let started = Instant::now();
        match self.run_connection(socket, peer, tls, started).await {
            Ok((peer, end)) => self.log_end(peer, end),
            Err(refusal) => self.log_end(peer, IngestEnd::Refused(refusal)),
        }
    }

    async fn run_connection(
        &self,
        mut socket: TcpStream,
        mut peer: SocketAddr,
        tls: Option<TlsAcceptor>,
        started: Instant,
    ) -> Result<(SocketAddr, IngestEnd), Refusal> {
        let limits = &self.config.limits;
        let deadline = started + limits.handshake;
        if self.config.proxies.iter().any(|network| network.contains(peer.ip())) {
            let read = timeout_at(deadline, proxy_protocol::read_header(&mut socket)).await;
            let header = read.map_err(|_| late("proxy header"))?;
            let source = header.map_err(protocol)?;
            peer = source.unwrap_or(peer);
        }
        let limit = || Refusal::from(RefusalReason::ConnectionLimit);
        let _place = self.places.enter(peer.ip()).ok_or_else(limit)?;
        // Answers are small and awaited; the option cannot fail on an open socket in a way that matters.
        drop(socket.set_nodelay(true));
        let (gate, stats) = (Arc::clone(&self.gate), Arc::clone(&self.stats));
        let end = match tls {
            None => Connection::new(socket, peer, limits.clone(), started, gate, stats).run().await,
            Some(tls) => {
                let accepted = timeout_at(deadline, tls.accept(socket)).await;
                let socket = accepted.map_err(|_| late("tls handshake"))?.map_err(protocol)?;
                Connection::new(socket, peer, limits.clone(), started, gate, stats).run().await
            }
        };
        Ok((peer, end))
    }

    fn log_end(&self, peer: SocketAddr, end: IngestEnd) {
        match end {
            IngestEnd::Unpublished => info!(%peer, "publisher ended"),
            IngestEnd::Disconnected => info!(%peer, "publisher disconnected"),
            IngestEnd::Refused(refusal) => {
                self.stats.count_refusal(refusal.reason);
                let (reason, detail) = (refusal.reason.as_str(), refusal.detail);
                warn!(%peer, reason, detail, "publisher refused");
            }
        }
    }
}

fn late(what: &str) -> Refusal {
    Refusal::with_detail(RefusalReason::Timeout, what)
}

fn protocol(error: impl std::fmt::Display) -> Refusal {
    Refusal::with_detail(RefusalReason::Protocol, error)
}
