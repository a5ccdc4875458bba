//! The bench all of Millrace is tested on: frame-stamped video, a real publisher, a strict player and a checker that
//! decodes what the player got. For tests only.
//!
//! Every frame of a [`ClipSpec`] carries its number as a [`stamp`]; its sound clicks at each full second. So a stream that
//! went through routers, workers, encoders and their deaths can be held against what was published, frame by frame:
//!
#![doc = concat!("```text\n", include_str!("../examples/lossless.rs"), "```")]
//!
//! A test that stops before the playlists end asks for less: `clip.expected().at_least(30..=500)`. A second clip into the
//! same stream has later stamps (`first_frame`) and is expected with [`Expected::then`]. Moments of faults are
//! [`std::time::Instant`]s, compared with arrivals by [`RenditionRecording::next_arrival_after`] and
//! [`RenditionRecording::longest_stall`]. [`FaultyLink`] is a network that fails on command, [`browser`] a real Chromium
//! whose pictures carry the same stamps.
pub mod browser;
mod check;
mod clip;
mod counted;
mod decode;
mod download;
mod etcd;
mod faulty_link;
mod fragment;
mod frames;
mod front;
mod http;
mod playback;
mod player;
pub mod playlist;
mod publisher;
mod recording;
mod report;
mod scratch;
mod share;
pub mod stamp;
mod waiting;

pub use check::{check, check_aside};
pub use clip::{ClipAudio, ClipSpec, Flaw, Fps};
pub use counted::assert_counted;
pub use etcd::{Etcd, EtcdHost, EtcdTls, EtcdVersion};
pub use faulty_link::{FaultyLink, Flow, LinkState};
pub use frames::{Completeness, Expected};
pub use front::Front;
pub use http::{Answer, HttpClient, resolve};
pub use playback::Stall;
pub use player::{Player, PlayerOptions, Progress, StartAt};
pub use publisher::Publisher;
pub use recording::{Chunk, Init, Recording, RenditionRecording};
pub use report::{AudioFindings, AvOffset, RenditionFindings, Report, VideoFindings};
pub use scratch::{Scratch, cache_dir};
pub use waiting::{Late, free_port, until, until_some};
