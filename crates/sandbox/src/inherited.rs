//! The one descriptor that a worker inherits: a listening Unix socket, on which it accepts its daemon and the next one.
#![allow(unsafe_code)] // a descriptor that came by number has no owner yet

use std::{
    os::{
        fd::{BorrowedFd, FromRawFd, RawFd},
        unix::net::UnixListener,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt::AcceptConn},
};

/// The number of the listening socket in a worker.
pub const LISTENER_FD: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Descriptor 3 is not what a node passes on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InheritedError {
    /// There is no socket.
    #[error("descriptor {LISTENER_FD} is no socket: a worker is started by its node ({0})")]
    NoSocket(Errno),
    /// A socket, but nobody can connect to it.
    #[error("descriptor {LISTENER_FD} is a socket that does not listen")]
    NotListening,
    /// It has an owner already.
    #[error("descriptor {LISTENER_FD} was taken before")]
    Taken,
}

/// Takes ownership of the listening socket, once in a process's life. It blocks, unless told otherwise.
///
/// # Errors
/// Descriptor 3 is no listening socket, or was taken before.
pub fn inherited_listener() -> Result<UnixListener, InheritedError> {
    // SAFETY: the borrow ends with this function; a descriptor that is not open makes getsockopt fail with EBADF.
    let socket = unsafe { BorrowedFd::borrow_raw(LISTENER_FD) };
    if !getsockopt(&socket, AcceptConn).map_err(InheritedError::NoSocket)? {
        return Err(InheritedError::NotListening);
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(InheritedError::Taken);
    }
    // SAFETY: 3 is an open socket that the parent left to us, and TAKEN makes this its only owner.
    Ok(unsafe { UnixListener::from_raw_fd(LISTENER_FD) })
}
