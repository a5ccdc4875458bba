//! A rung that is encoded: pictures in the order of presentation in, parts out. Decoding time is presentation time.
//!
//! The encoder may keep pictures back; what is pushed and what comes out are matched one to one, in order.

use std::collections::VecDeque;

use millrace_media::{SegmentStamp, TrackConfig, VideoConfig, cmaf::Sample, kept_by_halving};
use millrace_transcode::{Backend, Encoded, Encoder, EncoderSettings, Frame, Size, TranscodeError};
use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime, Msn, PartNo, VideoRung};
use millrace_wire::Message;

use crate::{grid::Slot, packager::Packager};

/// A segment of 2 s may hold two seconds at the cap and the rate control's buffer of one: 1.5 times the cap.
const PEAK_OF_CAP_PERCENT: u64 = 150;
/// What packaging adds to the cap of rate control: `moof` and `mdat` headers of parts of 0.2 s and more.
const PACKAGING_BPS: u64 = 10_000;

/// One encoded rung.
pub(crate) struct EncodedRung<B: Backend> {
    video: VideoRung,
    packager: Packager,
    /// The last part that exists already.
    done: Option<(Msn, PartNo)>,
    encoder: Option<B::Encoder>,
    /// Segment of the last picture pushed.
    segment: Option<Msn>,
    /// Pushed and not yet come out.
    pushed: VecDeque<(i64, Slot)>,
    /// Come out, and not in a part yet: its duration is known only with the next picture.
    coded: Option<(Slot, Encoded)>,
}

impl<B: Backend> EncodedRung<B> {
    pub(crate) const fn new(
        video: VideoRung,
        packager: Packager,
        done: Option<(Msn, PartNo)>,
    ) -> Self {
        Self {
            video,
            packager,
            done,
            encoder: None,
            segment: None,
            pushed: VecDeque::new(),
            coded: None,
        }
    }

    /// Of its pictures.
    pub(crate) const fn size(&self) -> Size {
        Size { width: self.video.width, height: self.video.height }
    }

    /// What exists already, or is made elsewhere.
    pub(crate) const fn set_done(&mut self, done: Option<(Msn, PartNo)>) {
        self.done = done;
    }

    /// Whether the rung shows the picture at `pts` and has not published it already.
    pub(crate) fn wants(&self, pts: MediaTime, slot: Slot, source_rate: FrameRate) -> bool {
        self.done.is_none_or(|done| slot.key() > done)
            && (!self.video.halved || kept_by_halving(pts, slot.segment.start, source_rate))
    }

    /// Encodes a picture of the rung's size that belongs to the part `slot`.
    pub(crate) fn push(
        &mut self,
        backend: &B,
        picture: &B::Frame,
        pts: i64,
        slot: Slot,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        debug_assert_eq!(picture.size(), self.size());
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.open(backend, picture, out)?,
        };
        let idr = self.segment.replace(slot.segment.msn) != Some(slot.segment.msn);
        self.pushed.push_back((pts, slot));
        encoder.push(picture, pts, idr)?;
        self.drain(&mut encoder, out)?;
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Nothing follows without a break: everything comes out, and the open segment is closed, at `end` if that is known.
    pub(crate) fn flush(
        &mut self,
        end: Option<MediaTime>,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        self.segment = None;
        if let Some(mut encoder) = self.encoder.take() {
            encoder.finish()?;
            self.drain(&mut encoder, out)?;
        }
        if let Some((slot, coded)) = self.coded.take() {
            let nominal = MediaTime(coded.pts + i64::from(self.nominal_duration()));
            let end = end.filter(|end| end.0 > coded.pts).unwrap_or(nominal);
            self.package(slot, coded, end.0);
            out.extend(self.packager.close(end, true));
        }
        Ok(())
    }

    /// No picture is in that segment: says so, unless pictures from before it are still on their way.
    pub(crate) fn gap(&mut self, segment: SegmentStamp, end: MediaTime) -> Option<Message> {
        let is_new = self.done.is_none_or(|done| (segment.msn, PartNo(0)) > done);
        let is_flushed = self.segment.is_none() && self.pushed.is_empty() && self.coded.is_none();
        (is_new && is_flushed).then(|| self.packager.gap(segment, end)).flatten()
    }

    /// Where the last part that was closed ended.
    pub(crate) const fn closed_to(&self) -> Option<MediaTime> {
        self.packager.closed_to()
    }

    fn open(
        &mut self,
        backend: &B,
        first: &B::Frame,
        out: &mut Vec<Message>,
    ) -> Result<B::Encoder, TranscodeError> {
        let VideoRung { frame_rate, bitrate_kbps, width, height, .. } = self.video;
        let settings = EncoderSettings { size: self.size(), frame_rate, bitrate_kbps };
        let encoder = backend.encoder(&settings, first)?;
        let avcc = encoder.avcc();
        let codecs = match avcc.get(1..4) {
            Some([profile, compatibility, level]) => {
                format!("avc1.{profile:02x}{compatibility:02x}{level:02x}")
            }
            _ => return Err(TranscodeError::NoEncoder("parameter sets cut off".to_owned())),
        };
        let config = TrackConfig::Video(VideoConfig { avcc, width, height, frame_rate, codecs });
        let peak_bps = u64::from(bitrate_kbps) * 1_000 * PEAK_OF_CAP_PERCENT / 100 + PACKAGING_BPS;
        out.extend(self.packager.describe(&config, (peak_bps, None), true));
        Ok(encoder)
    }

    fn drain(
        &mut self,
        encoder: &mut B::Encoder,
        out: &mut Vec<Message>,
    ) -> Result<(), TranscodeError> {
        while let Some(coded) = encoder.poll()? {
            let (pts, slot) =
                self.pushed.pop_front().expect("invariant: an encoder makes up no pictures");
            debug_assert_eq!(pts, coded.pts, "pictures come out in the order they went in");
            self.settle(pts, slot, out);
            self.coded = Some((slot, coded));
        }
        // The next picture is known before it comes out: a part need not wait for its encoding.
        if let Some(&(pts, slot)) = self.pushed.front() {
            self.settle(pts, slot, out);
        }
        Ok(())
    }

    /// Packages the picture that came out last, now that the next one's time and part are known.
    fn settle(&mut self, next_pts: i64, next: Slot, out: &mut Vec<Message>) {
        if let Some((slot, coded)) = self.coded.take() {
            if next.key() == slot.key() {
                return self.package(slot, coded, next_pts);
            }
            let has_hole = next.after < next.at && next.after.0 > coded.pts;
            self.package(slot, coded, if has_hole { next.after.0 } else { next_pts });
            let closes = next.segment.msn != slot.segment.msn;
            out.extend(self.packager.close(next.after, closes));
        }
    }

    fn package(&mut self, slot: Slot, coded: Encoded, end: i64) {
        let duration = u32::try_from(end - coded.pts).unwrap_or(1);
        let sample =
            Sample { composition_offset: 0, duration, sync: coded.idr, bytes: coded.bytes };
        self.packager.push(slot, coded.pts, sample);
    }

    fn nominal_duration(&self) -> u32 {
        let FrameRate { num, den } = self.video.frame_rate;
        MEDIA_TIMESCALE * den / num.max(1)
    }
}
