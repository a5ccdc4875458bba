//! Frames and messages between router and node (Link) and between node and worker (worker socket).
//!
//! A frame is a fixed header, a protobuf control part and a payload of media bytes that is never copied into it.
//! The same frames serve both ways; see `docs/protocol/link.md`.

pub mod blocking;
mod codec;
mod convert;
mod frame;
mod message;
#[allow(missing_docs, reason = "the messages are documented as values in `message`")]
mod proto;
mod reader;
mod writer;

pub use codec::{DecodeError, Decoder, encode};
pub use convert::ConvertError;
pub use frame::FrameError;
pub use message::{
    Admitted, Begin, Beside, ChangeOrigin, End, Ended, Health, Heartbeat, Hello, Init, Message,
    OriginLost, Part, PartAck, Published, Ready, Refused, Restarting, Start, Work,
};
pub use reader::{MessageReader, RelayReader, Relayed};
pub use writer::MessageWriter;
