//! The stream's one clock and its cuts: FLV tag bodies in, stamped [`Item`]s out.
//!
//! ```text
//! Waiting --IDR--> Video <--IDR-- AudioOnly <--only sound for 2 s-- Waiting
//!    ^               | PublisherLeft   |
//!    +-PublisherBack-+------ Away -----+
//! ```
//!
//! Feed one [`Input`], take [`Item`]s until `None`, sleep until [`Timeline::deadline`]. Reads no clock: `now` only says
//! how long a picture has been held back. Does not decide when a session ends, and keeps nothing for a successor
//! ([`crate::Replay`] does).

mod audio;
mod audio_cuts;
mod clock;
mod input;
mod order;
mod outbox;
mod parts;
mod rate;
mod release;
mod skew;
mod stamper;
mod standstill;
mod stats;
mod video;

use std::time::Duration;

use bytes::Bytes;
use millrace_types::{MEDIA_TIMESCALE, MediaTime, Mono, Msn, Wall};

use self::{
    audio::AudioTrack,
    clock::SourceClock,
    outbox::Outbox,
    stamper::{Numbering, Stamper},
    standstill::Standstill,
    stats::Meter,
    video::{RawPicture, VideoTrack},
};
pub use self::{
    input::{Input, Resume, SourceError, SourceHints, SourceLimits, TimelineStart},
    stamper::{is_halved, kept_by_halving},
    stats::Stats,
};
use crate::{
    AacHeader, AudioTag, AvcRecord, Cut, Item, Track, VideoConfig, VideoTag, parse_audio,
    parse_video,
};

const SECOND: i64 = MEDIA_TIMESCALE as i64;
/// 90 kHz ticks in a millisecond.
const TICKS_PER_MS: i64 = SECOND / 1_000;
/// Longest part by default: a sixth of 2 s and one frame at 23.976 fps, so that any segment can be shared equally.
const PART_TARGET: i64 = 376 * TICKS_PER_MS;
/// Sound alone for this long makes a stream without pictures.
const AUDIO_ONLY_AFTER: i64 = 2 * SECOND;
/// Pictures that nothing tells the rate of wait no longer than this.
const LONGEST_DETECTION: Duration = Duration::from_secs(1);
/// Broken access units in a row after which the stream cannot be decoded.
const MAX_BROKEN_UNITS: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// For the first IDR of a connection.
    Waiting,
    Video,
    AudioOnly,
    /// The publisher is gone.
    Away,
}

/// One stream's clock, over all connections of its session.
#[derive(Clone, Debug)]
pub struct Timeline {
    mode: Mode,
    low_latency: bool,
    limits: SourceLimits,
    hints: SourceHints,
    part_target: Option<i64>,
    clock: SourceClock,
    video: VideoTrack,
    announced: Option<VideoConfig>,
    audio: AudioTrack,
    stamper: Stamper,
    out: Outbox,
    meter: Meter,
    last_end: MediaTime,
    first_audio: Option<MediaTime>,
    newest_video: Option<MediaTime>,
    newest_audio: Option<MediaTime>,
    broken_units: u32,
    /// Of the pictures, and of the sound.
    standstill: [Standstill; 2],
    shifts_before: u64,
}

impl Timeline {
    /// A session whose first publisher connected at `start.utc`.
    pub fn new(start: TimelineStart) -> Self {
        let (numbering, last_end) = match start.resume {
            Some(resume) => (
                Numbering { next_msn: resume.next_msn, discontinuity: resume.discontinuity + 1 },
                resume.last_end,
            ),
            None => {
                let next_msn = Msn(start.utc.unix_seconds());
                (Numbering { next_msn, discontinuity: 0 }, MediaTime(0))
            }
        };
        let part_target = start.resume.and_then(|resume| resume.part_target);
        let anchor = anchor(start.utc, last_end, part_target);
        let mut video = VideoTrack::default();
        video.start_over(anchor, part_target.unwrap_or(PART_TARGET));
        Self {
            mode: Mode::Waiting,
            low_latency: start.low_latency,
            limits: start.limits,
            hints: SourceHints::default(),
            part_target,
            clock: SourceClock::new(anchor),
            video,
            announced: None,
            audio: AudioTrack::new(),
            stamper: Stamper::new(numbering),
            out: Outbox::default(),
            meter: Meter::default(),
            last_end,
            first_audio: None,
            newest_video: None,
            newest_audio: None,
            broken_units: 0,
            standstill: Default::default(),
            shifts_before: 0,
        }
    }

