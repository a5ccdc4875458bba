//! One stream's pipeline, generic over what decodes and encodes: repackage, or decode once, scale, encode, package.
//!
//! ```text
//! Item → Passthrough (source, audio) ───────────────────────────→ Packager → Part
//!      → Transcoder: decoder → grid → per rung: scaler → encoder → Packager → Part
//! ```
//!
//! [`Pipeline`] turns messages into messages and does no I/O; [`run`] is the life of a worker process around it.

mod daemon;
mod encoded;
mod grid;
mod none;
mod packager;
mod passthrough;
mod pipeline;
mod process;
mod transcoder;
mod unacked;

pub use none::NoBackend;
pub use pipeline::Pipeline;
pub use process::run;
