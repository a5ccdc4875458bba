//! Which frames a rendition must show, and what its stamps say. Pure: from numbers to findings.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use crate::{ClipSpec, Fps, decode::Picture, report::VideoFindings};

/// How much of the published frames a recording must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// All of them.
    Whole,
    /// Everything from the first to the last one downloaded, and at least these.
    AtLeast(RangeInclusive<u32>),
    /// Everything from the first to the last one downloaded.
    Downloaded,
}

/// What a recording is checked against.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The source's frame rate.
    pub fps: Fps,
    /// Stamps of the published clips, in order, without overlap.
    pub clips: Vec<RangeInclusive<u32>>,
    /// How much of them.
    pub completeness: Completeness,
    /// Whether the clips have clicks.
    pub clicks: bool,
    /// Every how many source frames a rendition shows one; those not named here by their `FRAME-RATE`.
    pub steps: BTreeMap<String, u32>,
    /// How much later than its picture sound is to be heard, in milliseconds; whole seconds cannot be told from none.
    pub sound_late_ms: f64,
    /// How far from there it may be, in milliseconds.
    pub max_av_offset_ms: f64,
    /// How unsteadily frames may follow the frame clock, in milliseconds; `None`: one frame.
    pub max_timing_ms: Option<f64>,
    /// How large a hole or overlap in the sound may be, in milliseconds.
    pub max_sound_hole_ms: f64,
    /// Smallest share of `PART-TARGET` of a part that does not end its segment (RFC 8216bis 4.4.4.9).
    pub min_part_share: f64,
}

impl ClipSpec {
    /// What a recording of this whole clip must show; flaws are faults.
    pub fn expected(&self) -> Expected {
        Expected {
            fps: self.fps,
            clips: vec![self.frames()],
            completeness: Completeness::Whole,
            clicks: self.audio.is_some(),
            steps: BTreeMap::new(),
            sound_late_ms: 0.0,
            max_av_offset_ms: 40.0,
            max_timing_ms: None,
            max_sound_hole_ms: 2.0,
            min_part_share: 0.85,
        }
    }
}

impl Expected {
    /// Then this clip, with later stamps, into the same stream.
    #[must_use]
    pub fn then(mut self, clip: &ClipSpec) -> Self {
        self.clips.push(clip.frames());
        self
    }

    /// The recording may begin late and end early.
    #[must_use]
    pub fn as_downloaded(self) -> Self {
        Self { completeness: Completeness::Downloaded, ..self }
    }

    /// The recording may begin late and end early, but holds these frames.
    #[must_use]
    pub fn at_least(self, frames: RangeInclusive<u32>) -> Self {
        Self { completeness: Completeness::AtLeast(frames), ..self }
    }

    /// Every how many source frames the rendition shows one.
    pub(crate) fn step(&self, name: &str, frame_rate: Option<f64>) -> u32 {
        let by_rate =
            || frame_rate.map_or(1, |rate| (self.fps.rate() / rate).round().max(1.0) as u32);
        self.steps.get(name).copied().unwrap_or_else(by_rate)
    }
}

/// Counts `pictures` (in the order shown) against what is expected; `starts` are stamps that begin a segment, before
/// which a halved rate may show two source frames in a row.
pub(crate) fn count(
    pictures: &[Picture],
    step: u32,
    starts: &BTreeSet<u32>,
    expected: &Expected,
) -> VideoFindings {
    let mut found = VideoFindings { pictures: pictures.len(), step, ..Default::default() };
    let mut seen = BTreeSet::new();
    for picture in pictures {
        match picture.stamp {
            None => found.unreadable_at_s.push(picture.pts_s),
            Some(stamp) if seen.contains(&stamp) => found.repeated.push(stamp),
            Some(stamp) => {
                if seen.last().is_some_and(|last| *last > stamp) {
                    found.out_of_order.push(stamp);
                }
                seen.insert(stamp);
            }
        }
    }
    found.first = seen.first().copied();
    found.last = seen.last().copied();
    let bounds = required_bounds(&seen, expected);
    for clip in &expected.clips {
        let within: Vec<u32> = seen.range(clip.clone()).copied().collect();
        count_clip(&within, clip, bounds.as_ref(), (step, starts), &mut found);
    }
    let foreign =
        seen.iter().filter(|stamp| !expected.clips.iter().any(|clip| clip.contains(stamp)));
    found.unexpected.extend(foreign);
    found
}

/// The first and last stamp that must be there, `None` if every clip must be whole or nothing was seen.
fn required_bounds(seen: &BTreeSet<u32>, expected: &Expected) -> Option<RangeInclusive<u32>> {
    let (first, last) = (*seen.first()?, *seen.last()?);
    match &expected.completeness {
        Completeness::Whole => None,
        Completeness::Downloaded => Some(first..=last),
        Completeness::AtLeast(least) => Some(first.min(*least.start())..=last.max(*least.end())),
    }
}

