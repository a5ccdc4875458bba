//! An RTMP publisher for peers that are ours: the demo picture, tests and load.
//!
//! Speaks through `rml_rtmp`, a second implementation beside the router's own, so that each checks the other.
//! It does not face strangers: what a server sends is trusted not to be hostile.
//!
#![doc = concat!("```text\n", include_str!("../examples/publish.rs"), "```")]

mod clip;
mod dialogue;
mod error;
mod playout;
mod publisher;
mod url;

pub use clip::{Clip, ClipError, Tag, TagKind};
pub use error::PublishError;
pub use playout::{Due, Playout};
pub use publisher::Publisher;
