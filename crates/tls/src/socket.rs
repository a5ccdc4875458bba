//! A TCP connection under TLS. TLS asks for 4 KB at a time, a system call each: what has come is taken in one go instead, into
//! room that all connections of a thread share. One that waits holds none of it.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most that is read at once, and that somebody holds who reads no further: two records of TLS.
const READ_BYTES: usize = 33 << 10;

thread_local! {
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// See the module's text.
#[derive(Debug)]
pub struct Socket {
    pub(crate) tcp: TcpStream,
    /// Read, and not asked for yet.
    ahead: Bytes,
}

impl Socket {
    pub(crate) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: Bytes::new() }
    }

    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ROOM.with_borrow_mut(|room| {
            // Costs nothing once what was read before has gone its way.
            room.reserve(READ_BYTES);
            let mut most = (&mut self.tcp).take(READ_BYTES as u64);
            ready!(pin!(most.read_buf(room)).poll(context))?;
            self.ahead = room.split().freeze();
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            ready!(this.poll_ahead(context))?;
        }
        let count = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead.split_to(count));
        if this.ahead.is_empty() {
            this.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn whoever_asks_for_little_at_a_time_gets_all_in_order_and_holds_no_room_then() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(listener.accept(), far);
        let (mut near, mut far) = (Socket::new(near.unwrap().0), far.unwrap());
        let sent: Vec<u8> = (0..3 * READ_BYTES).map(|at| (at / 7) as u8).collect();
        let send = async {
            far.write_all(&sent).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let receive = async {
            let (mut got, mut little) = (Vec::new(), [0; 1000]);
            loop {
                match near.read(&mut little).await.unwrap() {
                    0 => break got,
                    count => got.extend_from_slice(&little[..count]),
                }
            }
        };
        let ((), got) = tokio::join!(send, receive);
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        ROOM.with_borrow_mut(|room| {
            assert!(room.try_reclaim(READ_BYTES), "nobody holds the room");
        });
    }
}
