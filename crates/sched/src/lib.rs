//! Decisions about capacity as pure functions over values: what a stream costs, what ladder it gets, whether a host takes it, where it goes.
//!
//! ```text
//! source → ladder → cost → place(fleet) → the node's admit(ledger) → Reservation | NoRoom
//! ```
//! Router and node use the same [`cost`], so that they never disagree about a stream's demand.

mod admission;
mod capacity;
mod cost;
mod hot;
mod ladder;
mod origin;
mod place;

pub use admission::{Ledger, NoRoom, Reservation};
pub use capacity::{Capacity, Demand, Resource};
pub use cost::cost;
pub use hot::{Heat, HotConfig, HotStreams, Watched};
pub use ladder::{
    LadderConfig, LadderError, RungConfig, Source, following_ladder, full_ladder, is_same_shape,
    passthrough_ladder, unencoded_ladder,
};
pub use origin::{choose_origin, next_origin};
pub use place::{Candidate, Constraints, Placement, Ranked, Standing, Unfit, ZONE, place};
