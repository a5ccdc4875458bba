//! Owns the publisher's connection: RTMP from the first byte to media messages, and every limit a stranger meets.
//!
//! ```text
//! TCP or TLS → connection → session ─ handshake → chunk_reader → command → media
//!                  │                                              │
//!                  └─ Gate::authorize  ←──────── PublishRequested ┘      Publication → the stream's session
//! ```
//!
//! It knows nothing of codecs, clocks of streams or placement: bodies go on as they came, with raw 32-bit
//! timestamps.

mod aggregate;
mod amf0;
mod chunk_reader;
mod chunk_writer;
mod command;
mod connection;
mod end_log;
mod handshake;
mod limits;
mod message;
mod metrics;
mod network;
mod pace;
mod proxy_protocol;
mod publication;
mod rate_limit;
mod refusal;
mod server;
mod session;
mod stream_metadata;
mod turn;

pub use limits::Limits;
pub use message::{MessageKind, PublisherMessage};
pub use metrics::IngestMetrics;
pub use network::{Network, NetworkError};
pub use publication::{Gate, Granted, IngestEvent, Publication, PublishRequest};
pub use refusal::Refusal;
pub use server::{IngestConfig, IngestServer};
pub use session::{IngestEnd, Input, Output, Session};
pub use stream_metadata::StreamMetadata;
