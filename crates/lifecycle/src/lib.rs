//! State machines of a stream, its moves, its second encoder, a worker, a key's publishers and the nodes that failed. They decide; their drivers spawn, kill, connect and sleep.
//!
//! One shape everywhere: `handle(now, input)`, then `poll()` until `None`, then sleep until `deadline()`.
//! Inputs are facts in the past tense, outputs are orders.

mod breaker;
mod deserted;
mod handover;
mod moves;
mod pairing;
mod regain;
mod stream;
mod takeover;
mod worker;

pub use breaker::Breakers;
pub use deserted::{Deserted, Session};
pub use handover::{Handover, HandoverInput, HandoverOutput};
pub use moves::{Leaver, MOST_AT_ONCE, Moves};
pub use pairing::{Pairing, PairingInput, PairingOutput};
pub use regain::{Regains, Unencoded};
pub use stream::{LadderChoice, Lost, Stream, StreamInput, StreamOutput};
pub use takeover::{Takeover, Takeovers};
pub use worker::{Look, WhyKilled, Worker, WorkerInput, WorkerOutput};
