//! Turns the messages of one stream into init sections and parts. Does no I/O and reads no clock.
//!
//! ```text
//! new(Start) → take(Item)* → finish()
//! ```

use millrace_media::{AccessUnit, Config, Item, SegmentStamp, Track, TrackConfig};
use millrace_transcode::{Backend, TranscodeError};
use millrace_types::{MEDIA_TIMESCALE, MediaTime, Msn, PartNo, RungId, RungKind};
use millrace_wire::{Heartbeat, Message, Start};

use crate::{
    encoded::EncodedRung,
    grid::Cuts,
    packager::{Blank, Packager},
    passthrough::Passthrough,
    transcoder::Transcoder,
};

/// One stream's way through a worker.
pub struct Pipeline<B: Backend> {
    passthroughs: Vec<Passthrough>,
    transcoder: Option<Transcoder<B>>,
    video_cuts: Cuts,
    audio_cuts: Cuts,
    audio_timescale: u32,
    /// The segment that the last sound was of.
    sound_in: Option<SegmentStamp>,
    /// Where the pictures end, if the sound closed their segment and nothing came since.
    pictures_end: Option<MediaTime>,
    /// Describes the video from its next IDR on.
    next_video: Option<TrackConfig>,
    last_seq: u64,
    newest: Option<MediaTime>,
}

impl<B: Backend> Pipeline<B> {
    /// Prepares every rung of the ladder; opens no decoder or encoder before there is a picture.
    ///
    /// # Errors
    /// [`TranscodeError::NoEncoder`] when a rung is to be encoded and the backend cannot.
    pub fn new(backend: B, start: &Start) -> Result<Self, TranscodeError> {
        let (mut passthroughs, mut encoded) = (Vec::new(), Vec::new());
        let announced = start.hello.as_ref().map(|hello| hello.announced).unwrap_or_default();
        let blank = |rung: &RungId| {
            let hello = start.hello.as_ref()?;
            let mark = hello.given_up.iter().find(|mark| mark.rung == *rung)?;
            Some(match hello.whole_from {
                0 => Blank::UpTo(mark.msn),
                discontinuities => Blank::Before(discontinuities),
            })
        };
        for rung in &start.ladder.rungs {
            let mark = start.resume.iter().find(|mark| mark.rung == rung.id);
            let done = mark.map(|mark| (mark.msn, mark.part));
            let packager = Packager::new(rung.id.clone(), start.epoch);
            match &rung.kind {
                RungKind::Source => {
                    let said = announced.video_kbps;
                    let packager = packager.blank(blank(&rung.id));
                    passthroughs.push(Passthrough::new(Track::Video, packager, said, done));
                }
                RungKind::Audio => {
                    let said = announced.audio_kbps;
                    passthroughs.push(Passthrough::new(Track::Audio, packager, said, done));
                }
                RungKind::Video(video) => {
                    encoded.push(EncodedRung::new(video.clone(), packager, done));
                }
            }
        }
        let transcoder = match encoded.is_empty() {
            true => None,
            false => Some(Transcoder::new(backend, encoded)?),
        };
        Ok(Self {
            passthroughs,
            transcoder,
            video_cuts: Cuts::default(),
            audio_cuts: Cuts::default(),
            audio_timescale: 0,
            sound_in: None,
            pictures_end: None,
            next_video: None,
            last_seq: 0,
            newest: None,
        })
    }

    /// Takes the next record of the stream; appends what is complete with it to `out`.
    ///
    /// # Errors
    /// The backend cannot go on.
    pub fn take(&mut self, item: &Item, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        self.last_seq = item.seq();
        self.pictures_end = None;
        match item {
            Item::Config(Config { track: track @ TrackConfig::Video(_), .. }) => {
                self.next_video = Some(track.clone());
            }
            Item::Config(Config { track: track @ TrackConfig::Audio(audio), .. }) => {
                self.audio_timescale = audio.sample_rate;
                self.describe(track, out);
            }
            Item::Unit(unit) => match unit.track {
                Track::Audio => self.take_audio(unit, out)?,
                Track::Video => self.take_video(unit, out)?,
            },
            // A tick makes nothing complete: only the sound tells in which segment it is.
            Item::Tick(_) => {}
        }
        Ok(())
    }

    /// What a standby makes begins with the segment `msn`, of which no unit was taken yet.
    pub fn begin(&mut self, msn: Msn) {
        let done = msn.0.checked_sub(1).map(|before| (Msn(before), PartNo(u32::MAX)));
        self.passthroughs.iter_mut().for_each(|rung| rung.set_done(done));
        if let Some(transcoder) = &mut self.transcoder {
            transcoder.set_done(done);
        }
    }

    /// Nothing came for a while: if the last picture, or the last sound, closed its segment, encoded rungs need not wait for
    /// another picture either. Decoders go on, and keep what they have: of a slow source the next picture refers to it.
    ///
    /// # Errors
    /// The backend cannot go on.
    pub fn idle(&mut self, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        match (self.idle_end(), &mut self.transcoder) {
            (Some(end), Some(transcoder)) => transcoder.close_segment(end, out),
            _ => Ok(()),
        }
    }

