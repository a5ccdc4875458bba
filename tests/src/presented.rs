//! What a browser presented, held against the clip that was published: which frames, in which order, and where on the
//! timeline. Opens no page.

use std::{collections::BTreeSet, fmt};

use millrace_testkit::{
    Fps, assert_counted,
    browser::{Frame, Seen},
};

/// A frame may lie this far off its place on the element's timeline, seconds: half a frame at 60 fps.
const PLACE_TOLERANCE_S: f64 = 0.008;

/// So long after the watch began a player may still look for its place: what it shows before it plays is a still.
const START_MS: f64 = 3_000.0;

/// Frames presented, as judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Presented {
    /// Stamps, each once.
    pub stamps: BTreeSet<u32>,
    /// Frames that reached the screen and were not sampled, inside the range of [`Self::stamps`].
    pub unsampled: u64,
    /// Stamps between the first and the last that never reached the screen.
    pub missing: u64,
    /// Samples that show a later picture than the one the browser had announced: its callback came late.
    pub sampled_late: usize,
    /// Sampled frames without a readable stamp.
    pub unreadable: usize,
    /// Frames whose stamp is not above the one before.
    pub out_of_order: Vec<(u32, u32)>,
    /// Frames whose place on the timeline does not fit their stamp: stamp and seconds off.
    pub misplaced: Vec<(u32, f64)>,
    /// The longest time between two presented frames, milliseconds.
    pub longest_gap_ms: f64,
    /// Times the element ran dry after its first frame.
    pub stalls: usize,
    /// Frames decoded in time and not shown, as the element counts them.
    pub dropped: u64,
    /// Width of the picture in pixels.
    pub width: u32,
}

impl Presented {
    /// Judges a whole watch of a clip with that rate.
    pub fn judge(seen: &Seen, fps: Fps) -> Self {
        let seen = &Seen { frames: played(seen), ..seen.clone() };
        let read = seen.frames.iter().map(|frame| (frame, frame.number()));
        let mut read: Vec<_> = read.filter_map(|(frame, stamp)| Some((frame, stamp?))).collect();
        let mut presented = Self {
            unreadable: seen.frames.len() - read.len(),
            longest_gap_ms: seen.longest_freeze_ms(),
            stalls: seen.stalls_ms().len(),
            dropped: seen.dropped_frames,
            width: seen.video_width,
            ..Self::default()
        };
        let off = |frame: &Frame, stamp| frame.media_time_s - fps.seconds_at(stamp);
        let zero = median(read.iter().map(|(frame, stamp)| off(frame, *stamp)));
        let sampled = read.len();
        read.retain(|(frame, stamp)| off(frame, *stamp) - zero > -PLACE_TOLERANCE_S);
        presented.sampled_late = sampled - read.len();
        presented.stamps = read.iter().map(|(_, stamp)| *stamp).collect();
        for (frame, stamp) in &read {
            let off = off(frame, *stamp) - zero;
            if off > PLACE_TOLERANCE_S {
                presented.misplaced.push((*stamp, off));
            }
        }
        for pair in read.windows(2) {
            let ((before, a), (after, b)) = (pair[0], pair[1]);
            if b <= a {
                presented.out_of_order.push((a, b));
                continue;
            }
            let shown = after.presented_frames.saturating_sub(before.presented_frames);
            let between = u64::from(b - a - 1);
            let unsampled = between.min(shown.saturating_sub(1));
            presented.unsampled += unsampled;
            presented.missing += between - unsampled;
        }
        presented
    }

    /// Insists on `count` different stamps in their order and at their places. Frames may be missing on the screen only
    /// where the browser says that it decoded and dropped them, and at most a tenth: compositors of busy machines do.
    ///
    /// # Panics
    /// With everything seen, when something else was.
    pub fn assert_plays(&self, count: usize) {
        // What no browser drops of its own accord.
        assert_counted(self.out_of_order.len() + self.misplaced.len(), || self.to_string());
        let stamps = self.stamps.len() as u64;
        assert!(stamps >= count as u64, "{stamps} of {count} stamps: {self}");
        assert!(self.missing <= self.dropped && self.missing * 10 <= stamps, "{self}");
        assert!(self.sampled_late as u64 * 20 <= stamps, "{self}");
        assert_eq!(self.unreadable, 0, "{self}");
    }
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = (self.stamps.first(), self.stamps.last());
        write!(
            f,
            "width {}, {} stamps {ends:?}, {} not sampled, {} sampled late, {} missing, {} dropped, {} unreadable, \
             out of order {:?}, misplaced {:?}, longest gap {:.0} ms, {} stalls",
            self.width,
            self.stamps.len(),
            self.unsampled,
            self.sampled_late,
            self.missing,
            self.dropped,
            self.unreadable,
            self.out_of_order,
            self.misplaced,
            self.longest_gap_ms,
            self.stalls
        )
    }
}

