//! Decoding and presentation times against each other: no picture is decoded after it is shown, no two are decoded or shown
//! at once, and an IDR is shown behind all that were decoded before it.
//!
//! Composition times may be negative (FLV's are signed): decoding times are lowered for good by the largest there is, as soon
//! as a picture is shown so late that others must come before it.

use std::collections::VecDeque;

use millrace_types::{MEDIA_TIMESCALE, MediaTime};

const TICKS_PER_MS: i64 = MEDIA_TIMESCALE as i64 / 1_000;
/// Frames that a decoder may hold back at most: `max_dec_frame_buffering` (ITU-T H.264, A.3.1).
const MAX_REORDERED_FRAMES: i64 = 16;
/// Frames between a picture's decoding and its presentation at most: 16 that are shown before it come after it, decoding runs a
/// few ahead, and timestamps are not exact.
const MAX_COMPOSITION_FRAMES: i64 = 20;
/// The bounds of what they last, ticks: at 30 fps, since a rate that was announced may be wrong, and at 5, the slowest one known.
const COMPOSITION_BOUNDS: (i64, i64) = (60_000, 360_000);
/// Pictures whose presentation times no other may have.
const REMEMBERED_PICTURES: usize = MAX_COMPOSITION_FRAMES as usize + 1;

/// The order of one connection's pictures.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// Ticks by which decoding times lie before the moments that were sent.
    lowered: i64,
    /// Composition time of the last IDR, ticks.
    idr_composition: i64,
    idr_pts: Option<MediaTime>,
    latest_pts: Option<MediaTime>,
    shown: VecDeque<MediaTime>,
}

impl Order {
    /// Ticks by which decoding times lie before the moments that were sent.
    pub(super) const fn lowered(&self) -> i64 {
        self.lowered
    }

    /// Whether no picture came yet.
    pub(super) const fn is_new(&self) -> bool {
        self.latest_pts.is_none()
    }

    /// The composition time of a picture that says `sent`, ticks. One that no decoder could follow is taken for that of the
    /// last IDR: such a picture comes in its turn, and others stay where they are.
    pub(super) fn composition(&mut self, sent: i64, frame: Option<i64>, idr: bool) -> i64 {
        let (least, most) = COMPOSITION_BOUNDS;
        let longest = |frame: i64| (frame * MAX_COMPOSITION_FRAMES).clamp(least, most);
        let bound = frame.map_or(most, longest);
        let composition = if sent.abs() <= bound { sent } else { self.idr_composition };
        if idr {
            self.idr_composition = composition;
        }
        composition
    }

    /// Lowers decoding times as far as a picture with that composition time shows that it must be. `depth`: how many frames of
    /// length `frame` the headers say come out of order, if they do. Returns by how much, ticks.
    pub(super) fn learn(&mut self, composition: i64, frame: i64, depth: Option<u32>) -> i64 {
        let depth = depth.map_or(1, |depth| i64::from(depth).min(MAX_REORDERED_FRAMES));
        let is_shown_late = composition - self.idr_composition > frame / 2;
        let foreseen = if is_shown_late { depth * frame - self.idr_composition } else { 0 };
        // Rounding to milliseconds lowers nothing.
        let needed = foreseen.max(-composition);
        let by = needed - self.lowered;
        if by <= TICKS_PER_MS {
            return 0;
        }
        self.lowered = needed;
        by
    }

    /// Decoding and presentation time of the next picture, which lies at `at` and wants to be shown at `pts`. It is not decoded
    /// before `earliest`; an IDR is shown later than `boundary`, where a part that began with the picture before would.
    pub(super) fn settle(
        &mut self,
        (at, pts): (MediaTime, MediaTime),
        idr: bool,
        earliest: MediaTime,
        boundary: MediaTime,
    ) -> (MediaTime, MediaTime) {
        let next = |moment: MediaTime| moment + TICKS_PER_MS;
        let dts = (at + -self.lowered).max(earliest);
        let behind = if idr { self.latest_pts.map(|pts| pts.max(boundary)) } else { self.idr_pts };
        let behind = behind.map(next).unwrap_or_default();
        let mut pts = pts.max(dts).max(behind);
        while self.shown.iter().any(|shown| (*shown - pts).abs() < TICKS_PER_MS / 2) {
            pts = pts + TICKS_PER_MS;
        }
        if self.shown.len() == REMEMBERED_PICTURES {
            self.shown.pop_front();
        }
        self.shown.push_back(pts);
        if idr {
            self.idr_pts = Some(pts);
        }
        self.latest_pts = self.latest_pts.max(Some(pts));
        (dts, pts)
    }
}
