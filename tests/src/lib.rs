//! What the whole-system tests share: a farm of real processes, started and stopped by a test.
//!
//! The tests go through the front door only: they publish with real clients, play with `millrace-testkit`'s strict player
//! or a real one, and look at the farm by its API. Faults are signals to real processes.

mod decoded;
mod discontinuities;
mod farm;
mod farm_certs;
mod host_clock;
mod live;
mod live_clip;
mod many;
mod operator;
mod player_page;
mod presented;
mod pressure;
mod self_signed;
mod shaka;
mod viewer;

pub use decoded::{Decoded, SMALL_PICTURE, decode, read_stamps};
pub use discontinuities::discontinuities;
pub use farm::{Channel, Farm, FarmOptions, StreamView, program};
pub use farm_certs::FarmCerts;
pub use host_clock::HostClock;
pub use live::{Ended, Live};
pub use live_clip::{LiveClip, unix_ms};
pub use many::{Build, Cut, Held, ManyFarm, ManyOptions};
pub use player_page::{PlayerPage, WebPlayer};
pub use presented::Presented;
pub use pressure::{Pressure, Seen};
pub use self_signed::SelfSigned;
pub use shaka::shaka_script;
pub use viewer::Viewer;