    /// Nothing has come for so long that nothing more is expected before a keyframe: decoders give what they kept back too.
    ///
    /// # Errors
    /// The backend cannot go on.
    pub fn stalled(&mut self, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        match (self.idle_end(), &mut self.transcoder) {
            (Some(end), Some(transcoder)) if transcoder.keeps_back() => {
                transcoder.flush(Some(end), out)
            }
            _ => self.idle(out),
        }
    }

    /// Where the last segment ends, if the last picture or the last sound closed it. While only the pictures stop, a tick
    /// follows such sound.
    fn idle_end(&self) -> Option<MediaTime> {
        self.video_cuts.segment_end().or(self.pictures_end)
    }

    /// The stream is over: flushes every rung and closes its segment.
    ///
    /// # Errors
    /// The backend cannot go on.
    pub fn finish(&mut self, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        self.passthroughs.iter_mut().for_each(|rung| rung.finish(out));
        let end = self.video_cuts.segment_end();
        self.transcoder.as_mut().map_or(Ok(()), |transcoder| transcoder.flush(end, out))
    }

    /// Sound comes after the first picture of its segment, unless there is none: then the pictures' last segment is over.
    fn take_audio(
        &mut self,
        unit: &AccessUnit,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        if let Some(end) = self.video_cuts.end_before(unit.stamp.segment.msn) {
            self.close_pictures(end, out)?;
        }
        self.say_gap(unit.stamp.segment, out);
        let timescale = self.audio_timescale.max(1);
        let slot = self.audio_cuts.slot(unit, timescale);
        self.newest = self.newest.max(Some(MediaTime::from_timescale(unit.pts, timescale)));
        self.passthroughs.iter_mut().for_each(|rung| rung.take(unit, slot, out));
        // Pictures that were let go without a successor do not close their segment: its sound does.
        let closes = unit.stamp.ends.is_some_and(|boundary| boundary.segment);
        let end = self.video_cuts.end_of_open(unit.stamp.segment.msn).filter(|_| closes);
        self.pictures_end = end;
        end.map_or(Ok(()), |end| self.close_pictures(end, out))
    }

    /// No picture follows in the segment of the last one, which ends at `end`.
    fn close_pictures(
        &mut self,
        end: MediaTime,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        self.passthroughs.iter_mut().for_each(|rung| rung.finish_pictures(out));
        self.transcoder.as_mut().map_or(Ok(()), |it| it.close_segment(end, out))
    }

    /// When sound of a segment comes, none of the one before follows, nor a picture: if that had none, it is a gap.
    fn say_gap(&mut self, segment: SegmentStamp, out: &mut Vec<Message>) {
        let before = self.sound_in.replace(segment).filter(|before| before.msn < segment.msn);
        let Some(before) = before.filter(|it| it.discontinuity == segment.discontinuity) else {
            return;
        };
        if self.video_cuts.end_before(before.msn).is_some() {
            let gaps = self.passthroughs.iter_mut();
            out.extend(gaps.filter_map(|rung| rung.gap(before, segment.start)));
            if let Some(transcoder) = &mut self.transcoder {
                transcoder.gap(before, segment.start, out);
            }
        }
    }

    fn take_video(
        &mut self,
        unit: &AccessUnit,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        let discontinuity = unit.stamp.segment.discontinuity;
        if self.video_cuts.discontinuity().is_some_and(|before| before != discontinuity)
            && let Some(transcoder) = &mut self.transcoder
        {
            transcoder.flush(self.video_cuts.segment_end(), out)?;
        }
        // A description holds from the next IDR on: what comes before it, if anything, still belongs to the last one.
        if unit.idr
            && let Some(track) = self.next_video.take()
        {
            self.describe(&track, out);
            if let (TrackConfig::Video(video), Some(transcoder)) = (&track, &mut self.transcoder) {
                transcoder.describe(video, out)?;
            }
        }
        let slot = self.video_cuts.slot(unit, MEDIA_TIMESCALE);
        self.newest = self.newest.max(Some(MediaTime(unit.pts)));
        self.passthroughs.iter_mut().for_each(|rung| rung.take(unit, slot, out));
        self.transcoder.as_mut().map_or(Ok(()), |transcoder| transcoder.take(unit, slot, out))
    }

    fn describe(&mut self, track: &TrackConfig, out: &mut Vec<Message>) {
        out.extend(self.passthroughs.iter_mut().filter_map(|rung| rung.describe(track)));
    }

    /// What was taken last, and how much media waits to become parts.
    pub fn heartbeat(&self) -> Heartbeat {
        let passed = self.passthroughs.iter().filter_map(Passthrough::closed_to);
        let encoded = self.transcoder.iter().filter_map(Transcoder::closed_to);
        let lag = self.newest.zip(passed.chain(encoded).min()).map_or(0, |(to, from)| to - from);
        let lag_ms = u32::try_from(lag / i64::from(MEDIA_TIMESCALE / 1_000)).unwrap_or_default();
        Heartbeat { seq: self.last_seq, lag_ms }
    }
}