/// The frames since the player found its place and played.
fn played(seen: &Seen) -> Vec<Frame> {
    let times = seen.events.iter().map(|event| event.now_ms);
    let began = times.chain(seen.frames.iter().map(|frame| frame.now_ms)).fold(f64::MAX, f64::min);
    let starts = seen.events.iter().filter(|event| event.name == "playing");
    let starts = starts.map(|event| event.now_ms).filter(|now| now - began < START_MS);
    let start = starts.fold(f64::MIN, f64::max);
    seen.frames.iter().filter(|frame| frame.now_ms > start).cloned().collect()
}

/// The middle value; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use millrace_testkit::{browser::PlayerEvent, stamp};

    use super::*;

    /// `(stamp, presented frames, media time in frames)`.
    fn seen(frames: &[(u32, u64, f64)]) -> Seen {
        let frame = |&(number, presented_frames, at): &(u32, u64, f64)| {
            let mut picture = vec![0; stamp::picture_bytes(160, 90)];
            stamp::draw(number, 160, 90, &mut picture);
            picture.truncate(160 * 90);
            let now_ms = at * 1_000.0 / 30.0;
            Frame { media_time_s: 7.0 + at / 30.0, presented_frames, now_ms, luma: picture }
        };
        Seen {
            frames: frames.iter().map(frame).collect(),
            events: Vec::new(),
            video_width: 640,
            video_height: 360,
            current_time_s: 0.0,
            decoded_frames: 0,
            dropped_frames: 0,
        }
    }

    fn judged(frames: &[(u32, u64, f64)]) -> Presented {
        Presented::judge(&seen(frames), Fps::whole(30))
    }

    #[test]
    fn frames_shown_and_not_sampled_are_told_from_missing_ones() {
        let presented = judged(&[(5, 1, 5.0), (6, 2, 6.0), (8, 4, 8.0), (12, 6, 12.0)]);
        assert_eq!((presented.unsampled, presented.missing), (2, 2));
        assert!(presented.out_of_order.is_empty() && presented.misplaced.is_empty());
    }

    #[test]
    fn a_still_shown_while_the_player_looks_for_its_place_does_not_count() {
        let mut seen = seen(&[(0, 1, 1.0), (60, 2, 60.0), (61, 3, 61.0)]);
        let playing = PlayerEvent {
            name: "playing".to_owned(),
            now_ms: 1_000.0,
            current_time_s: 9.0,
            detail: String::new(),
        };
        seen.events.push(playing);
        let presented = Presented::judge(&seen, Fps::whole(30));
        assert_eq!((presented.missing, presented.stamps.first()), (0, Some(&60)));
    }

    #[test]
    fn a_frame_before_its_turn_and_one_at_the_wrong_place_are_found() {
        let presented = judged(&[(5, 1, 5.0), (6, 2, 6.0), (7, 3, 7.5), (6, 4, 8.0), (9, 5, 9.0)]);
        assert_eq!(presented.out_of_order, [(7, 6)]);
        assert_eq!(presented.misplaced.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>(), [7, 6]);
    }

    #[test]
    fn a_sample_taken_too_late_is_a_frame_that_was_shown_and_not_sampled() {
        let presented = judged(&[(5, 1, 5.0), (8, 2, 6.0), (8, 4, 8.0), (9, 5, 9.0)]);
        assert!(presented.out_of_order.is_empty() && presented.misplaced.is_empty());
        assert_eq!((presented.sampled_late, presented.unsampled, presented.missing), (1, 2, 0));
    }
}
