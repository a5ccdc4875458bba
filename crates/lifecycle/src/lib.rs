//! State machines of a stream, a worker and a key's publishers. They decide; their drivers spawn, kill, connect and sleep.
//!
//! One shape everywhere: `handle(now, input)`, then `poll()` until `None`, then sleep until `deadline()`.
//! Inputs are facts in the past tense, outputs are orders.

mod stream;
mod takeover;
mod worker;

pub use stream::{LadderChoice, Lost, Stream, StreamInput, StreamOutput};
pub use takeover::{Takeover, Takeovers};
pub use worker::{Look, Worker, WorkerInput, WorkerOutput};
