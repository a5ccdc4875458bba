//! One host's daemon: admits streams, runs one worker per stream, keeps and publishes what the workers make.
//!
//! ```text
//! router ─Link→ link ─→ assignment ─socket→ worker
//!                 │          ↓ parts
//!               host       output ─HTTP→ origin          host: the books (capacity, streams); output: a stream's window
//! ```
//! An [`assignment`] is one placement of one stream: it owns the Link, the worker process and its supervision, and dies
//! with either. An [`output`] is what a stream has published from this host: it outlives assignments, so a successor
//! continues from its marks, and whatever a dead worker delivered is still pushed. Workers outlive the daemon: a later one
//! finds them in its [`run_dir`], and the [`adoption`] of each goes on where it stood.

mod admin;
mod adoption;
mod assignment;
mod cgroups;
mod children;
mod config;
mod delivery;
mod egress;
mod gate;
mod host;
mod link;
mod measure;
mod metrics;
mod node;
mod origin_client;
mod origins;
mod output;
mod past;
mod pusher;
mod reachability;
mod registration;
mod run_dir;
mod spares;
mod stopping;
mod unpublished;
mod worker_process;

pub use children::{end_left_behind, end_workers};
pub use config::{CapacityConfig, Config};
pub use egress::Egress;
pub use host::StreamStatus;
pub use node::{Addresses, Node, NodeError, start};
pub use run_dir::{MAX_RUN_DIR_BYTES, RunDir};