    /// Takes in what happened at `now`.
    ///
    /// # Errors
    /// A source that cannot be taken: the publisher is to be refused. The timeline itself stays good.
    pub fn handle(&mut self, now: Mono, input: Input) -> Result<(), SourceError> {
        match input {
            Input::Video { timestamp_ms, body } => match parse_video(body)? {
                VideoTag::Header(record) => self.video_header(&record)?,
                VideoTag::Frame { composition_ms, data } => {
                    self.look_for_standstill(now, Track::Video, timestamp_ms)?;
                    self.video_frame(now, timestamp_ms, composition_ms, &data)?;
                }
                VideoTag::Nothing => {}
            },
            Input::Audio { timestamp_ms, body } => match parse_audio(body)? {
                AudioTag::Header(asc) => self.audio_header(AacHeader::parse(asc)?),
                AudioTag::Frame(bytes) => {
                    self.look_for_standstill(now, Track::Audio, timestamp_ms)?;
                    self.audio_frame(now, timestamp_ms, bytes);
                }
                AudioTag::Nothing => {}
            },
            Input::Metadata(hints) => self.hints = hints,
            Input::PublisherLeft => self.close(),
            Input::PublisherBack { utc } => self.reopen(utc),
            Input::Elapsed => self.elapsed(now),
        }
        Ok(())
    }

    /// The next item of the sequence.
    pub fn poll(&mut self) -> Option<Item> {
        self.out.pop()
    }

    /// The bytes of the picture that waits for its successor. Whoever takes them from here keeps them: its unit comes without.
    pub fn held_bytes(&mut self) -> Option<&mut Bytes> {
        self.video.held.as_mut().map(|held| &mut held.bytes)
    }

    /// What the rungs are made of changes at a keyframe that starts a segment behind a discontinuity: how many lie before that segment,
    /// at least. It is the next keyframe, unless there is one already behind `shown`, the last segment of which anything was shown.
    pub fn break_at_next_keyframe(&mut self, shown: Msn) -> u64 {
        if let Some(changed) = self.stamper.changed().filter(|changed| changed.msn > shown) {
            return changed.discontinuity;
        }
        self.stamper.break_at_next_idr();
        self.stamper.discontinuity_of_next_idr()
    }

    /// When [`Input::Elapsed`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        let held = self.video.held.as_ref().map(|held| held.until);
        let waiting = self.video.waiting_since().map(|since| since + LONGEST_DETECTION);
        [held, waiting].into_iter().flatten().min()
    }

    /// When the picture is to be here that begins the next part, if all goes on as it did: what comes before it completes none.
    /// `None` while that cannot be told, as before the second keyframe.
    pub fn next_part_due(&self) -> Option<Mono> {
        let is_known = self.stamper.keyframes().last_distance().is_some();
        let is_steady = self.mode == Mode::Video && self.video.held.is_some() && is_known;
        self.video.next_part_due().filter(|_| is_steady)
    }

    /// The stream's part target, ticks of 90 kHz; known from the first [`Item::Unit`] on, and never another.
    pub const fn part_target(&self) -> Option<i64> {
        self.part_target
    }

    /// Where the last segment ended; what [`Resume::last_end`] wants. Final once the publisher has left.
    pub const fn last_end(&self) -> MediaTime {
        self.last_end
    }

    /// A look at the source.
    pub fn stats(&self) -> Stats {
        let (bitrate_bps, fps) = self.meter.rates();
        let ms = |ticks: i64| u64::try_from(ticks / TICKS_PER_MS).unwrap_or(0);
        let ahead = match (self.newest_audio, self.newest_video) {
            (Some(audio), Some(video)) => {
                (audio - video - self.clock.sound_delayed()) / TICKS_PER_MS
            }
            _ => 0,
        };
        Stats {
            bitrate_bps,
            fps,
            keyframe_last_ms: self.stamper.keyframes().last_distance().map(ms),
            keyframe_longest_ms: self.stamper.keyframes().longest_distance().map(ms),
            dropped_frames: self.video.dropped_frames,
            waiting_for_idr: self.video.waiting_for_idr,
            moved_frames: self.video.moved_frames,
            late_audio_frames: self.audio.late_frames,
            silent_audio_frames: self.audio.silent_frames,
            clock_shifts: self.shifts_before + self.clock.shifts(),
            audio_ahead_ms: ahead,
            audio_delayed_ms: self.clock.sound_delayed() / TICKS_PER_MS,
            video: self.announced.clone(),
            audio: self.audio.header().map(AacHeader::config),
            regular_frame_rate: self.video.measured_rate().is_some(),
        }
    }
}

