//! Where programs of the farm connect: makes the handshake, knows who it is, and turns everybody else away.
//!
//! What a stranger can take: a handshake's time, one of a bounded number of places. What it is told: our own certificate,
//! which TLS shows to anybody, and an alert.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tracing::warn;

use crate::{FarmStream, FarmTls, Identity, Role, farm::told, refusal::PeerRefusal};

/// A handshake may take so long.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Handshakes at a time; beyond it connections are closed at once.
const MAX_HANDSHAKES: usize = 512;
/// Pause after a connection could not be accepted: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first byte of a TLS connection (RFC 8446, section 5.1: handshake).
const TLS_HANDSHAKE: u8 = 22;

/// Who has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Who it is, by its certificate; `None` without TLS.
    pub identity: Option<Identity>,
}

impl Peer {
    /// Whether it is of one of these roles, or without TLS on this host.
    pub fn is_one_of(&self, roles: &[Role]) -> bool {
        match &self.identity {
            Some(identity) => roles.contains(&identity.role),
            None => self.address.ip().to_canonical().is_loopback(),
        }
    }
}

/// Who may connect to a listener of a farm with TLS.
#[derive(Clone, Debug)]
pub struct Gate {
    /// This program's certificate.
    pub tls: Arc<FarmTls>,
    /// Who may connect.
    pub roles: &'static [Role],
    /// What the listener is for, in the log.
    pub listener: &'static str,
    /// Whether this host itself may connect without TLS.
    pub plain_from_here: bool,
}

/// Looks at who has connected, and lets in who may.
pub trait Admit: Clone + Send + 'static {
    /// Makes the handshake; `None` for who was turned away.
    fn admit(
        self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> impl Future<Output = Option<(FarmStream, Peer)>> + Send;

    /// Somebody was turned away unseen, since too many others are being looked at.
    fn busy(&self, address: SocketAddr);
}

/// A listener for programs of the farm, or for [anybody](crate::PublicGate); without a gate it takes whoever comes, in plain TCP.
#[derive(Debug)]
pub struct FarmListener<G = Gate> {
    tcp: TcpListener,
    gate: Option<G>,
    handshakes: JoinSet<Option<(FarmStream, Peer)>>,
}

impl<G: Admit> FarmListener<G> {
    /// Listens on.
    pub fn new(tcp: TcpListener, gate: Option<G>) -> Self {
        Self { tcp, gate, handshakes: JoinSet::new() }
    }

    /// The next connection of somebody who may. Cancel-safe.
    pub async fn accept(&mut self) -> (FarmStream, Peer) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((tcp, address)) => {
                        // An open socket takes the option; without it only delays grow.
                        let _ = tcp.set_nodelay(true);
                        let Some(gate) = self.gate.clone() else {
                            return (FarmStream::Plain(tcp), Peer { address, identity: None });
                        };
                        match self.handshakes.len() < MAX_HANDSHAKES {
                            true => drop(self.handshakes.spawn(gate.admit(tcp, address))),
                            false => gate.busy(address),
                        }
                    }
                    Err(error) => {
                        warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

impl Admit for Gate {
    async fn admit(self, tcp: TcpStream, address: SocketAddr) -> Option<(FarmStream, Peer)> {
        let here = self.plain_from_here && address.ip().to_canonical().is_loopback();
        let look = async {
            if here && speaks_plain(&tcp).await? {
                return Ok((FarmStream::Plain(tcp), None));
            }
            let (stream, identity) = self.tls.accept(tcp, self.roles).await?;
            Ok::<_, io::Error>((stream, Some(identity)))
        };
        match timeout(HANDSHAKE_TIMEOUT, look).await {
            Ok(Ok((stream, identity))) => Some((stream, Peer { address, identity })),
            Ok(Err(error)) => {
                self.refuse(address, PeerRefusal::of(&error), &told(&error));
                None
            }
            Err(_) => {
                self.refuse(address, PeerRefusal::Late, "");
                None
            }
        }
    }

    fn busy(&self, address: SocketAddr) {
        self.refuse(address, PeerRefusal::Busy, "");
    }
}

impl Gate {
    fn refuse(&self, address: SocketAddr, why: PeerRefusal, detail: &str) {
        self.tls.refusals().say(self.listener, address, why, detail);
    }
}

/// Whether the first byte is not one of TLS; waits for it.
pub(crate) async fn speaks_plain(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [TLS_HANDSHAKE];
    tcp.peek(&mut first).await?;
    Ok(first[0] != TLS_HANDSHAKE)
}

impl<G: Admit> Listener for FarmListener<G> {
    type Io = FarmStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (FarmStream, Peer) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.tcp.local_addr()?, identity: None })
    }
}

impl<G: Admit> Connected<IncomingStream<'_, FarmListener<G>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, FarmListener<G>>) -> Self {
        stream.remote_addr().clone()
    }
}
