//! A connection of the farm under TLS that holds no room of its own: there is one for each stream, and most of the time nothing is
//! on its way. What is read, opened, sealed and written at once lies in rooms that all connections of a thread share; what has to
//! wait is copied into memory of its own size.
//!
//! ```text
//! socket ─▶ room, behind `rest` ─opened─▶ who reads; what it has no space for: `opened`
//!                └─ a record that is not whole yet: `rest`
//! slices ─▶ room ─sealed─▶ room ─▶ socket; what it does not take: `sealed`
//! ```
//! The protocol is rustls's, in the form in which it keeps no buffers: with its own, a connection held up to 20 KB of pieces that
//! came and went in odd sizes, and left holes.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ClientConfig, Error, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::session::{Session, Waiting, invalid};

/// The most that is read, or sealed, at once: some pictures.
const AT_ONCE_BYTES: usize = 128 << 10;
/// The longest record on the wire (RFC 8446, section 5.2): no less is read at once.
const RECORD_BYTES: usize = 5 + (16 << 10) + 256;
/// The most that waits for the rest of a message: a handshake with a long chain of certificates.
const REST_BYTES: usize = 64 << 10;
/// What sealing adds, and what the protocol says of its own.
const SEALS_BYTES: usize = 4 << 10;

thread_local! {
    static INCOMING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module's text.
#[derive(Debug)]
pub struct Secured {
    pub(crate) tcp: TcpStream,
    session: Session,
    waiting: Waiting,
}

impl Secured {
    /// The handshake of who connects.
    ///
    /// # Errors
    /// Those of the handshake, [`Error`] in an [`io::Error`], and of the connection.
    pub(crate) async fn connect(
        config: ClientConfig,
        name: ServerName<'static>,
        tcp: TcpStream,
    ) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(Arc::new(config), name);
        Self::shake_hands(Session::Client(session.map_err(invalid)?), tcp).await
    }

    /// The handshake of who listens.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn accept(config: ServerConfig, tcp: TcpStream) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(Arc::new(config));
        Self::shake_hands(Session::Server(session.map_err(invalid)?), tcp).await
    }

    async fn shake_hands(session: Session, tcp: TcpStream) -> io::Result<Self> {
        let mut this = Self { tcp, session, waiting: Waiting::default() };
        // Media may follow at once: it waits until somebody reads.
        let nobody = &mut ReadBuf::new(&mut []);
        this.take(&mut [], nobody)?;
        loop {
            poll_fn(|context| this.poll_send(context)).await?;
            if !this.session.is_handshaking() {
                return Ok(this);
            }
            let taken = poll_fn(|context| this.poll_take(context, &mut ReadBuf::new(&mut [])));
            taken.await?;
        }
    }

    /// What the peer has shown, its own first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.peer_certificates()
    }

    /// Reads what is there, and opens what is whole of it. Nothing follows: `is_over`.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        INCOMING.with_borrow_mut(|room| {
            room.resize(REST_BYTES + AT_ONCE_BYTES, 0);
            let kept = self.waiting.rest.len();
            room[..kept].copy_from_slice(&self.waiting.rest);
            let most = reader.remaining().clamp(RECORD_BYTES, AT_ONCE_BYTES);
            let mut space = ReadBuf::new(&mut room[kept..kept + most]);
            ready!(Pin::new(&mut self.tcp).poll_read(context, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                return Poll::Ready(Err(cut_off()));
            }
            Poll::Ready(self.take(&mut room[..kept + read], reader))
        })
    }

    /// Opens what is whole of `incoming`, and keeps the rest.
    fn take(&mut self, incoming: &mut [u8], reader: &mut ReadBuf<'_>) -> io::Result<()> {
        let (done, taken) = self.session.take(incoming, &mut self.waiting, reader);
        let rest = &incoming[done..];
        let is_too_long = || Error::General(format!("message of more than {REST_BYTES} bytes"));
        let taken = taken.and_then(|()| match rest.len() <= REST_BYTES {
            true => Ok(()),
            false => Err(is_too_long()),
        });
        taken.map_err(|error| {
            // The peer is told why, if its socket takes it at once.
            let _ = self.tcp.try_write(&self.waiting.sealed);
            self.waiting = Waiting::broken();
            invalid(error)
        })?;
        self.waiting.rest = rest.to_vec();
        Ok(())
    }

    fn is_usable(&self) -> io::Result<()> {
        match self.waiting.is_broken {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    /// Writes what waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.sealed.is_empty() {
            let written = Pin::new(&mut self.tcp).poll_write(context, &self.waiting.sealed);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.waiting.sealed = self.waiting.sealed[count..].to_vec(),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was just sealed, behind what the protocol had to say first; what the socket does not take waits.
    fn send(&mut self, context: &mut Context<'_>, sealed: &[u8]) -> io::Result<()> {
        let mut left = sealed;
        if self.waiting.sealed.is_empty()
            && let Poll::Ready(count) = Pin::new(&mut self.tcp).poll_write(context, sealed)?
        {
            left = &sealed[count..];
        }
        self.waiting.sealed.extend_from_slice(left);
        Ok(())
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_usable()?;
        let before = reader.filled().len();
        this.waiting.give_opened(reader);
        while reader.filled().len() == before && reader.remaining() > 0 && !this.waiting.is_over {
            ready!(this.poll_take(context, reader))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_usable()?;
        ready!(this.poll_send(context))?;
        PLAIN.with_borrow_mut(|room| {
            let plain = gathered(slices, room);
            SEALED.with_borrow_mut(|room| {
                room.resize(AT_ONCE_BYTES + SEALS_BYTES, 0);
                let count = this.session.seal(plain, room, &mut this.waiting)?;
                this.send(context, &room[..count])?;
                Poll::Ready(Ok(plain.len()))
            })
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.waiting.has_closed && !this.waiting.is_broken {
            this.waiting.has_closed = true;
            let mut last = [0; SEALS_BYTES];
            let count = this.session.close(&mut last, &mut this.waiting)?;
            this.send(context, &last[..count])?;
        }
        ready!(this.poll_send(context))?;
        match ready!(Pin::new(&mut this.tcp).poll_shutdown(context)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// As much of `slices` as is sealed at once, one behind the other: a record for each would cost more than the copy.
fn gathered<'a>(slices: &'a [IoSlice<'_>], room: &'a mut Vec<u8>) -> &'a [u8] {
    if let [only] = slices {
        return &only[..only.len().min(AT_ONCE_BYTES)];
    }
    room.clear();
    for slice in slices {
        let fits = slice.len().min(AT_ONCE_BYTES - room.len());
        room.extend_from_slice(&slice[..fits]);
    }
    room
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "cut off: the peer has not said that it closes")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{RootCertStore, crypto::ring, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Both sides' settings, and how the server is called.
    fn configs() -> (ClientConfig, ServerConfig, ServerName<'static>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["node".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        (client, server, "node".try_into().unwrap())
    }

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(listener.accept(), far);
        (near.unwrap().0, far.unwrap())
    }

    async fn pair() -> (Secured, Secured) {
        let ((near, far), (client, server, name)) = (sockets().await, configs());
        let (near, far) =
            tokio::join!(Secured::accept(server, near), Secured::connect(client, name, far));
        (near.unwrap(), far.unwrap())
    }

    fn media(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 7) as u8).collect()
    }

    /// Sends `sent` in slices of all sizes and closes; what arrives, asked for `at_once` bytes at a time.
    async fn carried(
        sent: &[u8],
        from: &mut (impl AsyncWrite + Unpin),
        to: &mut (impl AsyncRead + Unpin),
        at_once: usize,
    ) -> Vec<u8> {
        let send = async {
            let mut left = sent;
            while !left.is_empty() {
                let sizes = [1, 30, 5_000, 40_000, 300_000];
                let (mut slices, mut rest) = (Vec::new(), left);
                for size in sizes {
                    let (slice, more) = rest.split_at(rest.len().min(size));
                    (slices, rest) = ([slices, vec![IoSlice::new(slice)]].concat(), more);
                }
                let count = from.write_vectored(&slices).await.unwrap();
                left = &left[count..];
            }
            from.shutdown().await.unwrap();
        };
        let receive = async {
            let (mut got, mut some) = (Vec::new(), vec![0; at_once]);
            loop {
                match to.read(&mut some).await.unwrap() {
                    0 => break got,
                    count => got.extend_from_slice(&some[..count]),
                }
            }
        };
        tokio::join!(send, receive).1
    }

    #[tokio::test]
    async fn all_arrives_in_order_however_much_is_asked_for_and_nothing_is_held_then() {
        let sent = media(3 << 20);
        for at_once in [1_000, 20_000, 256 << 10] {
            let (mut near, mut far) = pair().await;
            assert!(carried(&sent, &mut near, &mut far, at_once).await == sent, "{at_once}");
            assert!(carried(&sent, &mut far, &mut near, at_once).await == sent, "and back");
            assert_eq!((near.waiting.held(), far.waiting.held()), (0, 0));
        }
    }

    #[tokio::test]
    async fn what_a_full_socket_does_not_take_waits_in_bounds() {
        let (mut near, mut far) = pair().await;
        let sent = media(64 << 20);
        let mut count = 0;
        let write = poll_fn(|context| {
            while let Poll::Ready(more) = Pin::new(&mut near).poll_write(context, &sent[count..]) {
                count += more.unwrap();
                assert!(near.waiting.held() <= AT_ONCE_BYTES + SEALS_BYTES);
            }
            Poll::Ready(())
        });
        write.await;
        assert!(count < sent.len(), "the socket never was full");
        let mut got = vec![0; count];
        let (read, flushed) = tokio::join!(far.read_exact(&mut got), near.flush());
        read.unwrap();
        flushed.unwrap();
        assert!(got == sent[..count]);
        assert_eq!((near.waiting.held(), far.waiting.held()), (0, 0));
    }

    #[tokio::test]
    async fn builds_that_keep_buffers_are_understood_on_either_side_and_when_they_change_keys() {
        let sent = media(1 << 20);
        let ((near, far), (client, server, name)) = (sockets().await, configs());
        let old = TlsConnector::from(Arc::new(client)).connect(name, far);
        let (near, old) = tokio::join!(Secured::accept(server, near), old);
        let (mut near, mut old) = (near.unwrap(), old.unwrap());
        old.write_all(b"before").await.unwrap();
        old.get_mut().1.refresh_traffic_keys().unwrap();
        let mut word = [0; 6];
        old.write_all(b" after").await.unwrap();
        near.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"before");
        near.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b" after");
        // Our keys change too, as we were asked.
        assert!(carried(&sent, &mut near, &mut old, 9_000).await == sent);
        assert!(carried(&sent, &mut old, &mut near, 9_000).await == sent);

        let ((near, far), (client, server, name)) = (sockets().await, configs());
        let old = TlsAcceptor::from(Arc::new(server)).accept(near);
        let (old, far) = tokio::join!(old, Secured::connect(client, name, far));
        let (mut old, mut far) = (old.unwrap(), far.unwrap());
        assert!(carried(&sent, &mut far, &mut old, 9_000).await == sent);
        assert!(carried(&sent, &mut old, &mut far, 9_000).await == sent);
    }

    #[tokio::test]
    async fn who_is_cut_off_or_hears_nonsense_is_told_apart_from_who_closes() {
        let (near, mut far) = pair().await;
        drop(near);
        let cut = far.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);

        let (mut near, mut far) = pair().await;
        near.tcp.write_all(&[23, 3, 3, 0, 40]).await.unwrap();
        near.tcp.write_all(&[7; 40]).await.unwrap();
        let forged = far.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(forged.kind(), io::ErrorKind::InvalidData);
        assert!(far.read(&mut [0; 10]).await.is_err() && far.write(&[1]).await.is_err());
        let told = near.read(&mut [0; 10]).await.unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");

        let (mut near, mut far) = pair().await;
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last");
        assert_eq!(far.read(&mut [0; 10]).await.unwrap(), 0, "and it stays so");
    }

    #[tokio::test]
    async fn a_handshake_with_no_end_is_broken_off() {
        let ((near, mut far), (_, server, _)) = (sockets().await, configs());
        let endless = tokio::spawn(async move {
            // A handshake message of 16 MiB that never becomes whole, in records of 16 KiB.
            let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF];
            record.resize(5 + (16 << 10), 0);
            while far.write_all(&record).await.is_ok() {
                record[5] = 0;
            }
        });
        let refused = Secured::accept(server, near).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
        endless.await.unwrap();
    }
}
