//! Media without I/O: access units, codec headers, the stream clock and its stamps, the replay buffer, CMAF boxes.

mod aac;
mod avc;
mod bits;
pub mod cmaf;
mod codec_name;
mod flv;
mod replay;
mod timeline;
mod unit;

pub use aac::{AacError, AacHeader};
pub use avc::{AvcError, AvcRecord, Picture, Sps, clean_picture};
pub use codec_name::{CodecName, announced_audio, announced_video};
pub use flv::{AudioTag, FlvError, VideoTag, parse_audio, parse_video};
pub use replay::{Replay, mapped_bytes as mapped_replay_bytes};
pub use timeline::{
    Input, Resume, SourceError, SourceHints, SourceLimits, Stats, Timeline, TimelineStart,
    is_halved, kept_by_halving,
};
pub use unit::{
    AccessUnit, AudioConfig, Boundary, Config, Cut, Item, SegmentStamp, Stamp, Tick, Track,
    TrackConfig, VideoConfig,
};
