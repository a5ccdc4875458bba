//! The words of Millrace, as types: ids, units, clocks as values, closed reasons, exit codes.
//!
//! Everything here is a value: no clock is read, nothing does I/O. Units live in the types
//! ([`MediaTime`], [`Mono`], [`Wall`]) or at the end of a name (`_ms`, `_kbps`, `_bytes`).

mod announced;
mod clock;
mod decision;
mod epoch;
mod id;
mod ladder;
mod part;
mod reason;
mod stream_key;
mod versions;
mod worker_exit;

pub use announced::Announced;
pub use clock::{MEDIA_TIMESCALE, MediaTime, Mono, Wall};
pub use decision::{Alternative, Because, Decision, DecisionKind, Reason};
pub use epoch::Epoch;
pub use id::{ChannelId, IdError, NodeId, RungId, StreamId};
pub use ladder::{FrameRate, Ladder, Rung, RungKind, VideoRung};
pub use part::{Mark, Msn, PartNo};
pub use reason::{EndReason, Fault, MoveEnd, PairEnd, RefusalReason};
pub use stream_key::{KeyError, StreamKey};
pub use versions::{NewestVersion, NoCommonVersion, UnknownVersion, Versions};
pub use worker_exit::WorkerExit;
