//! What can go wrong while publishing.

use std::io;

/// Publishing did not begin or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not `rtmp://host[:port]/app`.
    #[error("{0:?} is not of the form rtmp://host[:port]/app")]
    Url(String),
    /// No connection, or a broken one.
    #[error("connection to {address}: {why}")]
    Io {
        /// Host and port.
        address: String,
        /// What the system said.
        why: io::Error,
    },
    /// The server closed the connection without a reason.
    #[error("{address} closed the connection")]
    Closed {
        /// Host and port.
        address: String,
    },
    /// The server has not answered in time.
    #[error("{address} has not let us publish within {seconds} s")]
    Late {
        /// Host and port.
        address: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The server said no.
    #[error("{code}: {text}")]
    Refused {
        /// RTMP's status code, such as `NetStream.Publish.BadName`.
        code: String,
        /// The server's own words.
        text: String,
    },
    /// The server broke the protocol, or a message cannot be sent in it.
    #[error("rtmp: {0}")]
    Protocol(String),
}