fn count_clip(
    seen: &[u32],
    clip: &RangeInclusive<u32>,
    bounds: Option<&RangeInclusive<u32>>,
    (step, starts): (u32, &BTreeSet<u32>),
    found: &mut VideoFindings,
) {
    let first = bounds.map_or(*clip.start(), |bounds| *clip.start().max(bounds.start()));
    let last = bounds.map_or(*clip.end(), |bounds| *clip.end().min(bounds.end()));
    if first > last {
        return;
    }
    // Which of `step` frames a segment begins with is free, so the ends are known only up to one step.
    let (mut at, mut free) = (first, step - 1);
    for stamp in seen {
        if *stamp < at && !starts.contains(stamp) {
            found.unexpected.push(*stamp);
        }
        while at + free < *stamp {
            found.missing.push(at);
            at += step;
        }
        at = stamp + step;
        free = 0;
    }
    while at <= last {
        found.missing.push(at);
        at += step;
    }
}

/// How unsteadily the frames follow the frame clock: the largest minus the smallest (time − clock), in milliseconds.
pub(crate) fn timing_ms(pictures: &[Picture], fps: Fps) -> f64 {
    let offsets = pictures
        .iter()
        .filter_map(|picture| picture.stamp.map(|stamp| picture.pts_s - fps.seconds_at(stamp)));
    let (low, high) = offsets.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), offset| {
        (low.min(offset), high.max(offset))
    });
    if low > high { 0.0 } else { (high - low) * 1_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stamps: &[u32], step: u32, starts: &[u32], expected: &Expected) -> VideoFindings {
        let fps = expected.fps;
        let picture = |stamp: &u32| Picture { pts_s: fps.seconds_at(*stamp), stamp: Some(*stamp) };
        let pictures: Vec<_> = stamps.iter().map(picture).collect();
        count(&pictures, step, &starts.iter().copied().collect(), expected)
    }

    /// Stamps 10 to 19.
    fn ten() -> Expected {
        let spec =
            ClipSpec { fps: Fps::whole(10), seconds: 1, first_frame: 10, ..Default::default() };
        spec.expected()
    }

    fn all() -> Vec<u32> {
        (10..=19).collect()
    }

    #[test]
    fn each_frame_once_and_in_order_is_no_fault() {
        let found = shown(&all(), 1, &[], &ten());
        assert_eq!((found.first, found.last), (Some(10), Some(19)));
        assert!(
            found.missing.is_empty() && found.repeated.is_empty() && found.unexpected.is_empty()
        );
    }

    #[test]
    fn a_swap_is_out_of_order_and_nothing_else() {
        let mut stamps = all();
        stamps.swap(4, 5);
        let found = shown(&stamps, 1, &[], &ten());
        assert_eq!((found.out_of_order, found.missing, found.repeated), (vec![14], vec![], vec![]));
    }

    #[test]
    fn frames_missing_at_the_ends_count_unless_the_recording_may_be_shorter() {
        let found = shown(&all()[2..8], 1, &[], &ten());
        assert_eq!(found.missing, [10, 11, 18, 19]);
        let found = shown(&all()[2..8], 1, &[], &ten().as_downloaded());
        assert_eq!(found.missing, Vec::<u32>::new());
        let found = shown(&all()[2..8], 1, &[], &ten().at_least(11..=14));
        assert_eq!(found.missing, [11]);
    }

    #[test]
    fn a_halved_rate_shows_every_second_frame_of_either_parity() {
        for stamps in [[10, 12, 14, 16, 18], [11, 13, 15, 17, 19]] {
            assert_eq!(shown(&stamps, 2, &[], &ten()).missing, Vec::<u32>::new(), "{stamps:?}");
        }
        assert_eq!(shown(&[10, 12, 16, 18], 2, &[], &ten()).missing, [14]);
        assert_eq!(
            shown(&[10, 12, 13, 15, 17, 19], 2, &[13], &ten()).unexpected,
            Vec::<u32>::new()
        );
        assert_eq!(shown(&[10, 12, 13, 15, 17, 19], 2, &[], &ten()).unexpected, [13]);
    }

    #[test]
    fn a_second_clip_continues_with_later_stamps() {
        let later =
            ClipSpec { fps: Fps::whole(10), seconds: 1, first_frame: 100, ..Default::default() };
        let expected = ten().then(&later);
        let mut stamps = all();
        stamps.extend(100..=109);
        assert_eq!(shown(&stamps, 1, &[], &expected).missing, Vec::<u32>::new());
        stamps.retain(|stamp| *stamp != 19 && *stamp != 100);
        stamps.push(500);
        let found = shown(&stamps, 1, &[], &expected);
        assert_eq!((found.missing, found.unexpected), (vec![19, 100], vec![500]));
    }

    #[test]
    fn nothing_seen_is_everything_missing() {
        assert_eq!(shown(&[], 1, &[], &ten()).missing, all());
    }

    #[test]
    fn a_late_frame_shows_in_the_timing() {
        let fps = Fps::whole(10);
        let mut pictures: Vec<_> =
            (0..5).map(|n| Picture { pts_s: fps.seconds_at(n) + 7.0, stamp: Some(n) }).collect();
        assert!(timing_ms(&pictures, fps) < 0.001);
        pictures[3].pts_s += 0.05;
        assert!((timing_ms(&pictures, fps) - 50.0).abs() < 0.01);
    }
}
