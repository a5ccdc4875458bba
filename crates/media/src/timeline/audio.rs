//! The sound of a stream: a sample counter without holes, silence where frames are missing, release behind the video.
//!
//! Timestamps only move the counter when they differ by more than 40 ms, and then by whole frames of silence or by
//! frames left out, so that one frame's end is always the next one's start.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_types::{MEDIA_TIMESCALE, MediaTime, Mono};

use super::{
    audio_cuts::{AudioCuts, Span, first_sample, last_tick, reached},
    outbox::Outbox,
    skew::{Lateness, wait_for},
};
use crate::{AacHeader, AccessUnit, SegmentStamp, Track, TrackConfig};

const TICKS_PER_MS: i64 = MEDIA_TIMESCALE as i64 / 1_000;
/// Difference between timestamp and counter that is jitter.
const MAX_JITTER: i64 = 40 * TICKS_PER_MS;
/// How far sound may trail behind the video before it counts as missing.
pub(super) const ALLOWANCE: i64 = 500 * TICKS_PER_MS;
/// What the allowance grows to for a publisher whose sound always comes late, if it did not from the first frame on.
const MAX_ALLOWANCE: i64 = 2_000 * TICKS_PER_MS;
/// Frames kept from before the video's start: 4 s at 96 kHz.
const MAX_EARLY_FRAMES: usize = 384;

/// The sound of one stream.
#[derive(Clone, Debug)]
pub(super) struct AudioTrack {
    header: Option<AacHeader>,
    pending: Option<AacHeader>,
    switch_at: Option<MediaTime>,
    start: Option<MediaTime>,
    /// Where the next frame lies, samples.
    position: Option<i64>,
    early: VecDeque<(MediaTime, Bytes)>,
    queue: VecDeque<(i64, Bytes)>,
    cuts: AudioCuts,
    allowance: i64,
    missing: bool,
    lateness: Lateness,
    pub(super) late_frames: u64,
    pub(super) silent_frames: u64,
}

impl AudioTrack {
    pub(super) fn new() -> Self {
        Self {
            header: None,
            pending: None,
            switch_at: None,
            start: None,
            position: None,
            early: VecDeque::new(),
            queue: VecDeque::new(),
            cuts: AudioCuts::default(),
            allowance: ALLOWANCE,
            missing: false,
            lateness: Lateness::default(),
            late_frames: 0,
            silent_frames: 0,
        }
    }

    pub(super) const fn header(&self) -> Option<&AacHeader> {
        self.header.as_ref()
    }

    /// Ticks of one frame.
    pub(super) fn step(&self) -> i64 {
        self.header.as_ref().map_or(1_920, |header| {
            i64::from(header.frame_samples()) * i64::from(MEDIA_TIMESCALE)
                / i64::from(header.core_rate())
        })
    }

    /// Where the next frame lies, once there was one.
    pub(super) fn end(&self) -> Option<MediaTime> {
        Some(last_tick(self.position?, self.header.as_ref()?.core_rate()))
    }

    /// Takes a header. Returns whether it waits for a discontinuity.
    pub(super) fn describe(&mut self, header: AacHeader, out: &mut Outbox) -> bool {
        if self.header.as_ref() == Some(&header) {
            self.pending = None;
            return false;
        }
        if self.header.is_some() && self.position.is_some() {
            self.pending = Some(header);
            return true;
        }
        out.config(TrackConfig::Audio(header.config()));
        self.header = Some(header);
        self.early.clear();
        false
    }

    /// Sound begins with the first segment. `expected_end`: where the segment will end, as far as can be told.
    pub(super) fn open_at(&mut self, segment: SegmentStamp, expected_end: MediaTime) {
        self.cuts.open_at(segment, expected_end);
        if self.pending.is_some() && self.switch_at.is_none() {
            self.switch_at = Some(segment.start);
            self.take_back(segment.start);
        }
        if self.start.is_none() {
            self.start = Some(segment.start);
            for (at, bytes) in std::mem::take(&mut self.early) {
                self.frame(at, bytes);
            }
        }
    }

    /// Its first frame came so many ticks behind the pictures: as long is waited for all others.
    pub(super) fn comes_behind(&mut self, ticks: i64) {
        self.allowance = wait_for(ticks, self.allowance);
    }

    /// What came already lies `by` ticks later; nothing of it was let go.
    pub(super) fn delay_early(&mut self, by: i64) {
        self.early.iter_mut().for_each(|(at, _)| *at = *at + by);
    }

    /// How late sound is, ticks, if it is for good, and by more than is waited for. To be asked once for every frame, which lies
    /// at `at`.
    pub(super) fn late_for_good(&mut self, now: Mono, at: MediaTime) -> Option<i64> {
        let lateness = self.end().map(|end| end - at).filter(|lateness| *lateness > self.allowance);
        self.lateness.for_good(now, lateness)
    }

    /// Takes a frame that was sent at `at`.
    pub(super) fn frame(&mut self, at: MediaTime, bytes: Bytes) {
        let Some(start) = self.start else {
            if self.early.len() == MAX_EARLY_FRAMES {
                self.early.pop_front();
            }
            self.early.push_back((at, bytes));
            return;
        };
        let Some((rate, frame)) = self.shape().filter(|_| self.pending.is_none()) else { return };
        let sent = at.in_timescale(rate);
        let resumes = self.missing || self.position.is_none();
        let position = match self.position {
            Some(position) => position,
            None if sent < first_sample(start, rate) => return,
            None => sent - (sent - first_sample(start, rate)) / frame * frame,
        };
        self.position = Some(position);
        let jitter = MAX_JITTER * i64::from(rate) / i64::from(MEDIA_TIMESCALE);
        let ahead = sent - position;
        if ahead < -jitter {
            self.late_frames += 1;
            let lateness = -ahead * i64::from(MEDIA_TIMESCALE) / i64::from(rate);
            let usual = (lateness + ALLOWANCE / 4).min(MAX_ALLOWANCE);
            self.allowance = self.allowance.max(usual);
            self.missing &= lateness >= self.allowance;
            return;
        }
        if ahead > jitter || resumes {
            for _ in 0..(ahead + frame / 2) / frame {
                self.push_silence();
            }
        }
        self.missing = false;
        self.push(bytes);
    }

