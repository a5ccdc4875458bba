//! A rung that is the publisher's own track: its units are repackaged as they are, and cut exactly where they are stamped.

use millrace_media::{AccessUnit, Cut, SegmentStamp, Track, TrackConfig, cmaf::Sample};
use millrace_types::{MediaTime, Msn, PartNo};
use millrace_wire::Message;

use crate::{grid::Slot, packager::Packager};

/// Peak bits per second assumed of AAC, until it is measured.
const AUDIO_BPS: u64 = 200_000;
/// Peak bits per pixel assumed of a publisher's video, until it is measured.
const VIDEO_BITS_PER_PIXEL: f64 = 0.15;

/// One passthrough rung.
#[derive(Debug)]
pub(crate) struct Passthrough {
    track: Track,
    packager: Packager,
    /// What the publisher says of the track's bitrate, bits per second.
    announced_bps: Option<u64>,
    /// The last part that exists already.
    done: Option<(Msn, PartNo)>,
    timescale: u32,
    /// Where the last unit taken ends in presentation time.
    reached: MediaTime,
}

impl Passthrough {
    pub(crate) fn new(
        track: Track,
        packager: Packager,
        announced_kbps: Option<u32>,
        done: Option<(Msn, PartNo)>,
    ) -> Self {
        let announced_bps = announced_kbps.map(|kbps| u64::from(kbps) * 1_000);
        Self { track, packager, announced_bps, done, timescale: 0, reached: MediaTime(0) }
    }

    /// What exists already, or is made elsewhere.
    pub(crate) const fn set_done(&mut self, done: Option<(Msn, PartNo)>) {
        self.done = done;
    }

    /// The track is described anew.
    pub(crate) fn describe(&mut self, config: &TrackConfig) -> Option<Message> {
        if config.track() != self.track {
            return None;
        }
        self.timescale = config.timescale();
        self.packager.describe(config, (peak_bps(config), self.announced_bps), false)
    }

    /// Takes a unit of any track that belongs to the part `slot`; gives the parts that are complete with it.
    pub(crate) fn take(&mut self, unit: &AccessUnit, slot: Slot, out: &mut Vec<Message>) {
        if unit.track != self.track || self.timescale == 0 {
            return;
        }
        let is_done = self.done.is_some_and(|done| slot.key() <= done);
        if unit.stamp.starts != Cut::None && !is_done {
            let closes = unit.stamp.starts == Cut::Segment;
            out.extend(self.packager.close(self.part_end(slot.after), closes));
        }
        if unit.idr {
            self.packager.reached_idr(slot.segment);
        }
        if is_done {
            return;
        }
        let sample = Sample {
            composition_offset: i32::try_from(unit.pts - unit.dts).unwrap_or_default(),
            duration: unit.duration,
            sync: unit.idr || self.track == Track::Audio,
            bytes: unit.bytes.clone(),
        };
        self.packager.push(self.slot_of(unit, slot), unit.dts, sample);
        let end = MediaTime::from_timescale(unit.pts + i64::from(unit.duration), self.timescale);
        self.reached = self.reached.max(end);
        if let Some(boundary) = unit.stamp.ends {
            out.extend(self.packager.close(self.part_end(boundary.at), boundary.segment));
        }
    }

    /// Where a part of this track begins: pictures at the boundary itself, sound at its first sample behind it.
    fn slot_of(&self, unit: &AccessUnit, slot: Slot) -> Slot {
        match self.track {
            Track::Video => slot,
            Track::Audio => {
                Slot { at: MediaTime::from_timescale(unit.pts, self.timescale), ..slot }
            }
        }
    }

    /// Where a part of this track ends that is cut at `boundary`: pictures there, sound with its last sample.
    const fn part_end(&self, boundary: MediaTime) -> MediaTime {
        match self.track {
            Track::Video => boundary,
            Track::Audio => self.reached,
        }
    }

    /// Nothing follows: closes the open segment short.
    pub(crate) fn finish(&mut self, out: &mut Vec<Message>) {
        out.extend(self.packager.close(self.reached, true));
    }

    /// No picture follows in the open segment: closes it short, if it is one of pictures.
    pub(crate) fn finish_pictures(&mut self, out: &mut Vec<Message>) {
        if self.track == Track::Video {
            self.finish(out);
        }
    }

    /// No picture is in that segment: says so, if it is a rung of pictures.
    pub(crate) fn gap(&mut self, segment: SegmentStamp, end: MediaTime) -> Option<Message> {
        let is_new = self.done.is_none_or(|done| (segment.msn, PartNo(0)) > done);
        let is_ours = self.track == Track::Video && is_new;
        is_ours.then(|| self.packager.gap(segment, end)).flatten()
    }

    /// Where the last part that was closed ended.
    pub(crate) const fn closed_to(&self) -> Option<MediaTime> {
        self.packager.closed_to()
    }
}

fn peak_bps(config: &TrackConfig) -> u64 {
    match config {
        TrackConfig::Audio(_) => AUDIO_BPS,
        TrackConfig::Video(video) => {
            let pixels = f64::from(video.width) * f64::from(video.height) * video.frame_rate.fps();
            (pixels * VIDEO_BITS_PER_PIXEL) as u64
        }
    }
}
