//! The pictures of a stream: headers, real IDRs, the frame grid, and the one picture that is held back until its
//! successor tells how long it lasts.

use std::time::Duration;

use bytes::Bytes;
use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime, Mono};

use super::{
    SourceHints,
    order::Order,
    rate::{DETECTION_FRAMES, FrameGrid, detect, known_rate},
    skew::{Lateness, wait_for},
};
use crate::{AccessUnit, AvcError, AvcRecord, Boundary, Cut, Picture, Stamp, Track, clean_picture};

const TICKS_PER_MS: i64 = MEDIA_TIMESCALE as i64 / 1_000;
/// How near a declared rate must be to a known one: tells 30 from 29.97.
const HINT_TOLERANCE: f64 = 0.000_4;
/// Length of a frame while nothing is known of it, ticks.
const NOMINAL_FRAME: i64 = MEDIA_TIMESCALE as i64 / 30;
/// A picture that lies so much later than was sent came too late for its time, ticks.
const LATE: i64 = 200 * TICKS_PER_MS;
/// Sound may be this far ahead of the last picture before time goes on without one, ticks; where pictures always come late, farther.
const ALLOWANCE: i64 = 2 * MEDIA_TIMESCALE as i64;
/// Headers that declare more, frames per second, are not believed: some mean a clock by it.
const MOST_DECLARED: f64 = 145.0;
/// What an irregular source is described as.
const IRREGULAR: FrameRate = FrameRate { num: 30, den: 1 };

/// A picture whose place is not yet decided.
#[derive(Clone, Debug)]
pub(super) struct RawPicture {
    pub at: MediaTime,
    pub composition: i64,
    pub idr: bool,
    pub bytes: Bytes,
    pub arrived: Mono,
}

/// A picture that waits for its successor.
#[derive(Clone, Debug)]
pub(super) struct HeldPicture {
    pub dts: MediaTime,
    pub pts: MediaTime,
    pub idr: bool,
    pub stamp: Stamp,
    /// Where a part that began with it would begin.
    pub boundary: MediaTime,
    pub bytes: Bytes,
    /// When it is let go without one.
    pub until: Mono,
    /// No other of its connection came before.
    pub is_first: bool,
}

impl HeldPicture {
    /// The unit, now that it is known to last until `end`, and what begins there.
    pub(super) fn finish(self, end: MediaTime, next: Option<(Cut, MediaTime)>) -> AccessUnit {
        let ends = next.filter(|(starts, _)| *starts != Cut::None);
        let ends = ends.map(|(starts, at)| Boundary { at, segment: starts == Cut::Segment });
        AccessUnit {
            seq: 0,
            track: Track::Video,
            dts: self.dts.0,
            pts: self.pts.0,
            duration: u32::try_from(end - self.dts).unwrap_or(0),
            idr: self.idr,
            stamp: Stamp { ends, ..self.stamp },
            bytes: self.bytes,
        }
    }
}

/// What was decided about the rate of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceRate {
    /// What the track is described as.
    pub nominal: FrameRate,
    /// Whether frames come evenly.
    pub regular: bool,
}

/// The pictures of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct VideoTrack {
    record: Option<AvcRecord>,
    /// The record is not the one that was announced, and takes effect with the next IDR.
    pub(super) changed: bool,
    /// An IDR was seen since the connection or the last change.
    synced: bool,
    rate: Option<SourceRate>,
    grid: Option<FrameGrid>,
    order: Order,
    waiting: Vec<RawPicture>,
    pub(super) held: Option<HeldPicture>,
    /// Where the last picture was said to end, if it was let go without a successor.
    pub(super) let_go_until: Option<MediaTime>,
    /// Where the next part is to begin, and when the picture that it begins with is to be here.
    next_part: Option<(MediaTime, Mono)>,
    /// No picture may be decoded before this.
    floor: MediaTime,
    /// The floor is not that of the last picture.
    is_floor_raised: bool,
    /// Ticks before a connection's first floor that decoding times may still be lowered to.
    room: i64,
    /// Where a part that began with the last picture would begin.
    pub(super) boundary: MediaTime,
    /// How far they may trail behind the sound before time goes on without them, ticks.
    pub(super) allowance: i64,
    lateness: Lateness,
    pub(super) dropped_frames: u64,
    /// Those that came since there was an IDR to begin with.
    pub(super) waiting_for_idr: u64,
    /// Pictures that lie later than was sent.
    pub(super) moved_frames: u64,
}

