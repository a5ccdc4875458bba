//! What a stream's health is judged by. Counts and measures; gives no advice.

use std::collections::VecDeque;

use millrace_types::{MEDIA_TIMESCALE, MediaTime};

use crate::{AudioConfig, VideoConfig};

const SECOND: i64 = MEDIA_TIMESCALE as i64;
/// Bitrate and frame rate are means over this many whole seconds of media time.
const WINDOW_SECONDS: usize = 4;

/// A look at a stream as its publisher sends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Bits per second of sound and picture together over the last seconds of media time.
    pub bitrate_bps: u64,
    /// Pictures per second likewise.
    pub fps: f64,
    /// Distance of the last two IDRs, milliseconds.
    pub keyframe_last_ms: Option<u64>,
    /// Longest distance of the last IDRs, milliseconds.
    pub keyframe_longest_ms: Option<u64>,
    /// Pictures that could not be used: broken, or before the first IDR.
    pub dropped_frames: u64,
    /// Of those, pictures of this connection or description that came while there was no IDR yet.
    pub waiting_for_idr: u64,
    /// Pictures that came too late for their time and are shown later.
    pub moved_frames: u64,
    /// Frames of sound that came too late and were left out.
    pub late_audio_frames: u64,
    /// Frames of silence that were put in.
    pub silent_audio_frames: u64,
    /// Jumps of the publisher's clock that were shifted away.
    pub clock_shifts: u64,
    /// How far sound is ahead of the picture as they arrive, milliseconds; negative when it is behind.
    pub audio_ahead_ms: i64,
    /// How much later than it was stamped sound is played beside the picture, milliseconds; negative when the picture is.
    pub audio_delayed_ms: i64,
    /// The video as it is described now.
    pub video: Option<VideoConfig>,
    /// The sound as it is described now.
    pub audio: Option<AudioConfig>,
    /// Whether pictures come evenly.
    pub regular_frame_rate: bool,
}

/// Bytes and pictures by second of media time.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    seconds: VecDeque<Second>,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    number: i64,
    bytes: u64,
    pictures: u64,
}

impl Meter {
    pub(super) fn count(&mut self, at: MediaTime, bytes: usize, is_picture: bool) {
        let number = at.0.div_euclid(SECOND);
        if self.seconds.back().is_none_or(|second| second.number < number) {
            self.seconds.push_back(Second { number, bytes: 0, pictures: 0 });
        }
        if self.seconds.len() > WINDOW_SECONDS + 1 {
            self.seconds.pop_front();
        }
        if let Some(second) = self.seconds.back_mut() {
            second.bytes += bytes as u64;
            second.pictures += u64::from(is_picture);
        }
    }

    /// Bits and pictures per second over the whole seconds that are over.
    pub(super) fn rates(&self) -> (u64, f64) {
        let (Some(first), Some(last)) = (self.seconds.front(), self.seconds.back()) else {
            return (0, 0.0);
        };
        let span = u64::try_from(last.number - first.number).unwrap_or(0);
        if span == 0 {
            return (0, 0.0);
        }
        let over = self.seconds.iter().take(self.seconds.len() - 1);
        let (bytes, pictures) = over.fold((0, 0), |(bytes, pictures), second| {
            (bytes + second.bytes, pictures + second.pictures)
        });
        (bytes * 8 / span, pictures as f64 / span as f64)
    }
}
