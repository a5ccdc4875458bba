//! Places RTMP's 32-bit milliseconds on the stream's clock: unwraps, anchors, shifts jumps away.
//!
//! Both tracks share one offset. When one of them jumps, it goes on at its own last moment under a new offset, and the
//! other adopts that offset as soon as it has jumped too, so that sound and picture stay together. What is left of
//! jitter is smoothed per track ([`super::rate`], [`super::audio`]). A track whose first unit comes too far from the other's
//! ([`super::skew`]) is delayed, or brought forward, to where the other is.

use millrace_types::MediaTime;

use super::skew::MAX_SKEW;
use crate::Track;

/// 90 kHz ticks in a millisecond.
const TICKS_PER_MS: i64 = 90;
/// A step back by more than this is a jump; by less it is clamped by the track.
const MAX_BACKWARD: i64 = 100 * TICKS_PER_MS;
/// A step forward by more than this is a jump, unless the other track went along.
const MAX_FORWARD: i64 = 2_000 * TICKS_PER_MS;

/// The clock of one publisher connection.
#[derive(Clone, Debug)]
pub(super) struct SourceClock {
    anchor: MediaTime,
    unwrapped_ms: Option<i64>,
    tracks: [TrackClock; 2],
    shifts: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrackClock {
    offset: Option<i64>,
    last: i64,
    /// How far ahead of the other track that was, ticks.
    ahead: i64,
    /// By how many ticks it was delayed against the other.
    delayed: i64,
}

impl SourceClock {
    /// The first unit will lie at `anchor`.
    pub(super) fn new(anchor: MediaTime) -> Self {
        Self { anchor, unwrapped_ms: None, tracks: Default::default(), shifts: 0 }
    }

    /// Jumps that were shifted away.
    pub(super) const fn shifts(&self) -> u64 {
        self.shifts
    }

    /// All that is still to come on `track` lies `by` ticks later.
    pub(super) fn delay(&mut self, track: Track, by: i64) {
        let this = &mut self.tracks[track as usize];
        this.offset = this.offset.map(|offset| offset + by);
        this.last += by;
        this.delayed += by;
        self.shifts += 1;
    }

    /// Both tracks lie `by` ticks later, also what came of them already.
    pub(super) fn delay_both(&mut self, by: i64) {
        for this in &mut self.tracks {
            this.offset = this.offset.map(|offset| offset + by);
            this.last += by;
        }
    }

    /// Where the first unit lay.
    pub(super) const fn anchor(&self) -> MediaTime {
        self.anchor
    }

    /// How much later than stamped sound lies beside the pictures, ticks.
    pub(super) const fn sound_delayed(&self) -> i64 {
        self.tracks[Track::Audio as usize].delayed - self.tracks[Track::Video as usize].delayed
    }

    /// The moment of `timestamp_ms` on `track`, whose units are about `step` ticks apart.
    pub(super) fn place(&mut self, track: Track, timestamp_ms: u32, step: i64) -> MediaTime {
        let source = self.unwrap(timestamp_ms) * TICKS_PER_MS;
        let (this, other) = match track {
            Track::Video => (self.tracks[0], self.tracks[1]),
            Track::Audio => (self.tracks[1], self.tracks[0]),
        };
        let (offset, delayed) = self.offset(source, this, other, step);
        if this.offset.or(other.offset).is_some_and(|known| known != offset)
            && other.offset != Some(offset)
        {
            self.shifts += 1;
        }
        let moment = source + offset;
        let ahead = other.offset.map_or(0, |_| moment - other.last);
        self.tracks[track as usize] =
            TrackClock { offset: Some(offset), last: moment, ahead, delayed };
        MediaTime(moment)
    }

    fn unwrap(&mut self, timestamp_ms: u32) -> i64 {
        let unwrapped = match self.unwrapped_ms {
            None => i64::from(timestamp_ms),
            Some(last) => last + i64::from(timestamp_ms.wrapping_sub(last as u32) as i32),
        };
        self.unwrapped_ms = Some(unwrapped);
        unwrapped
    }