impl VideoTrack {
    pub(super) const fn record(&self) -> Option<&AvcRecord> {
        self.record.as_ref()
    }

    pub(super) const fn rate(&self) -> Option<SourceRate> {
        self.rate
    }

    /// Takes a header.
    pub(super) fn describe(&mut self, record: AvcRecord) {
        match &mut self.record {
            Some(known) if known.same_sets(&record) => known.length_size = record.length_size,
            _ => {
                self.record = Some(record);
                self.changed = true;
                self.synced = false;
            }
        }
    }

    /// Another connection begins at `floor`, so long after all that was before: headers stay, clocks do not.
    pub(super) fn start_over(&mut self, floor: MediaTime, room: i64) {
        self.synced = false;
        self.waiting_for_idr = 0;
        self.grid = None;
        self.order = Order::default();
        self.waiting.clear();
        (self.let_go_until, self.next_part) = (None, None);
        self.raise_floor(floor);
        self.room = room;
        (self.allowance, self.lateness) = (ALLOWANCE, Lateness::default());
    }

    /// The first one came so many ticks behind the sound: as long is waited for all others.
    pub(super) fn comes_behind(&mut self, ticks: i64) {
        self.allowance = wait_for(ticks, self.allowance);
    }

    /// How late pictures are, ticks, if they are for good. To be asked once for every picture, which lies at `at`.
    pub(super) fn late_for_good(&mut self, now: Mono, at: MediaTime) -> Option<i64> {
        let lateness = self.floor + self.order.lowered() - at;
        self.lateness.for_good(now, (lateness > LATE).then_some(lateness))
    }

    /// No picture may be decoded before this.
    pub(super) const fn floor(&self) -> MediaTime {
        self.floor
    }

    /// No picture may be decoded before `floor`.
    pub(super) fn raise_floor(&mut self, floor: MediaTime) {
        self.floor = floor;
        self.is_floor_raised = true;
        self.room = 0;
    }

    /// Cleans an access unit; `None` when it cannot be used (no header, no slice, no IDR yet).
    ///
    /// # Errors
    /// A NAL unit that does not fit.
    pub(super) fn clean(&mut self, unit: &Bytes) -> Result<Option<Picture>, AvcError> {
        let Some(record) = &self.record else {
            self.drop_one();
            return Ok(None);
        };
        let picture = clean_picture(unit, record).inspect_err(|_| self.dropped_frames += 1)?;
        if let Some(record) = picture.new_record.clone().filter(|_| picture.idr) {
            self.describe(record);
        }
        self.synced |= picture.idr && !picture.bytes.is_empty();
        if picture.bytes.is_empty() {
            return Ok(None);
        }
        if !self.synced {
            self.drop_one();
            return Ok(None);
        }
        self.waiting_for_idr = 0;
        Ok(Some(picture))
    }

    /// Nothing can be made of a picture before the first IDR.
    fn drop_one(&mut self) {
        self.dropped_frames += 1;
        self.waiting_for_idr += 1;
    }

    /// Takes a picture and returns those whose rate is decided, in decoding order: all, but for the first few of a
    /// connection whose rate nothing tells.
    pub(super) fn admit(&mut self, raw: RawPicture, hints: &SourceHints) -> Vec<RawPicture> {
        let changes = raw.idr && self.changed;
        self.waiting.push(raw);
        if self.grid.is_none() || changes {
            let declared = self.declared_rate(hints);
            if declared.is_none() && self.grid.is_none() && self.waiting.len() < DETECTION_FRAMES {
                return Vec::new();
            }
            self.decide_rate(declared);
        }
        std::mem::take(&mut self.waiting)
    }

    /// Gives up waiting for enough pictures to detect a rate.
    pub(super) fn admit_waiting(&mut self) -> Vec<RawPicture> {
        if !self.waiting.is_empty() {
            self.decide_rate(None);
        }
        std::mem::take(&mut self.waiting)
    }