    /// Lets go what lies before the video's progress `up_to`, filling with silence what is missing.
    pub(super) fn release(&mut self, up_to: MediaTime, part_target: i64, out: &mut Outbox) {
        self.fill(up_to);
        self.emit(Some(up_to), part_target, out);
        self.switch_when_over(out);
    }

    /// Lets the next frame go: there is no video to wait for.
    pub(super) fn release_one(&mut self, part_target: i64, out: &mut Outbox) {
        if let Some(span) = self.next_frame() {
            self.emit_one(span, part_target, out);
        }
        self.switch_when_over(out);
    }

    /// The next frame to be let go.
    pub(super) fn next_frame(&self) -> Option<Span> {
        let (rate, samples) = self.shape()?;
        self.queue.front().map(|(pts, _)| Span { pts: *pts, samples, rate })
    }

    /// The connection is over and its last segment ends at `end`: fills up to it, lets go, and waits for the next start.
    pub(super) fn close(&mut self, end: MediaTime, part_target: i64, out: &mut Outbox) {
        self.cuts.close_at(end);
        if let Some((rate, _)) = self.shape() {
            while self.position.is_some_and(|position| !reached(position, rate, end)) {
                self.push_silence();
            }
            self.emit(None, part_target, out);
        }
        if let Some(header) = self.pending.take() {
            out.config(TrackConfig::Audio(header.config()));
            self.header = Some(header);
        }
        *self = Self {
            header: self.header.take(),
            late_frames: self.late_frames,
            silent_frames: self.silent_frames,
            ..Self::new()
        };
    }

    fn shape(&self) -> Option<(u32, i64)> {
        self.header.as_ref().map(|header| (header.core_rate(), i64::from(header.frame_samples())))
    }

    fn fill(&mut self, up_to: MediaTime) {
        let (Some(start), Some((rate, frame))) = (self.start, self.shape()) else { return };
        let end = self.position.map_or(start, |position| last_tick(position, rate));
        self.missing |= up_to - end > self.allowance || self.pending.is_some();
        if !self.missing {
            return;
        }
        let position = *self.position.get_or_insert(first_sample(start, rate));
        // The old sound ends with the frame that reaches the switch.
        let over = self.switch_at.map_or(i64::MAX, |at| first_sample(at, rate) - position);
        let to_video = (first_sample(up_to, rate) - position) / frame;
        let to_switch = over.max(0).saturating_add(frame - 1) / frame;
        let reaches = self.switch_at.is_some_and(|at| at <= up_to);
        let count = if reaches { to_switch } else { to_video };
        for _ in 0..count.min(to_switch) {
            self.push_silence();
        }
    }

    /// Drops frames that would lie at or after `moment`: they are no longer described by what is effective there.
    fn take_back(&mut self, moment: MediaTime) {
        let Some((rate, _)) = self.shape() else { return };
        while let Some((pts, _)) = self.queue.pop_back_if(|(pts, _)| reached(*pts, rate, moment)) {
            self.position = Some(pts);
        }
    }

    fn push_silence(&mut self) {
        if let Some(silence) = self.header.as_ref().map(AacHeader::silent_frame) {
            self.silent_frames += 1;
            self.push(silence);
        }
    }

    fn push(&mut self, bytes: Bytes) {
        if let (Some(position), Some((_, frame))) = (self.position, self.shape()) {
            self.queue.push_back((position, bytes));
            self.position = Some(position + frame);
        }
    }

    fn emit(&mut self, up_to: Option<MediaTime>, part_target: i64, out: &mut Outbox) {
        while let Some(span) = self.next_frame() {
            let end = span.pts + span.samples;
            if up_to.is_some_and(|up_to| end > first_sample(up_to, span.rate)) {
                break;
            }
            self.emit_one(span, part_target, out);
        }
    }

    fn emit_one(&mut self, span: Span, part_target: i64, out: &mut Outbox) {
        let stamp = self.cuts.stamp(span, part_target);
        if let (Some((pts, bytes)), Some(stamp)) = (self.queue.pop_front(), stamp) {
            let (track, duration) = (Track::Audio, span.samples as u32);
            out.unit(AccessUnit {
                seq: 0,
                track,
                dts: pts,
                pts,
                duration,
                idr: true,
                stamp,
                bytes,
            });
        }
    }

    /// From the segment that waits for it on, the new header describes the sound.
    fn switch_when_over(&mut self, out: &mut Outbox) {
        let (Some(at), Some((rate, _))) = (self.switch_at, self.shape()) else { return };
        let over = self.position.is_none_or(|position| reached(position, rate, at));
        if !over || !self.queue.is_empty() {
            return;
        }
        let end = self.end();
        self.switch_at = None;
        self.cuts.part_is_due();
        if let Some(header) = self.pending.take() {
            out.config(TrackConfig::Audio(header.config()));
            self.position = end.map(|end| first_sample(end, header.core_rate()));
            self.header = Some(header);
            self.missing = false;
        }
    }
}
