//! What flows from the router to a worker: [`Item`]s in one sequence, stamped once, so that every encoder cuts alike.
//!
//! A stamp is complete by itself: a successor that joins in the middle of a segment needs no earlier unit to know
//! where it stands.

use bytes::Bytes;
use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime, Msn, PartNo};

/// Which of a publisher's two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// Pictures, in ticks of 90 kHz.
    Video,
    /// Sound, in samples.
    Audio,
}

/// One record of a stream, in the order of its `seq`, which has no holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// From here on the track is described by this.
    Config(Config),
    /// A picture or a frame of sound.
    Unit(AccessUnit),
    /// Time went by without a picture.
    Tick(Tick),
}

impl Item {
    /// Its place in the stream's sequence.
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Config(config) => config.seq,
            Self::Unit(unit) => unit.seq,
            Self::Tick(tick) => tick.seq,
        }
    }
}

/// A track's description, effective for all later units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Place in the stream's sequence.
    pub seq: u64,
    /// The description.
    pub track: TrackConfig,
}

/// How to read a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackConfig {
    /// H.264.
    Video(VideoConfig),
    /// AAC.
    Audio(AudioConfig),
}

/// An H.264 track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1), with 4-byte NAL lengths.
    pub avcc: Bytes,
    /// Width of the cropped picture, pixels.
    pub width: u32,
    /// Height of the cropped picture, pixels.
    pub height: u32,
    /// Nominal frame rate, from the stream's own clock or its headers.
    pub frame_rate: FrameRate,
    /// RFC 6381 string such as `avc1.64001f`.
    pub codecs: String,
}

/// An AAC track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1).
    pub asc: Bytes,
    /// Samples per second of the track's clock: its timescale. For HE-AAC that of the core.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u8,
    /// RFC 6381 string such as `mp4a.40.2`.
    pub codecs: String,
}

impl TrackConfig {
    /// Which track it describes.
    pub const fn track(&self) -> Track {
        match self {
            Self::Video(_) => Track::Video,
            Self::Audio(_) => Track::Audio,
        }
    }

    /// Ticks per second of the track's units.
    pub const fn timescale(&self) -> u32 {
        match self {
            Self::Video(_) => MEDIA_TIMESCALE,
            Self::Audio(audio) => audio.sample_rate,
        }
    }
}

/// One coded picture or one frame of sound.
///
/// `dts`, `pts` and `duration` count ticks of the track's timescale ([`TrackConfig::timescale`]) since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// Place in the stream's sequence.
    pub seq: u64,
    /// Which track.
    pub track: Track,
    /// Decoding time, ticks.
    pub dts: i64,
    /// Presentation time, ticks.
    pub pts: i64,
    /// From this unit to the next of its track in decoding order, ticks.
    pub duration: u32,
    /// Video: an IDR picture. Audio: always.
    pub idr: bool,
    /// Where it lies, and what is cut before and after it.
    pub stamp: Stamp,
    /// Video: NAL units with 4-byte lengths. Audio: one raw AAC frame.
    pub bytes: Bytes,
}

/// A segment, the same on every rung and from every encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStamp {
    /// Its number.
    pub msn: Msn,
    /// How many discontinuities lie before it in the stream's life.
    pub discontinuity: u64,
    /// Where it starts; `EXT-X-PROGRAM-DATE-TIME` is this moment's UTC.
    pub start: MediaTime,
}

/// Where a unit lies, and what is cut before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The segment it belongs to.
    pub segment: SegmentStamp,
    /// The part of that segment, numbered per rendition: video rungs share theirs, audio has its own.
    pub part: PartNo,
    /// What begins with this unit.
    pub starts: Cut,
    /// What ends with this unit (in decoding order), once that is known; the next unit of the track then has `starts`.
    pub ends: Option<Boundary>,
}

/// What begins at a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    None,
    /// A part.
    Part,
    /// A segment, and its part 0.
    Segment,
}

/// The moment at which a part ends and the next begins.
///
/// For an IDR it is that picture's presentation time; for any other picture its decoding time plus the reorder delay
/// (`pts - dts`) of the last IDR, and what decoding times were lowered by since, so that boundaries are as even as the
/// frame rate although B-frames are not.
/// A rung that is encoded without B-frames cuts at the first picture presented at or after it, within half a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The moment.
    pub at: MediaTime,
    /// Whether a segment ends here too.
    pub segment: bool,
}

/// Time went by without a picture: everything before `to` is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Place in the stream's sequence.
    pub seq: u64,
    /// No unit of either track that is still to come is presented before this.
    pub to: MediaTime,
}
