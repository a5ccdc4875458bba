//! The two sides of TLS in the form in which rustls keeps no buffers, and what a connection keeps in their place.

use std::io;

use rustls::{
    CommonState, Error,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::CertificateDer,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
        WriteTraffic,
    },
};
use tokio::io::ReadBuf;

/// One side.
pub(crate) enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Memory of a connection's own: empty most of the time.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Read, and not whole yet.
    pub(crate) rest: Vec<u8>,
    /// Opened, and not asked for yet.
    opened: Vec<u8>,
    /// So much of it is gone.
    given: usize,
    /// Sealed, and not written yet.
    pub(crate) sealed: Vec<u8>,
    /// The peer has said that nothing follows.
    pub(crate) is_over: bool,
    /// So have we.
    pub(crate) has_closed: bool,
    /// What the peer has sent cannot be.
    pub(crate) is_broken: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

impl Session {
    fn common(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.common().peer_certificates()
    }

    /// Takes what has come, what was kept of it before included: how much of it is done with. What it opens is for `reader`, and
    /// waits where that has no space; what it has to say waits.
    pub(crate) fn take(
        &mut self,
        incoming: &mut [u8],
        waiting: &mut Waiting,
        reader: &mut ReadBuf<'_>,
    ) -> (usize, Result<(), Error>) {
        match self {
            Self::Client(client) => take(client, incoming, waiting, reader),
            Self::Server(server) => take(server, incoming, waiting, reader),
        }
    }

    /// Seals `plain` into `room`: how many bytes it became. What the protocol has to say before it waits.
    ///
    /// # Errors
    /// The connection is of no use any more; `room` is too small.
    pub(crate) fn seal(
        &mut self,
        plain: &[u8],
        room: &mut [u8],
        waiting: &mut Waiting,
    ) -> io::Result<usize> {
        match self {
            Self::Client(client) => open(client, waiting, |mut open| open.encrypt(plain, room)),
            Self::Server(server) => open(server, waiting, |mut open| open.encrypt(plain, room)),
        }
    }

    /// Says that nothing follows, into `room`: how many bytes it became.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn close(&mut self, room: &mut [u8], waiting: &mut Waiting) -> io::Result<usize> {
        match self {
            Self::Client(client) => open(client, waiting, |mut open| open.queue_close_notify(room)),
            Self::Server(server) => open(server, waiting, |mut open| open.queue_close_notify(room)),
        }
    }
}

impl Waiting {
    /// Of a connection that is of no use any more.
    pub(crate) fn broken() -> Self {
        Self { is_broken: true, ..Self::default() }
    }

    fn take_opened(&mut self, bytes: &[u8], reader: &mut ReadBuf<'_>) {
        let space = if self.opened.is_empty() { reader.remaining() } else { 0 };
        let (now, later) = bytes.split_at(bytes.len().min(space));
        reader.put_slice(now);
        self.opened.extend_from_slice(later);
    }

    /// Hands out what was opened before.
    pub(crate) fn give_opened(&mut self, reader: &mut ReadBuf<'_>) {
        let left = &self.opened[self.given..];
        let count = left.len().min(reader.remaining());
        reader.put_slice(&left[..count]);
        self.given += count;
        if self.given == self.opened.len() {
            (self.opened, self.given) = (Vec::new(), 0);
        }
    }

    fn take_said<D>(&mut self, mut said: EncodeTlsData<'_, D>) {
        // It says how long it is to who has no room.
        let Err(EncodeError::InsufficientSize(missing)) = said.encode(&mut []) else { return };
        let before = self.sealed.len();
        self.sealed.resize(before + missing.required_size, 0);
        let written = said.encode(&mut self.sealed[before..]);
        self.sealed.truncate(before + written.unwrap_or(0));
    }

    /// All that this connection holds, bytes.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.rest.capacity() + self.opened.capacity() + self.sealed.capacity()
    }
}

/// What both sides have.
trait Side {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn has_to_say(&self) -> bool;
}

/// Rustls names neither side by what both have.
macro_rules! side {
    ($connection:ty, $data:ty) => {
        impl Side for $connection {
            type Data = $data;

            fn process<'c, 'i>(
                &'c mut self,
                incoming: &'i mut [u8],
            ) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(incoming)
            }

            fn has_to_say(&self) -> bool {
                self.wants_write()
            }
        }
    };
}

side!(UnbufferedClientConnection, ClientConnectionData);
side!(UnbufferedServerConnection, ServerConnectionData);

/// What a session has come to.
enum Step<'c, D> {
    /// It may have more to say.
    Next,
    /// It waits for the peer, or is over.
    Blocked,
    /// It waits for whoever comes first.
    Open(WriteTraffic<'c, D>),
}

fn step<'c, D>(
    status: UnbufferedStatus<'c, '_, D>,
    done: &mut usize,
    waiting: &mut Waiting,
    reader: &mut ReadBuf<'_>,
) -> Result<Step<'c, D>, Error> {
    *done += status.discard;
    Ok(match status.state? {
        ConnectionState::ReadTraffic(mut records) => {
            while let Some(record) = records.next_record() {
                let AppDataRecord { discard, payload, .. } = record?;
                *done += discard;
                waiting.take_opened(payload, reader);
            }
            Step::Next
        }
        ConnectionState::EncodeTlsData(said) => {
            waiting.take_said(said);
            Step::Next
        }
        ConnectionState::TransmitTlsData(said) => {
            // It lies before all that follows.
            said.done();
            Step::Next
        }
        ConnectionState::PeerClosed => {
            waiting.is_over = true;
            Step::Next
        }
        ConnectionState::WriteTraffic(open) => Step::Open(open),
        // Early data is not asked for.
        _ => Step::Blocked,
    })
}

fn take(
    side: &mut impl Side,
    incoming: &mut [u8],
    waiting: &mut Waiting,
    reader: &mut ReadBuf<'_>,
) -> (usize, Result<(), Error>) {
    let mut done = 0;
    let error = loop {
        let status = side.process(&mut incoming[done..]);
        match step(status, &mut done, waiting, reader) {
            Ok(Step::Next) => {}
            Ok(Step::Blocked | Step::Open(_)) => return (done, Ok(())),
            Err(error) => break error,
        }
    };
    // What the peer is told about it; asked for more, it would look at the same again.
    while side.has_to_say()
        && let Ok(Step::Next) =
            step(side.process(&mut incoming[done..]), &mut done, waiting, reader)
    {}
    (done, Err(error))
}

/// Has `write` done where `side` may write.
fn open<S: Side, T>(
    side: &mut S,
    waiting: &mut Waiting,
    write: impl FnOnce(WriteTraffic<'_, S::Data>) -> Result<T, EncryptError>,
) -> io::Result<T> {
    // A message that is not whole yet is looked at each time.
    let mut rest = std::mem::take(&mut waiting.rest);
    let (mut done, nobody) = (0, &mut ReadBuf::new(&mut []));
    let written = loop {
        let status = side.process(&mut rest[done..]);
        match step(status, &mut done, waiting, nobody) {
            Ok(Step::Next) => {}
            Ok(Step::Open(open)) => break write(open).map_err(io::Error::other),
            Ok(Step::Blocked) => break Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => break Err(invalid(error)),
        }
    };
    rest.drain(..done);
    waiting.rest = rest;
    written
}

/// As rustls's errors come to whoever reads or writes.
pub(crate) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
