//! A TCP proxy on loopback whose two directions can be delayed or held, and whose connections can be reset: a network
//! that fails on command. Bytes are never changed or lost inside a connection, as TCP promises; what a reset finds
//! on its way is lost. Holds at most 1 MiB per direction and connection, then presses back.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

/// Bytes read at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way per direction.
const PIECES: usize = 64;

/// What happens to bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They pass at once.
    #[default]
    Passing,
    /// Each passes so much later.
    Delayed(Duration),
    /// None passes, while the connection stands: a cut cable. Those held pass when the flow changes.
    Held,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// From the connecting side to the target.
    pub to_target: Flow,
    /// Back.
    pub from_target: Flow,
    /// New connections are reset at once.
    pub refusing: bool,
}

/// The proxy; gone with all its connections when dropped.
#[derive(Debug)]
pub struct FaultyLink {
    address: SocketAddr,
    state: watch::Sender<LinkState>,
    resets: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl FaultyLink {
    /// Listens on a free loopback port and passes connections on to `target`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (state, watching) = watch::channel(LinkState::default());
        let (resets, resetting) = watch::channel(0);
        let task = tokio::spawn(accept(listener, target, watching, resetting));
        Ok(Self { address, state, resets, task })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link is so.
    pub fn set(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    /// Resets every connection that stands now, at both ends.
    pub fn reset_all(&self) {
        self.resets.send_modify(|count| *count += 1);
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<LinkState>,
    resets: watch::Receiver<u64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if state.borrow().refusing {
            // An abortive close, as a port without a listener answers.
            let _ = client.set_zero_linger();
            continue;
        }
        connections.spawn(connect(client, target, state.clone(), resets.clone()));
    }
}

/// One connection from its beginning to its end; an error in either direction ends it.
async fn connect(
    mut client: TcpStream,
    target: SocketAddr,
    state: watch::Receiver<LinkState>,
    mut resets: watch::Receiver<u64>,
) -> io::Result<()> {
    resets.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, state.clone(), |state| state.to_target);
        let down = pump(from_server, to_client, state, |state| state.from_target);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
            _ = resets.changed() => false,
        }
    };
    if !ended {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Passes bytes on until the sender ends, and then the end itself.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<LinkState>,
    flow: impl Fn(&LinkState) -> Flow,
) -> io::Result<()> {
    let (send, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let length = from.read(&mut piece).await?;
            piece.truncate(length);
            if send.send((Instant::now(), piece)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((came, piece)) = pieces.recv().await {
            let open = |state: &LinkState| flow(state) != Flow::Held;
            let Ok(now) = state.wait_for(open).await.map(|state| flow(&state)) else { break };
            if let Flow::Delayed(by) = now {
                tokio::time::sleep_until((came + by).into()).await;
            }
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link to a server that echoes, and a connection through it.
    async fn echo() -> (FaultyLink, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let target = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = connection.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let link = FaultyLink::start(target).await.expect("link");
        let connection = TcpStream::connect(link.address()).await.expect("connect");
        (link, connection)
    }

    async fn round_trip(connection: &mut TcpStream) -> io::Result<Duration> {
        let began = Instant::now();
        connection.write_all(b"ping").await?;
        connection.read_exact(&mut [0; 4]).await?;
        Ok(began.elapsed())
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_in_both_directions_and_so_does_the_end() {
        let (_link, mut connection) = echo().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut got = Vec::new();
        let (mut from, mut to) = connection.split();
        let send = async {
            to.write_all(&sent).await?;
            to.shutdown().await
        };
        tokio::try_join!(send, from.read_to_end(&mut got)).expect("both ways");
        assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    }

    #[tokio::test]
    async fn a_delay_is_paid_in_its_direction() {
        let (link, mut connection) = echo().await;
        let by = Duration::from_millis(80);
        link.set(LinkState { from_target: Flow::Delayed(by), ..Default::default() });
        let took = round_trip(&mut connection).await.expect("passes");
        assert!(took >= by && took < by * 10, "{took:?}");
    }

    #[tokio::test]
    async fn held_bytes_pass_when_the_link_heals() {
        let (link, mut connection) = echo().await;
        link.set(LinkState { to_target: Flow::Held, ..Default::default() });
        let wait = Duration::from_millis(100);
        let held = tokio::time::timeout(wait, round_trip(&mut connection)).await;
        held.expect_err("nothing passes");
        link.set(LinkState::default());
        connection.read_exact(&mut [0; 4]).await.expect("the held bytes");
        round_trip(&mut connection).await.expect("passes again");
    }

    #[tokio::test]
    async fn a_reset_ends_standing_connections_and_refusing_ends_new_ones() {
        let (link, mut connection) = echo().await;
        round_trip(&mut connection).await.expect("passes");
        link.reset_all();
        let error = connection.read(&mut [0; 4]).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let mut again = TcpStream::connect(link.address()).await.expect("connect");
        round_trip(&mut again).await.expect("a new connection passes");
        link.set(LinkState { refusing: true, ..Default::default() });
        let mut refused = TcpStream::connect(link.address()).await.expect("connect");
        round_trip(&mut refused).await.expect_err("refused");
    }
}
