//! One address before several servers, as an anycast address or a DNS name is: each connection goes to the first server that
//! takes it. Moves bytes; knows no protocol.

use std::{io, net::SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The front; no new connection is taken once it is dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    /// Listens on a free loopback port, before `servers`, the first of which is tried first.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(servers: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, servers.clone()));
            }
        });
        Ok(Self { address, task })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, servers: Vec<SocketAddr>) {
    for server in servers {
        if let Ok(mut connection) = TcpStream::connect(server).await {
            let _ = copy_bidirectional(&mut client, &mut connection).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_goes_to_the_next_server_when_the_first_is_dead() {
        let dead = TcpListener::bind(("127.0.0.1", 0)).await.expect("port");
        let living = TcpListener::bind(("127.0.0.1", 0)).await.expect("port");
        let servers =
            vec![dead.local_addr().expect("address"), living.local_addr().expect("address")];
        drop(dead);
        let front = Front::start(servers).await.expect("front");
        let answering = async {
            let (mut socket, _) = living.accept().await.expect("connection");
            socket.write_all(b"here").await.expect("written");
        };
        let asking = async {
            let mut socket = TcpStream::connect(front.address()).await.expect("connection");
            let mut text = [0; 4];
            socket.read_exact(&mut text).await.expect("text");
            text
        };
        let ((), text) = tokio::join!(answering, asking);
        assert_eq!(&text, b"here");
    }
}
