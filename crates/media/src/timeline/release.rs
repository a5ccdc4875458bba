//! Pictures and sound, cut and let go in their canonical order: sound waits until every segment that starts before it
//! is known, and a picture until its successor tells how long it lasts.

use std::time::Duration;

use millrace_types::{FrameRate, MediaTime};

use super::{
    Mode, PART_TARGET, SECOND, SourceError, TICKS_PER_MS, Timeline,
    audio::ALLOWANCE,
    audio_cuts::last_tick,
    stamper::CutRule,
    video::{HeldPicture, RawPicture},
};
use crate::{AacHeader, TrackConfig, VideoConfig};

/// Longest part of a slow or irregular source, ticks: a quarter of 2 s and most of a frame.
const SLOW_PART_TARGET: i64 = 540 * TICKS_PER_MS;
/// Parts of a channel that asks for low latency: an eighth of 2 s, ticks.
const LOW_LATENCY_PART: i64 = SECOND / 4;
/// Segments while there are no pictures, ticks.
const AUDIO_SEGMENT: i64 = 2 * SECOND;
/// A picture is held back for its successor this much longer than the distance of the last two: one that is late in the
/// network leaves no hole.
const HOLD_MARGIN: Duration = Duration::from_millis(250);
/// The longest distance that counts for it, ticks.
const LONGEST_DISTANCE: i64 = SECOND;
/// Ticks by which a whole number of frames may differ from their sum.
const ROUNDING: i64 = 2;

impl Timeline {
    pub(super) fn rule(&self) -> CutRule {
        let rate = self.video.rate().map_or(FrameRate { num: 30, den: 1 }, |rate| rate.nominal);
        CutRule { rate, part_target: self.target() }
    }

    pub(super) fn target(&self) -> i64 {
        self.part_target.unwrap_or(PART_TARGET)
    }

    pub(super) fn admitted(&mut self, mut raw: RawPicture) -> Result<(), SourceError> {
        let news = if raw.idr { self.news()? } else { None };
        if raw.idr && self.mode == Mode::AudioOnly {
            self.stamper.break_at_next_idr();
        }
        let lowered = self.video.learn(&mut raw);
        self.stamper.lower_decoding(lowered);
        let earliest = self.video.floor();
        let (dts, pts) = self.video.place(&raw);
        let distance = (dts - earliest).clamp(0, LONGEST_DISTANCE);
        let rule = self.rule();
        let let_go = self.video.let_go_until.take().filter(|end| (dts - *end).abs() > ROUNDING);
        let hole_from = let_go.map(|end| end.max(earliest) + self.stamper.reorder_delay());
        if let Some(held) = &mut self.video.held {
            let next_at = dts + self.stamper.reorder_delay();
            self.stamper.cut_late(rule, &mut held.stamp, held.boundary, next_at);
        }
        let last_segment = self.stamper.segment().map(|segment| segment.msn);
        let (stamp, boundary) = self.stamper.stamp(rule, (dts, pts), raw.idr, hole_from);
        if let Some(held) = self.video.held.take() {
            self.out.unit(held.finish(dts, Some((stamp.starts, boundary))));
        }
        if let Some(config) = news {
            self.out.config(TrackConfig::Video(config.clone()));
            self.announced = Some(config);
        }
        if last_segment != Some(stamp.segment.msn) {
            let end = self.stamper.expected_end(rule, stamp.segment.start, boundary);
            self.audio.open_at(stamp.segment, end);
        }
        self.mode = Mode::Video;
        let RawPicture { idr, bytes, arrived, .. } = raw;
        self.video.boundary = boundary;
        self.video.foresee(self.stamper.next_cut(rule), boundary, arrived);
        let until = arrived + HOLD_MARGIN + Duration::from_millis((distance / TICKS_PER_MS) as u64);
        let is_first = last_segment.is_none();
        self.video.held =
            Some(HeldPicture { dts, pts, idr, stamp, boundary, bytes, until, is_first });
        self.release_audio(boundary);
        self.last_end = self.last_end.max(boundary + rule.frame());
        Ok(())
    }

