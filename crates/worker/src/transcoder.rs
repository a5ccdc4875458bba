//! Decodes a stream once and feeds every encoded rung, each scaled from the next larger one where that is possible.
//!
//! Every coded picture that came in goes out exactly once on every rung that shows it: in place of one that the
//! decoder could not read, the one before it is shown again.

use std::collections::BTreeSet;

use millrace_media::{AccessUnit, SegmentStamp, VideoConfig};
use millrace_transcode::{Backend, Decoder, DecoderSettings, Frame, Scaler, TranscodeError};
use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime, Msn, PartNo};
use millrace_wire::Message;

use crate::{
    encoded::EncodedRung,
    grid::{Grid, Slot},
};

/// Pictures in a row of which none could be decoded before the stream counts as undecodable.
const UNREADABLE_LIMIT: usize = 120;
/// The most pictures that H.264 lets presentation lag behind decoding.
const MAX_REORDER: i64 = 16;

/// Everything between coded pictures and encoded rungs.
pub(crate) struct Transcoder<B: Backend> {
    backend: B,
    source: Option<VideoConfig>,
    decoder: Option<B::Decoder>,
    grid: Grid,
    /// Presentation times of what the decoder was given and has not returned.
    expected: BTreeSet<i64>,
    rungs: Vec<ScaledRung<B>>,
}

struct ScaledRung<B: Backend> {
    rung: EncodedRung<B>,
    scaler: B::Scaler,
    /// The rung it is scaled from; none: from the source.
    parent: Option<usize>,
    /// The last picture in this rung's size. The decoder's own is not kept for repeating: it is several times as large.
    shown: Option<B::Frame>,
}

impl<B: Backend> Transcoder<B> {
    /// Prepares the rungs, largest first.
    pub(crate) fn new(backend: B, rungs: Vec<EncodedRung<B>>) -> Result<Self, TranscodeError> {
        let mut scaled = Vec::<ScaledRung<B>>::with_capacity(rungs.len());
        for rung in rungs {
            let scaler = backend.scaler(rung.size())?;
            let parent = scaled.iter().rposition(|larger| larger.rung.size().covers(rung.size()));
            scaled.push(ScaledRung { rung, scaler, parent, shown: None });
        }
        Ok(Self {
            backend,
            source: None,
            decoder: None,
            grid: Grid::default(),
            expected: BTreeSet::new(),
            rungs: scaled,
        })
    }

    /// What exists already of every rung, or is made elsewhere.
    pub(crate) fn set_done(&mut self, done: Option<(Msn, PartNo)>) {
        self.rungs.iter_mut().for_each(|scaled| scaled.rung.set_done(done));
    }

    /// The source is described anew: what was given before comes out first.
    pub(crate) fn describe(
        &mut self,
        source: &VideoConfig,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        if self.source.as_ref() != Some(source) {
            self.finish_decoding(out)?;
            self.source = Some(source.clone());
        }
        Ok(())
    }

