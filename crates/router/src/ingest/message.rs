//! Messages of RTMP: the type numbers on the wire and what goes on to the stream's session.

use bytes::Bytes;

/// Message type numbers (RTMP 1.0, sections 5.4 and 7.1).
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// One whole message as it came over the chunk streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One of [`kind`].
    pub kind: u8,
    /// Milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
    /// The message stream it belongs to.
    pub stream_id: u32,
    /// Its body.
    pub body: Bytes,
}

/// What a [`PublisherMessage`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The body of an FLV video tag.
    Video,
    /// The body of an FLV audio tag.
    Audio,
    /// The body of an FLV script tag: AMF0, beginning with a name such as `onMetaData`.
    Metadata,
}

/// One message of an accepted publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherMessage {
    /// What the body is.
    pub kind: MessageKind,
    /// The publisher's timestamp: milliseconds, modulo 2^32, in whatever order it sent them.
    pub timestamp_ms: u32,
    /// The body, untouched.
    pub body: Bytes,
}