    /// How the video is described from the coming IDR on, if that is new.
    fn news(&mut self) -> Result<Option<VideoConfig>, SourceError> {
        let Some(record) = self.video.record().filter(|_| self.video.changed) else {
            return Ok(None);
        };
        let rate = self.rule().rate;
        let config = record.config(rate)?;
        if rate.fps() > f64::from(self.limits.fps) + 0.5 {
            let (width, height, fps) = (config.width, config.height, rate.fps().round() as u32);
            return Err(SourceError::Limit { width, height, fps });
        }
        let target = self.part_target_for(rate);
        self.part_target.get_or_insert(target);
        self.video.changed = false;
        if self.announced.as_ref() == Some(&config) {
            return Ok(None);
        }
        self.stamper.break_at_next_idr();
        Ok(Some(config))
    }

    fn part_target_for(&self, rate: FrameRate) -> i64 {
        let regular = self.video.rate().is_some_and(|rate| rate.regular);
        match regular && rate.fps() >= 20.5 {
            false => SLOW_PART_TARGET,
            true if self.low_latency => low_latency_part_target(rate),
            true => PART_TARGET,
        }
    }

    /// Sound before `up_to` may go: every segment that starts earlier is known.
    fn release_audio(&mut self, up_to: MediaTime) {
        let Some(segment) = self.stamper.segment() else { return };
        let is_absent = self.hints.has_audio == Some(false) || up_to - segment.start > ALLOWANCE;
        if self.audio.header().is_none() && is_absent {
            self.audio.describe(AacHeader::silent_source(), &mut self.out);
        }
        self.audio.release(up_to, self.target(), &mut self.out);
    }

    pub(super) fn let_go_of_held(&mut self) {
        if let Some(held) = self.video.held.take() {
            let (end, boundary) = (held.dts + self.rule().frame(), held.boundary);
            self.out.unit(held.finish(end, None));
            self.video.let_go_until = Some(end);
            self.release_audio(boundary);
        }
    }

    /// Sound that has gone far ahead of the last picture is let go, and no picture may come before it any more.
    pub(super) fn pass_silent_video(&mut self, newest_audio: MediaTime) {
        let delay = self.stamper.reorder_delay();
        if newest_audio - (self.video.floor() + delay) < self.video.allowance {
            return;
        }
        self.let_go_of_held();
        let to = newest_audio + -SECOND;
        self.video.raise_floor(to + -delay);
        self.open_segments_without_pictures(to);
        self.release_audio(to);
        self.out.tick(to);
    }

    /// Segments go on in the sound, none of them too long, and begin behind the last picture. Video has none of those
    /// that end before a picture comes again.
    fn open_segments_without_pictures(&mut self, to: MediaTime) {
        let pictures_end = self.video.let_go_until.map(|end| end + self.stamper.reorder_delay());
        while let Some(segment) = self.stamper.segment() {
            let start = (segment.start + AUDIO_SEGMENT).max(pictures_end.unwrap_or_default());
            if start > to {
                break;
            }
            let segment = self.stamper.open_without_picture(start);
            self.audio.open_at(segment, segment.start + AUDIO_SEGMENT);
        }
    }

    pub(super) fn go_audio_only(&mut self, first: MediaTime) {
        self.part_target.get_or_insert(PART_TARGET);
        self.mode = Mode::AudioOnly;
        let segment = self.stamper.open_segment(first, false);
        self.audio.open_at(segment, segment.start + AUDIO_SEGMENT);
        self.cut_audio_only();
    }

    pub(super) fn cut_audio_only(&mut self) {
        while let (Some(span), Some(segment)) = (self.audio.next_frame(), self.stamper.segment()) {
            let next = last_tick(span.pts + span.samples, span.rate);
            if next - segment.start >= AUDIO_SEGMENT {
                let segment = self.stamper.open_segment(next, false);
                self.audio.open_at(segment, segment.start + AUDIO_SEGMENT);
            }
            self.audio.release_one(self.target(), &mut self.out);
            self.last_end = self.last_end.max(next);
            self.video.raise_floor(self.video.floor().max(next));
        }
    }
}

/// The longest part with low latency at this rate: the whole frames in a share of that length and one more, told in whole
/// milliseconds.
fn low_latency_part_target(rate: FrameRate) -> i64 {
    let step = CutRule { rate, part_target: LOW_LATENCY_PART }.step();
    // At 23.976 fps six frames are a little more.
    let frames = (LOW_LATENCY_PART + step / 8) / step + 1;
    (frames * step + TICKS_PER_MS - 1) / TICKS_PER_MS * TICKS_PER_MS
}
