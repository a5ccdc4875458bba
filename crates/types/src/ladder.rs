//! What a stream is encoded into: a [`Ladder`] of [`Rung`]s, as a value. What goes into it is decided in `millrace-sched`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RungId;

/// Frames per second as an exact fraction: 30000/1001 for NTSC's 29.97.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRate {
    /// Frames.
    pub num: u32,
    /// Seconds, never 0.
    pub den: u32,
}

impl FrameRate {
    /// Frames per second, for text and comparisons with a tolerance.
    pub fn fps(self) -> f64 {
        f64::from(self.num) / f64::from(self.den.max(1))
    }
}

/// Writes what `FRAME-RATE` of a multivariant playlist wants: `29.970`.
impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.fps())
    }
}

/// What a worker makes of one stream, from the best rung down; frozen for an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// The rungs: source first, audio last.
    pub rungs: Vec<Rung>,
}

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Its label, the rendition's name in every URL.
    pub id: RungId,
    /// What it is made of.
    pub kind: RungKind,
}

/// What a rung is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RungKind {
    /// The publisher's video, repackaged and not encoded again.
    Source,
    /// Video that is scaled and encoded.
    Video(VideoRung),
    /// The publisher's audio, repackaged.
    Audio,
}

/// The picture of an encoded rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoRung {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Nominal rate of the rung, after halving.
    pub frame_rate: FrameRate,
    /// Whether every other source frame is left out (sources above 30 fps).
    pub halved: bool,
    /// Rate-control target and cap, kilobits per second.
    pub bitrate_kbps: u32,
}

impl Ladder {
    /// Whether any rung needs a decoder and an encoder.
    pub fn is_transcoded(&self) -> bool {
        self.rungs.iter().any(|rung| matches!(rung.kind, RungKind::Video(_)))
    }
}