/// UTC, or one part after what was already played if that is later.
fn anchor(utc: Wall, last_end: MediaTime, part_target: Option<i64>) -> MediaTime {
    MediaTime::from_wall(utc).max(last_end + part_target.unwrap_or(PART_TARGET))
}

/// What came, handled.
impl Timeline {
    fn video_header(&mut self, record: &Bytes) -> Result<(), SourceError> {
        let record = AvcRecord::parse(record)?;
        let sps = record.main_sps()?;
        let fps = sps.frame_rate.map_or(0, |rate| rate.fps().round() as u32);
        let (width, height) = (sps.width, sps.height);
        if width.max(height) > self.limits.long_side
            || u64::from(width) * u64::from(height) > u64::from(self.limits.pixels)
        {
            return Err(SourceError::Limit { width, height, fps });
        }
        self.video.describe(record);
        Ok(())
    }

    fn look_for_standstill(
        &mut self,
        now: Mono,
        track: Track,
        timestamp_ms: u32,
    ) -> Result<(), SourceError> {
        let (track, seen) = match track {
            Track::Video => ("pictures", &mut self.standstill[0]),
            Track::Audio => ("sound", &mut self.standstill[1]),
        };
        match seen.came(now, timestamp_ms) {
            true => Err(SourceError::Standstill { track, seconds: standstill::PATIENCE.as_secs() }),
            false => Ok(()),
        }
    }

