//! What a [`super::Timeline`] is told: where it starts, what came, and why a source is refused.

use bytes::Bytes;
use millrace_types::{MediaTime, Msn, RefusalReason, Wall};

use crate::{AacError, AvcError, FlvError};

/// What a timeline starts from.
#[derive(Clone, Debug)]
pub struct TimelineStart {
    /// UTC when the publisher's first unit came.
    pub utc: Wall,
    /// Where the stream stood, when its session goes on from another router's.
    pub resume: Option<Resume>,
    /// Whether the channel asks for parts of 0.25 s (given at regular rates above 20 fps).
    pub low_latency: bool,
    /// What a source may be.
    pub limits: SourceLimits,
}

/// Where a stream stood that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Number of the next segment.
    pub next_msn: Msn,
    /// Discontinuity number of the last segment; the next has one more.
    pub discontinuity: u64,
    /// Where the last segment ended.
    pub last_end: MediaTime,
    /// The stream's part target, ticks of 90 kHz, which never changes; `None` if no part was made.
    pub part_target: Option<i64>,
}

/// What a source may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Pixels of the longer side.
    pub long_side: u32,
    /// Pixels of the picture.
    pub pixels: u32,
    /// Frames per second.
    pub fps: u32,
}

impl Default for SourceLimits {
    /// 4096 × 2304 in either orientation, 120 fps.
    fn default() -> Self {
        Self { long_side: 4_096, pixels: 4_096 * 2_304, fps: 120 }
    }
}

/// What `onMetaData` claims; never trusted for more than a first guess.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SourceHints {
    /// `framerate`, frames per second.
    pub frame_rate: Option<f64>,
    /// Whether there is an `audiocodecid`; `None` when the metadata says nothing of either track.
    pub has_audio: Option<bool>,
    /// Whether there is a `videocodecid`; likewise.
    pub has_video: Option<bool>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A video message came.
    Video {
        /// Its RTMP timestamp.
        timestamp_ms: u32,
        /// Its body: an FLV video tag without tag header.
        body: Bytes,
    },
    /// An audio message came.
    Audio {
        /// Its RTMP timestamp.
        timestamp_ms: u32,
        /// Its body: an FLV audio tag without tag header.
        body: Bytes,
    },
    /// `onMetaData` came.
    Metadata(SourceHints),
    /// The publisher's connection ended.
    PublisherLeft,
    /// The publisher, or its successor, came on a new connection.
    PublisherBack {
        /// UTC now.
        utc: Wall,
    },
    /// [`Timeline::deadline`] passed.
    Elapsed,
}

/// Why a source cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The message is no H.264 or AAC.
    #[error(transparent)]
    Flv(#[from] FlvError),
    /// The video header, or too many pictures in a row, cannot be read.
    #[error(transparent)]
    Avc(#[from] AvcError),
    /// The audio header cannot be used.
    #[error(transparent)]
    Aac(#[from] AacError),
    /// The picture is larger, or faster, than allowed.
    #[error("source of {width}x{height} at {fps} fps is above the limit")]
    Limit {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames per second, rounded; 0 when not known.
        fps: u32,
    },
    /// The timestamps of a track do not advance.
    #[error("timestamps of the {track} have stood still for {seconds} s while it went on")]
    Standstill {
        /// `pictures` or `sound`.
        track: &'static str,
        /// For so long at least.
        seconds: u64,
    },
}

impl SourceError {
    /// The reason that the publisher is told.
    pub const fn refusal(&self) -> RefusalReason {
        match self {
            Self::Flv(error) => error.refusal(),
            Self::Avc(error) => error.refusal(),
            Self::Aac(error) => error.refusal(),
            Self::Limit { .. } => RefusalReason::SourceLimit,
            Self::Standstill { .. } => RefusalReason::Timestamps,
        }
    }
}
