//! Millrace's router: takes publishers in, owns their streams' sessions and replay, and places them on nodes.
//!
//! ```text
//! publisher ─RTMP→ ingest ─→ sessions (may it come in?) ─→ doorstep (can it be taken?) ─→ session: clock, stamps, replay ─Link→ node
//! ```

mod admin;
mod claim;
mod config;
mod deserted;
mod doorstep;
mod feed;
mod hot;
pub mod ingest;
mod key_lookup;
mod metrics;
mod moves;
mod origin_fence;
mod placement;
mod published;
mod regain;
mod report;
mod router;
mod session;
mod sessions;
mod source;

pub use config::Config;
pub use report::{HealthReport, PublisherReport, RungReport, SecondReport, StreamReport};
pub use router::{Addresses, Router, RouterError, start};
