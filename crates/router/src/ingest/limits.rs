//! Everything a stranger can make us spend, with its bound. Decides the defaults; enforces nothing itself.

use std::time::Duration;

/// Bounds of one ingest. Each breach ends the connection with a [`millrace_types::RefusalReason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// RTMP application that may be published to.
    pub app: String,
    /// From accept to the end of TLS and RTMP handshake.
    pub handshake: Duration,
    /// From accept to the `publish` command.
    pub unauthenticated: Duration,
    /// From the `publish` command to the farm's decision.
    pub decision: Duration,
    /// Longest silence, without video or audio, of an accepted publisher.
    pub idle: Duration,
    /// Longest time one write to the publisher may block.
    pub write: Duration,
    /// Bytes taken before the publisher is accepted, handshake included.
    pub unauthenticated_bytes: usize,
    /// Largest command, metadata, control or audio message; before acceptance also video.
    pub command_bytes: usize,
    /// Largest video or aggregate message of an accepted publisher.
    pub video_bytes: usize,
    /// Chunk streams that one connection may open.
    pub chunk_streams: usize,
    /// Sustained rate in bits per second, of everything an accepted publisher sends.
    pub bits_per_second: u64,
    /// How much of the sustained rate may come at once.
    pub burst: Duration,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// Connections at a time in all.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            app: "live".into(),
            handshake: Duration::from_secs(5),
            unauthenticated: Duration::from_secs(10),
            decision: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(5),
            unauthenticated_bytes: 64 << 10,
            command_bytes: 64 << 10,
            video_bytes: 8 << 20,
            chunk_streams: 64,
            bits_per_second: 50_000_000,
            burst: Duration::from_secs(10),
            connections_per_address: 100,
            connections: 10_000,
        }
    }
}