    /// What to add to `source`, and by how much that delays the track against the other.
    fn offset(&self, source: i64, this: TrackClock, other: TrackClock, step: i64) -> (i64, i64) {
        let Some(offset) = this.offset else {
            return match other.offset {
                None => (self.anchor.0 - source, 0),
                Some(offset) if (source + offset - other.last).abs() <= MAX_SKEW => (offset, 0),
                Some(offset) => (other.last - source, other.last - source - offset),
            };
        };
        let goes_on = |offset: i64| {
            let forward = source + offset - this.last;
            let ahead = source + offset - other.last;
            let along = other.offset == Some(offset) && (ahead - this.ahead).abs() <= MAX_FORWARD;
            forward >= -MAX_BACKWARD && (forward <= MAX_FORWARD || along)
        };
        match other.offset {
            _ if goes_on(offset) => (offset, this.delayed),
            Some(others) if goes_on(others) => (others, other.delayed),
            _ => (this.last + step - source, this.delayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = 3_000;
    const ANCHOR: MediaTime = MediaTime(1_000_000_000);

    fn clock() -> SourceClock {
        SourceClock::new(ANCHOR)
    }

    #[test]
    fn the_clock_runs_on_through_the_wrap_of_32_bits() {
        let mut clock = clock();
        let first = clock.place(Track::Video, u32::MAX - 99, STEP);
        assert_eq!(first, ANCHOR);
        assert_eq!(clock.place(Track::Audio, u32::MAX - 49, STEP), ANCHOR + 50 * 90);
        assert_eq!(clock.place(Track::Video, 100, STEP), ANCHOR + 200 * 90);
        assert_eq!(clock.shifts(), 0);
    }

    #[test]
    fn a_jump_of_both_tracks_is_shifted_away_once() {
        for target_ms in [0, 900_000] {
            let mut clock = clock();
            clock.place(Track::Video, 60_000, STEP);
            clock.place(Track::Audio, 60_010, STEP);
            assert_eq!(clock.place(Track::Video, target_ms, STEP), ANCHOR + STEP);
            assert_eq!(clock.place(Track::Audio, target_ms + 10, STEP), ANCHOR + STEP + 900);
            assert_eq!(clock.shifts(), 1);
        }
    }

    #[test]
    fn a_gap_in_a_track_stays_one_however_far_apart_the_tracks_arrive() {
        for (audio_ms, is_kept) in [(0, true), (2_500, true), (5_500, true), (5_500, false)] {
            let mut clock = clock();
            let both = |clock: &mut SourceClock, ms: u32| {
                let video = clock.place(Track::Video, ms + 3_000, STEP);
                (video, clock.place(Track::Audio, ms + audio_ms, 1_800))
            };
            for n in 0..50 {
                both(&mut clock, n * 40);
            }
            // Either track goes on alone for three seconds; or neither does.
            let sound = 2_000..5_000_u32;
            for ms in sound.step_by(20).filter(|_| is_kept) {
                clock.place(Track::Audio, ms + audio_ms, 1_800);
            }
            let (video, _) = both(&mut clock, 5_000);
            let wanted = if is_kept { ANCHOR + 5_000 * 90 } else { ANCHOR + 1_960 * 90 + STEP };
            assert_eq!(video, wanted, "{audio_ms} ms");
            assert_eq!((clock.shifts(), clock.sound_delayed()), (u64::from(!is_kept), 0));
        }
    }

    #[test]
    fn a_picture_that_comes_late_while_sound_went_on_keeps_its_time() {
        let mut clock = clock();
        clock.place(Track::Video, 0, STEP);
        for ms in (0..=5_000).step_by(20) {
            clock.place(Track::Audio, ms, 1_800);
        }
        assert_eq!(clock.place(Track::Video, 5_000, STEP), ANCHOR + 5_000 * 90);
        assert_eq!(clock.shifts(), 0);
    }
}