    fn video_frame(
        &mut self,
        now: Mono,
        timestamp_ms: u32,
        composition_ms: i32,
        data: &Bytes,
    ) -> Result<(), SourceError> {
        let step = self.rule().frame();
        let mut at = self.clock.place(Track::Video, timestamp_ms, step);
        if self.newest_video.is_none() {
            at = self.begin_behind_anchor(at);
        }
        if let Some(by) = self.video.late_for_good(now, at) {
            self.clock.delay(Track::Video, by);
            at = at + by;
        }
        self.came(Track::Video, at);
        self.meter.count(at, data.len(), true);
        let picture = match self.video.clean(data) {
            Ok(picture) => picture,
            Err(_) if self.broken_units < MAX_BROKEN_UNITS => {
                self.broken_units += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.broken_units = 0;
        let Some(picture) = picture.filter(|_| self.mode != Mode::Away) else { return Ok(()) };
        let composition = i64::from(composition_ms) * TICKS_PER_MS;
        let (idr, bytes) = (picture.idr, picture.bytes);
        let raw = RawPicture { at, composition, idr, bytes, arrived: now };
        for raw in self.video.admit(raw, &self.hints) {
            self.admitted(raw)?;
        }
        Ok(())
    }

    fn audio_header(&mut self, header: AacHeader) {
        if self.audio.describe(header, &mut self.out) {
            self.stamper.break_at_next_segment();
        }
    }

    fn audio_frame(&mut self, now: Mono, timestamp_ms: u32, bytes: Bytes) {
        if self.mode == Mode::Away {
            return;
        }
        let mut at = self.clock.place(Track::Audio, timestamp_ms, self.audio.step());
        if let Some(by) = self.audio.late_for_good(now, at) {
            self.clock.delay(Track::Audio, by);
            at = at + by;
        }
        self.came(Track::Audio, at);
        self.meter.count(at, bytes.len(), false);
        if self.audio.header().is_none() {
            return;
        }
        let first = *self.first_audio.get_or_insert(at);
        self.audio.frame(at, bytes);
        match self.mode {
            Mode::Waiting => {
                let no_video = self.hints.has_video == Some(false)
                    || self.video.record().is_none() && at - first >= AUDIO_ONLY_AFTER;
                if no_video && self.hints.has_video != Some(true) {
                    self.go_audio_only(first);
                }
            }
            Mode::AudioOnly => self.cut_audio_only(),
            Mode::Video => self.pass_silent_video(at),
            Mode::Away => {}
        }
    }

    /// The first picture does not lie before the connection's start, where nothing may be decoded: rather the sound that came
    /// before it, and of which nothing was let go, lies later too.
    fn begin_behind_anchor(&mut self, at: MediaTime) -> MediaTime {
        let by = self.clock.anchor() - at;
        if self.mode != Mode::Waiting || by <= 0 {
            return at;
        }
        self.clock.delay_both(by);
        self.audio.delay_early(by);
        for moment in [&mut self.first_audio, &mut self.newest_audio] {
            *moment = moment.map(|moment| moment + by);
        }
        at + by
    }

    /// A unit lies at `at`; the first ones tell which track is to be waited for.
    fn came(&mut self, track: Track, at: MediaTime) {
        let newest = match track {
            Track::Video => &mut self.newest_video,
            Track::Audio => &mut self.newest_audio,
        };
        let is_first = newest.replace(at).is_none();
        if is_first && let (Some(audio), Some(video)) = (self.newest_audio, self.newest_video) {
            self.video.comes_behind(audio - video);
            self.audio.comes_behind(video - audio);
        }
    }

    fn elapsed(&mut self, now: Mono) {
        if self.video.waiting_since().is_some_and(|since| since + LONGEST_DETECTION <= now) {
            for raw in self.video.admit_waiting() {
                // A limit is found again, and reported, with the next picture.
                let _ = self.admitted(raw);
            }
        }
        if self.video.held.as_ref().is_some_and(|held| held.until <= now) {
            self.let_go_of_held();
        }
    }

    fn close(&mut self) {
        for raw in self.video.admit_waiting() {
            let _ = self.admitted(raw);
        }
        let frame = self.rule().frame();
        let video_end = (self.video.floor() + self.stamper.reorder_delay()).max(self.last_end);
        let end = match (self.mode, self.video.held.take()) {
            (Mode::Waiting | Mode::Away, _) => None,
            (Mode::Video, Some(held)) => {
                let (next, end) = (held.dts + frame, held.boundary + frame);
                self.out.unit(held.finish(next, Some((Cut::Segment, end))));
                Some(end)
            }
            (Mode::Video, None) => Some(video_end),
            (Mode::AudioOnly, _) => self.audio.end(),
        };
        if let Some(end) = end {
            self.audio.close(end, self.target(), &mut self.out);
            self.last_end = self.last_end.max(end) + self.audio.step();
        }
        self.mode = Mode::Away;
    }

    fn reopen(&mut self, utc: Wall) {
        if self.mode != Mode::Away {
            self.close();
        }
        let anchor = anchor(utc, self.last_end, self.part_target);
        self.shifts_before += self.clock.shifts();
        self.clock = SourceClock::new(anchor);
        self.video.start_over(anchor, self.target());
        if self.announced.is_some() || self.stamper.segment().is_some() {
            self.stamper.start_over();
        }
        self.hints = SourceHints { frame_rate: self.hints.frame_rate, ..SourceHints::default() };
        (self.first_audio, self.newest_audio, self.newest_video) = (None, None, None);
        (self.broken_units, self.standstill) = (0, Default::default());
        self.mode = Mode::Waiting;
    }
}