    /// When the first picture that waits for a rate arrived.
    pub(super) fn waiting_since(&self) -> Option<Mono> {
        self.waiting.first().map(|raw| raw.arrived)
    }

    /// Learns from a picture how far decoding times lie before what was sent; returns by how much they are lower from it on, ticks.
    /// The first picture of a connection, if it still waits, is decoded so much earlier too, as far as there is room.
    pub(super) fn learn(&mut self, raw: &mut RawPicture) -> i64 {
        let depth = self.record.as_ref().and_then(|record| record.main_sps().ok()?.max_reorder);
        let frame = self.grid.as_ref().and_then(FrameGrid::frame);
        raw.composition = self.order.composition(raw.composition, frame, raw.idr);
        let lowered = self.order.learn(raw.composition, frame.unwrap_or(NOMINAL_FRAME), depth);
        let first = self.held.as_mut().filter(|held| held.is_first);
        if first.is_some() || self.order.is_new() {
            let by = lowered.min(self.room);
            self.room -= by;
            self.floor = self.floor + -by;
            if let Some(held) = first {
                held.dts = held.dts + -by;
            }
        }
        lowered
    }

    /// Decoding and presentation time of an admitted picture that was learnt from.
    pub(super) fn place(&mut self, raw: &RawPicture) -> (MediaTime, MediaTime) {
        let is_raised = std::mem::take(&mut self.is_floor_raised);
        let floor =
            if is_raised { self.floor + self.order.lowered() } else { MediaTime::default() };
        let grid = self.grid.get_or_insert_with(|| FrameGrid::new(None));
        let placed = grid.place(raw.at, raw.composition, floor);
        self.moved_frames += u64::from(placed.0 - raw.at > LATE);
        // What a picture was said to last cannot be taken back.
        let earliest = self.let_go_until.map_or(self.floor, |end| end.max(self.floor));
        let (dts, pts) = self.order.settle(placed, raw.idr, earliest, self.boundary);
        self.floor = dts + TICKS_PER_MS;
        (dts, pts)
    }

    /// Frames per second by the headers: metadata first, since it is what the person chose.
    fn declared_rate(&self, hints: &SourceHints) -> Option<FrameRate> {
        let sps = self.record.as_ref().and_then(|record| record.main_sps().ok());
        let from_sps = sps.and_then(|sps| sps.frame_rate).map(FrameRate::fps);
        [hints.frame_rate, from_sps]
            .into_iter()
            .flatten()
            .filter(|fps| *fps < MOST_DECLARED)
            .find_map(|fps| known_rate(fps, HINT_TOLERANCE))
    }

    fn decide_rate(&mut self, declared: Option<FrameRate>) {
        let moments: Vec<_> = self.waiting.iter().map(|raw| raw.at.0).collect();
        let found = declared.or_else(|| detect(&moments));
        let before = self.rate.map(|rate| rate.nominal);
        if self.grid.is_none() || found.is_some() {
            self.grid = Some(FrameGrid::new(found));
            let regular = found.is_some();
            self.rate =
                Some(SourceRate { nominal: found.or(before).unwrap_or(IRREGULAR), regular });
        }
    }

    /// The next part begins at `cut`, as far as can be told from the picture at `boundary`: of all that tell, the one that was the
    /// least delayed is right.
    pub(super) fn foresee(&mut self, cut: MediaTime, boundary: MediaTime, arrived: Mono) {
        let ms = u64::try_from((cut - boundary) / TICKS_PER_MS).unwrap_or(0);
        let due = arrived + Duration::from_millis(ms);
        let known = self.next_part.filter(|(at, _)| *at == cut).map(|(_, due)| due);
        self.next_part = Some((cut, known.map_or(due, |known| known.min(due))));
    }

    /// When the picture is to be here that begins the next part; `None` where pictures come unevenly.
    pub(super) fn next_part_due(&self) -> Option<Mono> {
        self.measured_rate().and(self.next_part).map(|(_, due)| due)
    }

    /// The rate at which frames really come, as far as it is regular.
    pub(super) fn measured_rate(&self) -> Option<FrameRate> {
        self.grid.as_ref().and_then(FrameGrid::rate)
    }
}
