//! Hands media to sockets by reference: its pages go through a pipe into the packets (vmsplice(2), splice(2)), and are read
//! where they are when the network card, or the player on this host, gets them.
//!
//! Only what lies in slabs may go this way: it never changes ([`crate::slab`]). Each thread has one pipe, which is empty
//! between two calls: what a socket does not take is thrown out of it, and comes by it again when the socket has room.
#![allow(unsafe_code)] // vmsplice and splice have no safe wrapper here, and the first asks what slabs promise (ADR 28)

use std::{
    cell::Cell,
    fs::File,
    io::{self, IoSlice, PipeReader, PipeWriter, Write as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use millrace_telemetry::prometheus::IntCounter;
use nix::{
    fcntl::{FcntlArg::F_SETPIPE_SZ, fcntl},
    libc,
};

use crate::slab::Slabs;

/// Room for pages, each of which takes a place however little of it is used. The kernel gives a user of no rights 64 MiB of
/// this in all, and then pipes of 64 KiB, which do as well.
const PIPE_BYTES: i32 = 256 << 10;
/// The most that a pipe surely takes at once when it is empty.
const MAX_HEAD_BYTES: usize = 4096;

thread_local! {
    static EMPTY: Cell<Option<Pipe>> = const { Cell::new(None) };
}

/// A pipe, and where to throw what is left in it.
struct Pipe {
    from: PipeReader,
    into: PipeWriter,
    away: File,
}

/// What a socket took.
pub(crate) struct Passed {
    /// Bytes.
    pub(crate) sent: usize,
    /// It takes no more now.
    pub(crate) is_full: bool,
}

/// The way without a copy, unless the system refuses it.
#[derive(Debug)]
pub(crate) struct Pipes {
    refused: AtomicBool,
    sent_bytes: IntCounter,
}

impl Pipes {
    /// `sent_bytes` counts what goes this way.
    pub(crate) fn new(sent_bytes: IntCounter) -> Self {
        Self { refused: AtomicBool::new(false), sent_bytes }
    }

    /// Whether a body of these chunks goes this way.
    pub(crate) fn take<'a>(
        &self,
        slabs: &Slabs,
        mut chunks: impl Iterator<Item = &'a Bytes>,
    ) -> bool {
        !self.refused.load(Relaxed) && chunks.all(|chunk| slabs.hold(chunk))
    }

    /// Hands `socket`, which does not block, as much of `head` and then of `media`, all of it in slabs, as it takes. `None`
    /// when there is no pipe to be had, or the system refuses: nothing was sent.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn send(
        &self,
        socket: BorrowedFd<'_>,
        head: &[u8],
        media: &[IoSlice<'_>],
    ) -> io::Result<Option<Passed>> {
        let Ok(pipe) = EMPTY.take().map_or_else(Pipe::open, Ok) else { return Ok(None) };
        match pipe.pass(socket, head, media) {
            // Dropped with whatever is in it.
            Err(error) if is_refusal(&error) => {
                if !self.refused.swap(true, Relaxed) {
                    tracing::warn!(%error, "media is copied into connections: the system refuses splice");
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok((given, sent)) => {
                if sent == given || pipe.throw_away(given - sent).is_ok() {
                    EMPTY.set(Some(pipe));
                }
                self.sent_bytes.inc_by(sent.saturating_sub(head.len()) as u64);
                Ok(Some(Passed { sent, is_full: sent < given }))
            }
        }
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (from, into) = io::pipe()?;
        let _ = fcntl(&into, F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Self { from, into, away: File::options().write(true).open("/dev/null")? })
    }

    /// How many bytes it was given, and how many of them `socket` took: fewer only where it is full.
    fn pass(
        &self,
        socket: BorrowedFd<'_>,
        head: &[u8],
        media: &[IoSlice<'_>],
    ) -> io::Result<(usize, usize)> {
        if head.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut given = if head.is_empty() { 0 } else { (&self.into).write(head)? };
        given += refer(self.into.as_fd(), media)?;
        let mut sent = 0;
        while sent < given {
            match splice(self.from.as_fd(), socket, given - sent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Said again when the rest comes; what was taken was taken.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok((given, sent))
    }

    fn throw_away(&self, mut left: usize) -> io::Result<()> {
        while left > 0 {
            match splice(self.from.as_fd(), self.away.as_fd(), left)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                gone => left -= gone,
            }
        }
        Ok(())
    }
}

/// Whether an error is the system's, which will say the same again, and not the player's connection's.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Puts the pages of `media`, which lies in slabs, into a pipe: how many bytes.
fn refer(pipe: BorrowedFd<'_>, media: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK;
    // SAFETY: an `IoSlice` is an iovec; the kernel only reads what it names. It goes on reading after this call, as long
    // as packets hold the pages: nobody writes to them any more, see `slab`.
    count(unsafe { libc::vmsplice(pipe.as_raw_fd(), media.as_ptr().cast(), media.len(), flags) })
}

/// Moves up to `length` bytes out of a pipe, interrupted or not.
fn splice(pipe: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
    let (from, to, nowhere) = (pipe.as_raw_fd(), to.as_raw_fd(), ptr::null_mut());
    loop {
        let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
        // SAFETY: neither has a position.
        let moved = count(unsafe { libc::splice(from, nowhere, to, nowhere, length, flags) });
        if !moved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            return moved;
        }
    }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use millrace_telemetry::prometheus::IntGauge;

    use super::*;

    fn parts() -> (Slabs, Pipes, [Bytes; 2]) {
        let slabs = Slabs::new(IntGauge::new("kept", "Bytes.").unwrap());
        let parts = [1, 2].map(|byte| slabs.keep(&vec![byte; 100_000]));
        (slabs, Pipes::new(IntCounter::new("sent", "Bytes.").unwrap()), parts)
    }

    #[test]
    fn what_a_full_socket_leaves_in_the_pipe_goes_to_no_other() {
        let (slabs, pipes, [one, two]) = parts();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (full, other) = (connect(), connect());
        let (_unread, mut read) = (listener.accept().unwrap().0, listener.accept().unwrap().0);
        for socket in [&full, &other] {
            socket.set_nonblocking(true).unwrap();
        }
        assert!(pipes.take(&slabs, [&one, &two].into_iter()));
        while !pipes.send(full.as_fd(), b"", &[IoSlice::new(&one)]).unwrap().unwrap().is_full {}
        let passed = pipes.send(other.as_fd(), b"head", &[IoSlice::new(&two)]).unwrap().unwrap();
        let mut came = vec![0; passed.sent];
        read.read_exact(&mut came).unwrap();
        assert!(came.starts_with(b"head") && came.len() > 4);
        assert!(came[4..].iter().all(|byte| *byte == 2));
    }

    #[test]
    fn where_the_system_refuses_nothing_is_sent_and_media_is_copied_from_then_on() {
        let (slabs, pipes, [one, _]) = parts();
        let path = std::env::temp_dir().join(format!("millrace-pipe-{}", std::process::id()));
        // Splicing to the end of a file is EINVAL.
        let file = File::options().append(true).create(true).open(&path).unwrap();
        assert!(pipes.send(file.as_fd(), b"head", &[IoSlice::new(&one)]).unwrap().is_none());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(!pipes.take(&slabs, [&one].into_iter()));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_does_not_lie_in_slabs_is_not_referred_to() {
        let (slabs, pipes, [one, _]) = parts();
        let heap = Bytes::from(vec![0; 100_000]);
        assert!(!pipes.take(&slabs, [&one, &heap].into_iter()));
        assert!(!pipes.take(&slabs, [&Bytes::new()].into_iter()));
    }
}
