//! Cuts sound into the video's segments and into parts of its own.
//!
//! Sound has no holes, so the next frame's time is known and nothing is held back to learn where a part ends.

use std::collections::VecDeque;

use millrace_types::{MEDIA_TIMESCALE, MediaTime, PartNo};

use super::parts::steps_of_next;
use crate::{Boundary, Cut, SegmentStamp, Stamp};

/// Whether `samples` at `rate` lie at or after `moment`, exactly.
pub(super) fn reached(samples: i64, rate: u32, moment: MediaTime) -> bool {
    i128::from(samples) * i128::from(MEDIA_TIMESCALE) >= i128::from(moment.0) * i128::from(rate)
}

/// The first sample at `rate` that lies at or after `moment`.
pub(super) fn first_sample(moment: MediaTime, rate: u32) -> i64 {
    let product = i128::from(moment.0) * i128::from(rate);
    -(-product).div_euclid(i128::from(MEDIA_TIMESCALE)) as i64
}

/// Whole samples at `rate` in so many ticks.
fn whole_samples(ticks: i64, rate: u32) -> i64 {
    let product = i128::from(ticks) * i128::from(rate);
    product.div_euclid(i128::from(MEDIA_TIMESCALE)) as i64
}

/// The last tick that does not lie after `samples` at `rate`.
pub(super) fn last_tick(samples: i64, rate: u32) -> MediaTime {
    let product = i128::from(samples) * i128::from(MEDIA_TIMESCALE);
    MediaTime(product.div_euclid(i128::from(rate)) as i64)
}

/// One frame of sound, in samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub pts: i64,
    pub samples: i64,
    pub rate: u32,
}

/// The cuts of the sound.
#[derive(Clone, Debug, Default)]
pub(super) struct AudioCuts {
    segment: Option<SegmentStamp>,
    /// Where that is expected to end, as far as could be told when it began.
    expected_end: MediaTime,
    /// Segments that have not begun in the sound, and where each is expected to end; `None` is the end of the last.
    upcoming: VecDeque<(MediaTime, Option<(SegmentStamp, MediaTime)>)>,
    part: PartNo,
    part_start: i64,
    /// Where the open part is to end, samples.
    part_end: i64,
    part_due: bool,
}

impl AudioCuts {
    /// A segment begins, which is expected to end at `expected_end`.
    pub(super) fn open_at(&mut self, segment: SegmentStamp, expected_end: MediaTime) {
        self.upcoming.push_back((segment.start, Some((segment, expected_end))));
    }

    /// The last segment ends at `end`.
    pub(super) fn close_at(&mut self, end: MediaTime) {
        self.upcoming.push_back((end, None));
    }

    /// At least a part starts with the next frame: its clock is another.
    pub(super) fn part_is_due(&mut self) {
        self.part_due = true;
    }

    /// Stamps the next frame; `None` when it lies in no segment.
    pub(super) fn stamp(&mut self, span: Span, part_target: i64) -> Option<Stamp> {
        let next = span.pts + span.samples;
        let mut starts = Cut::None;
        while let Some((_, segment)) =
            self.upcoming.pop_front_if(|(at, _)| reached(span.pts, span.rate, *at))
        {
            self.segment = segment.map(|(segment, _)| segment);
            self.expected_end = segment.map_or(MediaTime::default(), |(_, end)| end);
            starts = Cut::Segment;
        }
        match starts {
            Cut::Segment => self.begin_part(PartNo(0), span, part_target),
            _ if self.part_due => {
                self.begin_part(PartNo(self.part.0 + 1), span, part_target);
                starts = Cut::Part;
            }
            _ => {}
        }
        let ends = match self.upcoming.front() {
            Some((at, _)) if reached(next, span.rate, *at) => {
                Some(Boundary { at: *at, segment: true })
            }
            _ => self.part_is_full(span, part_target).then(|| Boundary {
                at: MediaTime::from_timescale(next, span.rate),
                segment: false,
            }),
        };
        self.part_due = ends.is_some();
        self.segment.map(|segment| Stamp { segment, part: self.part, starts, ends })
    }

    fn begin_part(&mut self, part: PartNo, span: Span, part_target: i64) {
        let end = self.upcoming.front().map_or(self.expected_end, |(at, _)| *at);
        // A frame that begins just before the end belongs to the segment; one too few would leave one for a part of its own.
        let margin = span.samples * 9 / 8;
        let left = (first_sample(end, span.rate) - span.pts + margin) / span.samples;
        let target = whole_samples(part_target, span.rate);
        (self.part, self.part_start) = (part, span.pts);
        self.part_end = span.pts + steps_of_next(left, span.samples, target) * span.samples;
    }

    /// Whether it ends where it is to, or one more frame would make the part longer than its target.
    fn part_is_full(&self, span: Span, part_target: i64) -> bool {
        let next = span.pts + span.samples;
        let with_next = next + span.samples - self.part_start;
        next >= self.part_end || with_next > whole_samples(part_target, span.rate)
    }
}
