//! Cuts video into segments and parts: decides once what every encoder then does alike.
//!
//! A segment aims at 2 s and starts at an IDR; without one in time it is cut at any frame, spread so that the next
//! expected IDR falls on a cut, and where B-frames allow it so that all rungs begin with the same picture. What is left of a
//! segment is shared equally among its parts, which close before the next frame that halving keeps would exceed the target.

use std::collections::VecDeque;

use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime, Msn, PartNo};

use super::{parts::steps_of_next, rate::nearest};
use crate::{Cut, SegmentStamp, Stamp};

const SECOND: i64 = MEDIA_TIMESCALE as i64;
/// A segment is expected to last so long while the distance of keyframes is not known.
const AIM: i64 = 2 * SECOND;
/// An IDR this long after the last cut always starts a segment.
const PREFERRED: i64 = SECOND * 19 / 10;
/// An IDR this long after the last cut does when no other comes in time.
const SHORTEST: i64 = SECOND;
/// A segment is cut here at any frame.
const LONGEST: i64 = SECOND * 24 / 10;
/// What `EXT-X-TARGETDURATION` of 2 s allows a segment: its length is rounded.
const LONGEST_LISTED: i64 = SECOND * 5 / 2;
/// Pictures further apart than this are more than a part apart.
const SLOW: i64 = SECOND * 4 / 10;
/// A forced cut comes up to this many frames early where no picture shown before it is decoded behind it: as many as
/// x264 decodes out of order by default.
const REORDERED_FRAMES: i64 = 4;
/// Time without a picture that is a hole, and not jitter.
const HOLE: i64 = SECOND / 10;
/// Keyframe distances that a forecast remembers.
const REMEMBERED_DISTANCES: usize = 4;

/// Whether halving the frame rate keeps the picture presented at `pts`: every other one, counted from the segment's start
/// at the source's nominal `rate`. Stateless, and exact also for jittered milliseconds.
pub fn kept_by_halving(pts: MediaTime, segment_start: MediaTime, rate: FrameRate) -> bool {
    nearest(pts - segment_start, rate) % 2 == 0
}

/// Whether a source of this nominal rate is halved on encoded rungs: above 30 fps.
pub fn is_halved(rate: FrameRate) -> bool {
    rate.fps() > 30.5
}

/// What the cuts of a stream are made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutRule {
    /// Nominal rate of the source.
    pub rate: FrameRate,
    /// Longest part, ticks.
    pub part_target: i64,
}

impl CutRule {
    /// Ticks of one frame.
    pub(super) fn frame(&self) -> i64 {
        SECOND * i64::from(self.rate.den) / i64::from(self.rate.num)
    }

    /// Ticks between frames at which a cut may fall.
    pub(super) fn step(&self) -> i64 {
        self.frame() * if is_halved(self.rate) { 2 } else { 1 }
    }
}

/// Where numbering goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    pub next_msn: Msn,
    pub discontinuity: u64,
}

/// The cuts of one stream.
#[derive(Clone, Debug)]
pub(super) struct Stamper {
    numbering: Numbering,
    segment: Option<SegmentStamp>,
    /// The open segment was opened for the sound alone: the next picture, if it does not open another, is its first.
    is_pictureless: bool,
    part: PartNo,
    part_start: MediaTime,
    /// Where the open part is to end.
    part_due: MediaTime,
    /// Presentation minus decoding time of the last IDR.
    reorder_delay: i64,
    /// Where the picture begins that is shown last of those stamped.
    latest_pts: MediaTime,
    keyframes: KeyframeForecast,
    due: Breaks,
    /// The last segment that began with an IDR behind a discontinuity.
    changed: Option<SegmentStamp>,
}

/// The discontinuities that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Breaks {
    /// When the next segment starts anyway.
    at_segment: bool,
    /// At the next IDR, which starts a segment for it.
    at_idr: bool,
}

impl Breaks {
    /// A segment starts, with an IDR or not: whether a discontinuity lies before it.
    fn take(&mut self, idr: bool) -> bool {
        let is_due = self.at_segment || self.at_idr && idr;
        *self = Self { at_segment: false, at_idr: self.at_idr && !idr };
        is_due
    }
}

impl Stamper {
    pub(super) fn new(numbering: Numbering) -> Self {
        Self {
            numbering,
            segment: None,
            is_pictureless: false,
            part: PartNo(0),
            part_start: MediaTime(0),
            part_due: MediaTime(0),
            reorder_delay: 0,
            latest_pts: MediaTime(0),
            keyframes: KeyframeForecast::default(),
            due: Breaks::default(),
            changed: None,
        }
    }

    pub(super) const fn segment(&self) -> Option<SegmentStamp> {
        self.segment
    }

    pub(super) const fn reorder_delay(&self) -> i64 {
        self.reorder_delay
    }

    /// Decoding times are `by` ticks lower from the next picture on: boundaries stay where they are.
    pub(super) const fn lower_decoding(&mut self, by: i64) {
        self.reorder_delay += by;
    }

    pub(super) const fn keyframes(&self) -> &KeyframeForecast {
        &self.keyframes
    }

