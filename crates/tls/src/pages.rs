//! HTTP for who looks after the farm: the API and the admin pages. However many connect and say nothing, a listener holds a bounded
//! number of connections, each for a bounded time, and this host has places of its own.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::body::Incoming;
use millrace_telemetry::{
    Clock as _, ConnectionLimit, LineLimit, Place, SystemClock, files_for_pages,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::warn;

use crate::{Admit, FarmListener, FarmStream, Peer, serve_http};

/// A connection on which nothing happens for so long ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long running answers may take once the program stops.
const GRACE: Duration = Duration::from_secs(1);

/// Serves `pages` until `stop`, then lets running answers finish for up to a second. Handlers find the [`Peer`] in their
/// `ConnectInfo`.
pub async fn serve_pages<G: Admit>(
    name: &'static str,
    listener: FarmListener<G>,
    pages: Router,
    stop: CancellationToken,
) {
    bounded(Seats::new(name, files_for_pages()), PATIENCE, listener, pages, stop).await;
}

async fn bounded<G: Admit>(
    mut seats: Seats,
    patience: Duration,
    mut listener: FarmListener<G>,
    pages: Router,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, peer) = listener.accept() => {
                if let Some(seat) = seats.take(&peer) {
                    let serving = serve(stream, pages.clone(), peer, patience, stop.clone());
                    connections.spawn(async move { (serving.await, drop(seat)).0 });
                }
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(GRACE, ended).await;
}

async fn serve(
    stream: FarmStream,
    pages: Router,
    peer: Peer,
    patience: Duration,
    stop: CancellationToken,
) {
    let answer = move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        let answer = pages.clone().call(request);
        async { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
    };
    serve_http(stream, answer, patience, stop).await;
}

/// The places at one listener: half for this host, half for all others, of which no address has more than half.
struct Seats {
    name: &'static str,
    half: usize,
    here: Arc<ConnectionLimit>,
    others: Arc<ConnectionLimit>,
    clock: SystemClock,
    lines: LineLimit,
}

impl Seats {
    fn new(name: &'static str, most: usize) -> Self {
        let (here, others) = (Arc::default(), Arc::default());
        let (clock, lines) = (SystemClock::new(), LineLimit::default());
        Self { name, half: most / 2, here, others, clock, lines }
    }

    /// A place for `peer`; without one a line says so, not for each.
    fn take(&mut self, peer: &Peer) -> Option<Place> {
        let address: IpAddr = peer.address.ip().to_canonical();
        let place = match address.is_loopback() {
            true => self.here.enter(address, self.half, self.half),
            false => self.others.enter(address, self.half, self.half / 2),
        };
        if place.is_none()
            && let Some(left_out) = self.lines.admit(self.clock.mono())
        {
            let (listener, most) = (self.name, self.half);
            let left_out = (left_out > 0).then_some(left_out);
            warn!(listener, peer = %peer.address, most, left_out, "connection turned away: all places are taken");
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::Gate;

    const SOON: Duration = Duration::from_secs(10);

    /// A listener with one place for this host, and a page of 16 MB.
    async fn one_place() -> std::net::SocketAddr {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let pages = Router::new().route("/", get(|| async { "many words ".repeat(1 << 20) }));
        let listener = FarmListener::<Gate>::new(tcp, None);
        let patience = Duration::from_millis(300);
        let stop = CancellationToken::new();
        tokio::spawn(bounded(Seats::new("api", 2), patience, listener, pages, stop));
        address
    }

    /// The first byte of the answer to who asks for the page once there is a place.
    async fn first_byte(address: std::net::SocketAddr) -> u8 {
        let asking = async {
            loop {
                let mut socket = TcpStream::connect(address).await.unwrap();
                let asked = socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                if let (Ok(()), Ok(byte)) = (asked, socket.read_u8().await) {
                    return byte;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, asking).await.expect("a place becomes free")
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_head_or_takes_no_answer_loses_its_place() {
        let begun_http2 = ["PRI * HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
        let asked = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for begun in ["", "GET / HTTP/1.1\r\nho", asked].into_iter().chain(begun_http2) {
            let address = one_place().await;
            let mut idle = TcpStream::connect(address).await.unwrap();
            idle.write_all(begun.as_bytes()).await.unwrap();
            assert_eq!(first_byte(address).await, b'H', "after {begun:?}");
        }
    }

    #[test]
    fn however_many_strangers_connect_this_host_has_its_places() {
        let mut seats = Seats::new("api", 8);
        let mut take = |address: &str| {
            let address = address.parse().unwrap();
            seats.take(&Peer { address, identity: None })
        };
        let two = [take("192.0.2.1:1").unwrap(), take("192.0.2.1:2").unwrap()];
        assert!(take("192.0.2.1:3").is_none(), "no address has all");
        let others = [take("192.0.2.2:1").unwrap(), take("192.0.2.3:1").unwrap()];
        assert!(take("192.0.2.4:1").is_none(), "all places of others are taken");
        let here: Vec<_> = (1..=4).map(|_| take("[::ffff:127.0.0.1]:9").unwrap()).collect();
        assert!(take("127.0.0.1:9").is_none());
        drop((two, others, here));
        assert!(take("192.0.2.4:1").is_some() && take("127.0.0.1:9").is_some());
    }
}
