//! An RTMP publisher for peers that are ours: the demo picture, tests and load.
//!
//! Speaks through `rml_rtmp`, a second implementation beside the router's own, so that each checks the other.
//! It does not face strangers: what a server sends is trusted not to be hostile.
//!
//! ```no_run
//! # async fn demo() -> Result<(), millrace_publisher::PublishError> {
//! use millrace_publisher::{Clip, Playout, Publisher};
//!
//! let mut publisher = Publisher::connect("rtmp://127.0.0.1:1935/live", "demo_key").await?;
//! publisher.play(Playout::endless(&Clip::demo())).await?;
//! publisher.finish().await
//! # }
//! ```

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
