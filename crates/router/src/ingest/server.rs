//! Accepts publishers on RTMP and RTMPS, each in a task of its own: a panic there loses that connection and is
//! counted, nothing else.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use millrace_telemetry::{ConnectionLimit, Hurry, RelayThreads};
use millrace_types::RefusalReason;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Duration, Instant, sleep, timeout_at},
};
use tokio_rustls::{TlsAcceptor, rustls};
use tracing::error;

use super::{
    Gate, IngestEnd, IngestMetrics, Limits, Network, Refusal, connection::Connection,
    end_log::EndLog, proxy_protocol,
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
    /// Where publishers' connections, and with them their sessions, run.
    pub threads: RelayThreads,
}

/// The ingest of one router: any number of listeners that share limits and counters.
#[derive(Debug)]
pub struct IngestServer<G> {
    proxies: Arc<[Network]>,
    threads: RelayThreads,
    limits: Arc<RwLock<Arc<Limits>>>,
    gate: Arc<G>,
    stats: IngestMetrics,
    places: Arc<ConnectionLimit>,
    said: Arc<EndLog>,
}

impl<G> Clone for IngestServer<G> {
    fn clone(&self) -> Self {
        Self {
            proxies: Arc::clone(&self.proxies),
            threads: self.threads.clone(),
            limits: Arc::clone(&self.limits),
            gate: Arc::clone(&self.gate),
            stats: self.stats.clone(),
            places: Arc::clone(&self.places),
            said: Arc::clone(&self.said),
        }
    }
}

impl<G: Gate> IngestServer<G> {
    /// An ingest without listeners.
    pub fn new(config: IngestConfig, gate: Arc<G>, stats: IngestMetrics) -> Self {
        let limits = Arc::new(RwLock::new(Arc::new(config.limits)));
        Self {
            proxies: config.proxies.into(),
            threads: config.threads,
            limits,
            gate,
            stats,
            places: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Bounds for every connection from now on; those that are open keep theirs.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
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
                        self.stats.connections.inc();
                        let (runtime, hurry) = self.threads.next();
                        let run = self.clone().connection(socket, peer, tls.clone(), hurry);
                        connections.spawn_on(run, &runtime);
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
            self.stats.panicked.inc();
            error!(%error, "publisher's connection lost to a bug");
        }
    }

    /// One connection from accept to close.
    async fn connection(
        self,
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<TlsAcceptor>,
        hurry: Hurry,
    ) {
        match self.run_connection(socket, peer, tls, hurry).await {
            Ok((peer, end)) => self.log_end(peer, end),
            Err(refusal) => self.log_end(peer, IngestEnd::Refused(refusal)),
        }
    }

    async fn run_connection(
        &self,
        socket: TcpStream,
        mut peer: SocketAddr,
        tls: Option<TlsAcceptor>,
        hurry: Hurry,
    ) -> Result<(SocketAddr, IngestEnd), Refusal> {
        let started = Instant::now();
        // It was accepted on another thread, perhaps.
        let mut socket =
            TcpStream::from_std(socket.into_std().map_err(protocol)?).map_err(protocol)?;
        let limits = self.limits();
        let deadline = started + limits.handshake;
        if self.proxies.iter().any(|network| network.contains(peer.ip())) {
            let header = Box::pin(proxy_protocol::read_header(&mut socket));
            let read = timeout_at(deadline, header).await;
            let header = read.map_err(|_| late("proxy header"))?;
            let source = header.map_err(protocol)?;
            peer = source.unwrap_or(peer);
        }
        let limit = || Refusal::from(RefusalReason::ConnectionLimit);
        let Limits { connections, connections_per_address, .. } = *limits;
        let place = self.places.enter(peer.ip(), connections, connections_per_address);
        let _place = place.ok_or_else(limit)?;
        // Answers are small and awaited; the option cannot fail on an open socket in a way that matters.
        drop(socket.set_nodelay(true));
        let (gate, stats) = (Arc::clone(&self.gate), self.stats.clone());
        let end = match tls {
            None => {
                let connection =
                    Connection::new(socket, peer, (*limits).clone(), started, gate, stats);
                connection.run(hurry).await
            }
            Some(tls) => {
                let accepted = timeout_at(deadline, Box::pin(tls.accept(socket))).await;
                let socket = accepted.map_err(|_| late("tls handshake"))?.map_err(protocol)?;
                let connection =
                    Connection::new(socket, peer, (*limits).clone(), started, gate, stats);
                connection.run(hurry).await
            }
        };
        Ok((peer, end))
    }

    fn log_end(&self, peer: SocketAddr, end: IngestEnd) {
        if let IngestEnd::Refused(refusal) = &end {
            self.stats.count_refusal(refusal.reason);
        }
        self.said.say(peer, end);
    }
}

fn late(what: &str) -> Refusal {
    Refusal::with_detail(RefusalReason::Timeout, what)
}

fn protocol(error: impl std::fmt::Display) -> Refusal {
    Refusal::with_detail(RefusalReason::Protocol, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Sessions;

    /// What a task takes that runs it.
    fn bytes_of<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connections_task_has_no_room_for_what_it_does_once() {
        let connection = size_of::<Connection<TcpStream, Sessions>>();
        let task = bytes_of(IngestServer::<Sessions>::connection);
        assert!(connection <= 4 << 10, "connection: {connection} bytes");
        assert!(task <= 4 << 10, "its task: {task} bytes");
    }
}