    /// The next segment is the first of a new connection: another clock, and any distance of keyframes.
    pub(super) fn start_over(&mut self) {
        self.segment = None;
        self.is_pictureless = false;
        self.keyframes = KeyframeForecast::default();
        self.due.at_segment = true;
    }

    /// The video changes at the next IDR: a segment starts there, behind a discontinuity.
    pub(super) fn break_at_next_idr(&mut self) {
        if self.segment.is_some() {
            self.due.at_idr = true;
        }
    }

    /// How many discontinuities lie before the segment of the next IDR, at least.
    pub(super) const fn discontinuity_of_next_idr(&self) -> u64 {
        self.numbering.discontinuity + (self.due.at_segment || self.due.at_idr) as u64
    }

    /// The last segment that began with an IDR behind a discontinuity.
    pub(super) const fn changed(&self) -> Option<SegmentStamp> {
        self.changed
    }

    /// The sound changes where the next segment starts, behind a discontinuity.
    pub(super) fn break_at_next_segment(&mut self) {
        self.due.at_segment = true;
    }

    /// Stamps the next picture in decoding order. Also returns its boundary: where a part that began with it would begin.
    /// `hole_from`: the one before ended there and not where this begins, so a part starts here, whose decode time is its
    /// own; or a segment that began with the hole, so that neither it nor the one before is too long.
    pub(super) fn stamp(
        &mut self,
        rule: CutRule,
        (dts, pts): (MediaTime, MediaTime),
        idr: bool,
        hole_from: Option<MediaTime>,
    ) -> (Stamp, MediaTime) {
        if idr {
            self.reorder_delay = pts - dts;
            self.keyframes.saw(pts);
        }
        let at = dts + self.reorder_delay;
        let split = hole_from.filter(|from| self.splits(rule, *from, at));
        let starts = match self.cut(rule, at, idr) {
            _ if split.is_some() => Cut::Segment,
            Cut::None if hole_from.is_some() => Cut::Part,
            starts => starts,
        };
        self.latest_pts = self.latest_pts.max(pts);
        // Whole steps before the picture, so that halving keeps it.
        let in_step = |from: MediaTime| at + -((at - from) / rule.step() * rule.step());
        let (segment, starts) = match (self.segment, starts) {
            (Some(segment), Cut::None | Cut::Part) if self.is_pictureless => {
                (SegmentStamp { start: in_step(segment.start), ..segment }, Cut::Segment)
            }
            (Some(segment), Cut::None | Cut::Part) => (segment, starts),
            _ => (self.open_segment(split.map_or(at, in_step), idr), Cut::Segment),
        };
        (self.segment, self.is_pictureless) = (Some(segment), false);
        if starts == Cut::Part {
            self.part.0 += 1;
        }
        if starts != Cut::None {
            self.begin_part(rule, segment.start, at);
        }
        (Stamp { segment, part: self.part, starts, ends: None }, at)
    }

    /// Whether a segment ends with the hole between two pictures: it is long enough, or would become too long.
    fn splits(&self, rule: CutRule, from: MediaTime, at: MediaTime) -> bool {
        self.segment.is_some_and(|segment| {
            let too_long = at - segment.start > LONGEST + rule.step() / 2;
            at - from > HOLE && (too_long || from - segment.start >= SHORTEST)
        })
    }

    /// A part starts late, with a unit that is already stamped, because the next one at `next_at` came too late for it.
    pub(super) fn cut_late(
        &mut self,
        rule: CutRule,
        stamp: &mut Stamp,
        at: MediaTime,
        next_at: MediaTime,
    ) {
        let Some(segment) = self.segment else { return };
        let may_cut = stamp.starts == Cut::None && cut_may_fall(rule, at, segment.start);
        if may_cut && next_at - self.part_start > rule.part_target && at > self.part_start {
            self.part.0 += 1;
            self.begin_part(rule, segment.start, at);
            stamp.part = self.part;
            stamp.starts = Cut::Part;
        }
    }

    /// Opens the next segment at `start`, although no picture comes: for the sound. The first later picture belongs into
    /// it, or into a later one.
    pub(super) fn open_without_picture(&mut self, start: MediaTime) -> SegmentStamp {
        let segment = self.open_segment(start, false);
        self.is_pictureless = true;
        segment
    }

    /// Opens the next segment at `start`, with an IDR or not.
    pub(super) fn open_segment(&mut self, start: MediaTime, idr: bool) -> SegmentStamp {
        let changes = self.due.take(idr);
        self.numbering.discontinuity += u64::from(changes);
        let segment = SegmentStamp {
            msn: self.numbering.next_msn,
            discontinuity: self.numbering.discontinuity,
            start,
        };
        self.changed = Some(segment).filter(|_| changes && idr).or(self.changed);
        self.numbering.next_msn = segment.msn.next();
        self.segment = Some(segment);
        self.part = PartNo(0);
        self.part_start = start;
        segment
    }