    /// Takes a coded picture that is cut into the part `slot`, in decoding order.
    pub(crate) fn take(
        &mut self,
        unit: &AccessUnit,
        slot: Slot,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        let Some(source) = &self.source else { return Ok(()) };
        self.grid.learn(slot);
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            // What precedes the first IDR cannot be decoded; it comes only when the replay lost its beginning.
            None if !unit.idr => return Ok(()),
            None => self.backend.decoder(&DecoderSettings {
                avcc: source.avcc.clone(),
                reorder: reorder(unit, source.frame_rate),
            })?,
        };
        self.expected.insert(unit.pts);
        decoder.push(unit.pts, &unit.bytes)?;
        self.show_decoded(&mut decoder, out)?;
        self.decoder = Some(decoder);
        if self.expected.len() > UNREADABLE_LIMIT {
            return Err(TranscodeError::BadInput(format!("{UNREADABLE_LIMIT} pictures in a row")));
        }
        Ok(())
    }

    /// Nothing follows without a break: everything comes out, and every rung's segment is closed, at `end` if that is known.
    pub(crate) fn flush(
        &mut self,
        end: Option<MediaTime>,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        self.finish_decoding(out)?;
        self.rungs.iter_mut().try_for_each(|scaled| scaled.rung.flush(end, out))
    }

    /// Whether the decoder keeps pictures back.
    pub(crate) fn keeps_back(&self) -> bool {
        !self.expected.is_empty()
    }

    /// No picture follows in the open segment, whose last one ends at `end`: every rung closes it, unless the decoder still
    /// keeps pictures back. It stays open for what refers to them.
    pub(crate) fn close_segment(
        &mut self,
        end: MediaTime,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        if self.keeps_back() {
            return Ok(());
        }
        self.rungs.iter_mut().try_for_each(|scaled| scaled.rung.flush(Some(end), out))
    }

    /// No picture is in that segment, which ends at `end`. Says nothing while the decoder keeps pictures back.
    pub(crate) fn gap(&mut self, segment: SegmentStamp, end: MediaTime, out: &mut Vec<Message>) {
        if self.expected.is_empty() {
            out.extend(self.rungs.iter_mut().filter_map(|scaled| scaled.rung.gap(segment, end)));
        }
    }

    /// Where the slowest rung's last closed part ended, if any has closed one.
    pub(crate) fn closed_to(&self) -> Option<MediaTime> {
        self.rungs.iter().filter_map(|scaled| scaled.rung.closed_to()).min()
    }

    fn finish_decoding(&mut self, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        if let Some(mut decoder) = self.decoder.take() {
            decoder.finish()?;
            self.show_decoded(&mut decoder, out)?;
        }
        self.repeat_before(i64::MAX, out)?;
        self.expected.clear();
        Ok(())
    }

    fn show_decoded(
        &mut self,
        decoder: &mut B::Decoder,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        while let Some(frame) = decoder.poll()? {
            let pts = frame.pts();
            if self.expected.contains(&pts) {
                self.show_first(&frame)?;
                self.repeat_before(pts, out)?;
                self.expected.remove(&pts);
                self.show(&frame, pts, out)?;
            }
        }
        Ok(())
    }

    /// A picture for each rung that has none yet, so that there is one in place of every picture that could not be decoded.
    fn show_first(&mut self, frame: &B::Frame) -> Result<(), TranscodeError> {
        let mut scaled = vec![None; self.rungs.len()];
        for index in 0..self.rungs.len() {
            if self.rungs[index].shown.is_none() {
                self.rungs[index].shown = Some(self.scaled(index, frame, &mut scaled)?);
            }
        }
        Ok(())
    }

    /// Shows what was shown last in place of every picture before `pts` that the decoder did not return; nothing, if nothing
    /// was decoded yet.
    fn repeat_before(&mut self, pts: i64, out: &mut Vec<Message>) -> Result<(), TranscodeError> {
        while let Some(&missing) = self.expected.first().filter(|&&first| first < pts) {
            self.expected.remove(&missing);
            let Some(slot) = self.slot_of(missing) else { continue };
            for index in self.rungs_that_want(missing, slot) {
                let ScaledRung { rung, shown, .. } = &mut self.rungs[index];
                if let Some(picture) = shown {
                    rung.push(&self.backend, picture, missing, slot, out)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a picture to every rung that wants it.
    fn show(
        &mut self,
        frame: &B::Frame,
        pts: i64,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        let Some(slot) = self.slot_of(pts) else { return Ok(()) };
        let mut scaled = vec![None; self.rungs.len()];
        for index in self.rungs_that_want(pts, slot) {
            let picture = self.scaled(index, frame, &mut scaled)?;
            let ScaledRung { rung, shown, .. } = &mut self.rungs[index];
            rung.push(&self.backend, &picture, pts, slot, out)?;
            *shown = Some(picture);
        }
        Ok(())
    }

    /// The part that a picture belongs to.
    fn slot_of(&mut self, pts: i64) -> Option<Slot> {
        let rate = self.source_rate();
        let half_frame = i64::from(MEDIA_TIMESCALE * rate.den / (2 * rate.num.max(1)));
        self.grid.part_at(MediaTime(pts), half_frame)
    }

    fn rungs_that_want(&self, pts: i64, slot: Slot) -> Vec<usize> {
        let rate = self.source_rate();
        let wants = |it: &ScaledRung<B>| it.rung.wants(MediaTime(pts), slot, rate);
        (0..self.rungs.len()).filter(|&index| wants(&self.rungs[index])).collect()
    }

    fn source_rate(&self) -> FrameRate {
        self.source.as_ref().map_or(FrameRate { num: 30, den: 1 }, |it| it.frame_rate)
    }

    /// The picture in the size of a rung, made from its parent's and made once.
    fn scaled(
        &mut self,
        index: usize,
        frame: &B::Frame,
        scaled: &mut [Option<B::Frame>],
    ) -> Result<B::Frame, TranscodeError> {
        if let Some(picture) = &scaled[index] {
            return Ok(picture.clone());
        }
        let picture = match self.rungs[index].parent {
            Some(parent) => {
                let larger = self.scaled(parent, frame, scaled)?;
                self.rungs[index].scaler.scale(&larger)?
            }
            None => self.rungs[index].scaler.scale(frame)?,
        };
        Ok(scaled[index].insert(picture).clone())
    }
}

/// How many pictures presentation lags behind decoding, from the times of an IDR.
fn reorder(idr: &AccessUnit, rate: FrameRate) -> u8 {
    let frame = i64::from(MEDIA_TIMESCALE) * i64::from(rate.den) / i64::from(rate.num.max(1));
    let pictures = (idr.pts - idr.dts + frame / 2) / frame.max(1);
    u8::try_from(pictures.clamp(0, MAX_REORDER)).unwrap_or_default()
}
