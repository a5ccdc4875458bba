//! The worker's end of its socket: accepts one daemon at a time, reads without waiting, writes until it is written.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use millrace_wire::{
    Decoder, Message,
    blocking::{read_message, write_message},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, getsockopt, recv, sockopt::PeerCredentials},
    unistd::Uid,
};

/// What came of listening to the daemon.
#[expect(clippy::large_enum_variant, reason = "one at a time, and looked at where it is returned")]
pub(crate) enum Heard {
    /// A message.
    Message(Message),
    /// None in the time given.
    Nothing,
    /// The connection is at its end.
    Gone,
}

/// The listening socket, and whoever is connected.
#[derive(Debug)]
pub(crate) struct Daemon {
    listener: UnixListener,
    /// Who may connect, besides root.
    owner: Uid,
    connection: Option<(UnixStream, Decoder)>,
}

impl Daemon {
    pub(crate) const fn new(listener: UnixListener, owner: Uid) -> Self {
        Self { listener, owner, connection: None }
    }

    /// Waits for a daemon of the right user; says whether one came.
    pub(crate) fn accept(&mut self, wait: Duration) -> io::Result<bool> {
        self.connection = None;
        while readable(&self.listener, wait)? {
            let (stream, _) = self.listener.accept()?;
            let peer = Uid::from_raw(getsockopt(&stream, PeerCredentials)?.uid());
            if peer == self.owner || peer.is_root() {
                self.connection = Some((stream, Decoder::default()));
                return Ok(true);
            }
            tracing::warn!(uid = peer.as_raw(), "a stranger on the worker's socket");
        }
        Ok(false)
    }

    /// The next message, waited for if there is none yet.
    ///
    /// # Errors
    /// Bytes that cannot be understood.
    pub(crate) fn hear(&mut self, wait: Duration) -> io::Result<Heard> {
        let Some((stream, decoder)) = &mut self.connection else { return Ok(Heard::Gone) };
        let mut waited = false;
        loop {
            match read_message(&mut NoWait(stream), decoder) {
                Ok(Some(message)) => return Ok(Heard::Message(message)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if waited || !readable(stream, wait)? {
                        return Ok(Heard::Nothing);
                    }
                    waited = true;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                Ok(None) | Err(_) => return Ok(Heard::Gone),
            }
        }
    }

    /// Says something; lost if the daemon is gone, which [`Daemon::hear`] will then tell.
    pub(crate) fn say(&mut self, message: &Message) {
        let Some((stream, _)) = &mut self.connection else { return };
        if let Err(error) = write_message(stream, message) {
            tracing::warn!(%error, "the daemon does not listen");
            self.connection = None;
        }
    }
}

/// Reads what is there, and reports `WouldBlock` when nothing is.
struct NoWait<'a>(&'a UnixStream);

impl Read for NoWait<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}

/// Waits until there is something to read or to accept; says whether there is.
fn readable(socket: &impl AsFd, wait: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