    fn begin_part(&mut self, rule: CutRule, segment_start: MediaTime, at: MediaTime) {
        let step = rule.step();
        let left = (self.expected_end(rule, segment_start, at) - at + step / 2) / step;
        self.part_start = at;
        self.part_due = at + steps_of_next(left, step, rule.part_target) * step;
    }

    /// Where the next segment or part is to be expected, if pictures come as evenly as until now.
    pub(super) fn next_cut(&self, rule: CutRule) -> MediaTime {
        let Some(segment) = self.segment else { return self.part_due };
        let end = self.expected_end(rule, segment.start, self.part_start);
        if end > self.part_start { end.min(self.part_due) } else { self.part_due }
    }

    /// Where the segment that began at `start` will end, as far as can be told at `at`.
    pub(super) fn expected_end(&self, rule: CutRule, start: MediaTime, at: MediaTime) -> MediaTime {
        let half_step = rule.step() / 2;
        let in_time = |idr: MediaTime| idr - start <= LONGEST + half_step;
        let Some(mut idr) = self.keyframes.next_after(at, half_step) else { return start + AIM };
        let distance = self.keyframes.longest_distance().unwrap_or(AIM).max(rule.step());
        while idr - start < PREFERRED && in_time(idr + distance) {
            idr = idr + distance;
        }
        if in_time(idr) && idr - start >= SHORTEST {
            return idr;
        }
        let next = if in_time(idr) { idr + distance } else { idr };
        // With B-frames it comes up to three more frames early: a last part that is a little shorter does no harm.
        let early = if self.reorder_delay > 0 { rule.frame() } else { 0 };
        start + (spread(next - start) - early)
    }

    fn cut(&self, rule: CutRule, at: MediaTime, idr: bool) -> Cut {
        let Some(segment) = self.segment else { return Cut::Segment };
        if idr && self.due.at_idr {
            return Cut::Segment;
        }
        let half_step = rule.step() / 2;
        let elapsed = at - segment.start;
        let other_idr_in_time = || {
            let next = self.keyframes.next_after(at, half_step);
            next.is_some_and(|next| next - segment.start <= LONGEST + half_step)
        };
        if idr && (elapsed >= PREFERRED || elapsed >= SHORTEST && !other_idr_in_time()) {
            return Cut::Segment;
        }
        if !cut_may_fall(rule, at, segment.start) {
            return Cut::None;
        }
        if elapsed >= SHORTEST && self.next_would_be_too_late(at, elapsed) {
            return Cut::Segment;
        }
        let left = self.forced_length(at, segment.start, half_step) - elapsed - half_step;
        let is_clean = self.latest_pts + rule.frame() / 2 <= at;
        let may_be_early = self.reorder_delay > 0 && is_clean && !other_idr_in_time();
        if left < 0 || may_be_early && left < REORDERED_FRAMES * rule.frame() {
            return Cut::Segment;
        }
        let is_full = at + rule.step() - self.part_start > rule.part_target;
        if is_full || at + half_step >= self.part_due { Cut::Part } else { Cut::None }
    }

    /// Whether a segment that goes on until the next picture would be too long, if a slow source goes on as slowly.
    fn next_would_be_too_late(&self, at: MediaTime, elapsed: i64) -> bool {
        let distance = at - self.latest_pts;
        self.reorder_delay == 0 && distance > SLOW && elapsed + distance >= LONGEST_LISTED
    }

    /// How long a segment may become without an IDR: the time to the next expected one, in equal segments.
    fn forced_length(&self, at: MediaTime, start: MediaTime, half_step: i64) -> i64 {
        match self.keyframes.next_after(at, half_step) {
            Some(next) if next - start > LONGEST + half_step => spread(next - start),
            _ => LONGEST,
        }
    }
}

/// Length of equal segments that fill `distance`.
fn spread(distance: i64) -> i64 {
    let segments = (distance + LONGEST - 1) / LONGEST;
    distance / segments
}

fn cut_may_fall(rule: CutRule, at: MediaTime, segment_start: MediaTime) -> bool {
    !is_halved(rule.rate) || kept_by_halving(at, segment_start, rule.rate)
}

/// When the next IDR is expected: a running maximum of the last distances.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyframeForecast {
    last: Option<MediaTime>,
    distances: VecDeque<i64>,
}

impl KeyframeForecast {
    fn saw(&mut self, at: MediaTime) {
        if let Some(last) = self.last.replace(at) {
            if self.distances.len() == REMEMBERED_DISTANCES {
                self.distances.pop_front();
            }
            self.distances.push_back(at - last);
        }
    }

    /// The last distance, ticks.
    pub(super) fn last_distance(&self) -> Option<i64> {
        self.distances.back().copied()
    }

    /// The longest of the last distances, ticks.
    pub(super) fn longest_distance(&self) -> Option<i64> {
        self.distances.iter().max().copied()
    }

    /// The next IDR expected later than `margin` after `at`; `None` when none is, or the distance is not known yet.
    fn next_after(&self, at: MediaTime, margin: i64) -> Option<MediaTime> {
        let next = self.last? + self.longest_distance()?;
        (next - at > margin).then_some(next)
    }
}
