//! Where parts lie in time, read off the stamps: the router decided it, here it is only looked up.

use std::collections::VecDeque;

use millrace_media::{AccessUnit, Boundary, Cut, SegmentStamp, Track};
use millrace_types::{MEDIA_TIMESCALE, MediaTime, Msn, PartNo};

/// Ticks without a picture that are a hole, and not jitter.
const HOLE: i64 = MEDIA_TIMESCALE as i64 / 10;

/// One part of a segment, and the moment it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) segment: SegmentStamp,
    pub(crate) part: PartNo,
    pub(crate) at: MediaTime,
    /// Where what precedes it ended: before `at` where a hole lies between them.
    pub(crate) after: MediaTime,
}

impl Slot {
    /// What orders parts and names them within a rendition.
    pub(crate) fn key(&self) -> (Msn, PartNo) {
        (self.segment.msn, self.part)
    }
}

/// Follows the stamps of one track, unit by unit in decoding order.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    slot: Option<Slot>,
    ended: Option<Boundary>,
    /// `pts - dts` of the last IDR.
    reorder: i64,
    /// Where the last of the pictures ends.
    reached: Option<MediaTime>,
}

impl Cuts {
    /// The part that `unit` belongs to. `timescale` is that of its track.
    pub(crate) fn slot(&mut self, unit: &AccessUnit, timescale: u32) -> Slot {
        let stamp = &unit.stamp;
        if unit.idr {
            self.reorder = unit.pts - unit.dts;
        }
        let ended = std::mem::replace(&mut self.ended, stamp.ends);
        let moment = match unit.track {
            Track::Video => MediaTime(unit.dts + self.reorder),
            Track::Audio => MediaTime::from_timescale(unit.pts, timescale),
        };
        let end = MediaTime::from_timescale(unit.pts + i64::from(unit.duration), timescale);
        let before = self.reached.replace(self.reached.map_or(end, |reached| reached.max(end)));
        let hole_from = before.filter(|before| ended.is_none() && moment - *before > HOLE);
        let at = match (stamp.starts, ended) {
            (Cut::Segment, _) if hole_from.is_none() && moment - stamp.segment.start <= HOLE => {
                stamp.segment.start
            }
            (Cut::Part, Some(boundary)) => boundary.at,
            _ => moment,
        };
        let after = hole_from.unwrap_or(at);
        let slot = match self.slot {
            Some(slot) if slot.key() == (stamp.segment.msn, stamp.part) => slot,
            _ => Slot { segment: stamp.segment, part: stamp.part, at, after },
        };
        *self.slot.insert(slot)
    }

    /// Where the track's last segment ended, if the last unit closed it and none came since.
    pub(crate) fn segment_end(&self) -> Option<MediaTime> {
        self.ended.filter(|boundary| boundary.segment).map(|boundary| boundary.at)
    }

    /// Where the last of the units ends, if a later segment than theirs has begun with `msn`.
    pub(crate) fn end_before(&self, msn: Msn) -> Option<MediaTime> {
        self.slot.filter(|slot| slot.segment.msn < msn).and(self.reached)
    }

    /// Where the last of the units ends, if it is of the segment `msn` and did not close it.
    pub(crate) fn end_of_open(&self, msn: Msn) -> Option<MediaTime> {
        let is_open = self.segment_end().is_none();
        self.slot.filter(|slot| is_open && slot.segment.msn == msn).and(self.reached)
    }

    /// How many discontinuities lie before the last unit.
    pub(crate) fn discontinuity(&self) -> Option<u64> {
        self.slot.map(|slot| slot.segment.discontinuity)
    }
}

/// The parts that pictures still to come may belong to, in order.
#[derive(Debug, Default)]
pub(crate) struct Grid(VecDeque<Slot>);

impl Grid {
    /// Learns of a part; one already known is ignored.
    pub(crate) fn learn(&mut self, slot: Slot) {
        if self.0.back().is_none_or(|last| last.key() < slot.key()) {
            self.0.push_back(slot);
        }
    }

    /// The part of a picture at `pts`, which is never less than at the call before.
    /// A picture belongs to a part when it is presented at most `tolerance` ticks before the part starts.
    pub(crate) fn part_at(&mut self, pts: MediaTime, tolerance: i64) -> Option<Slot> {
        while self.0.get(1).is_some_and(|next| pts - next.at >= -tolerance) {
            self.0.pop_front();
        }
        self.0.front().copied()
    }
}
