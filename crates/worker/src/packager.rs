//! Gathers the samples of one rung's open part, and closes it into bytes and a record.

use bytes::Bytes;
use millrace_hls::{Hash, InitRecord, PartRecord, RenditionKind};
use millrace_media::{
    AvcRecord, SegmentStamp, TrackConfig,
    cmaf::{Sample, init_section, part},
};
use millrace_types::{Epoch, MediaTime, Msn, PartNo, RungId};
use millrace_wire::{Init, Message, Part};

use crate::grid::Slot;

/// One rung's packager.
#[derive(Debug)]
pub(crate) struct Packager {
    rung: RungId,
    epoch: Epoch,
    init: Option<Hash>,
    /// What precedes every IDR picture: its parameter sets, with 4-byte lengths. Some players ignore a new init section
    /// (docs/adr/0004-mid-segment-succession.md), none ignores these.
    parameter_sets: Bytes,
    open: Option<OpenPart>,
    blank: Option<Blank>,
    /// Where the last closed part ended.
    closed_to: Option<MediaTime>,
}

/// How long nothing of a rung can be shown, whose parts have no bytes then: what passes through cannot behind what an encoder made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blank {
    /// In the segments up to that one.
    UpTo(Msn),
    /// Up to the first IDR that so many discontinuities lie before.
    Before(u64),
}

#[derive(Debug)]
struct OpenPart {
    slot: Slot,
    decode_time: i64,
    samples: Vec<Sample>,
    /// What its samples need: another description may have come since.
    init: Hash,
}

impl Packager {
    pub(crate) const fn new(rung: RungId, epoch: Epoch) -> Self {
        Self {
            rung,
            epoch,
            init: None,
            parameter_sets: Bytes::new(),
            open: None,
            blank: None,
            closed_to: None,
        }
    }

    /// Nothing of it can be shown for so long.
    #[must_use]
    pub(crate) fn blank(self, blank: Option<Blank>) -> Self {
        Self { blank, ..self }
    }

    /// The next sample begins with an IDR in that segment.
    pub(crate) fn reached_idr(&mut self, segment: SegmentStamp) {
        let is_over = |blank: &Blank| match blank {
            Blank::UpTo(msn) => segment.msn > *msn,
            Blank::Before(discontinuities) => segment.discontinuity >= *discontinuities,
        };
        self.blank = self.blank.filter(|blank| !is_over(blank));
    }

    /// From here on the rung's parts need the init section of `track`; says so unless nothing changed. The bandwidth, bits per
    /// second: as capped or assumed, and as the publisher says.
    pub(crate) fn describe(
        &mut self,
        track: &TrackConfig,
        (bandwidth_bps, announced_bps): (u64, Option<u64>),
        transcoded: bool,
    ) -> Option<Message> {
        let bytes = init_section(track);
        let hash = Hash::of(&bytes);
        if self.init.replace(hash) == Some(hash) {
            return None;
        }
        if let TrackConfig::Video(video) = track {
            let record = AvcRecord::parse(&video.avcc);
            self.parameter_sets = record.map_or_else(|_| Bytes::new(), |record| record.in_band());
        }
        let (kind, codecs) = match track {
            TrackConfig::Video(video) => (
                RenditionKind::Video {
                    width: video.width,
                    height: video.height,
                    frame_rate: video.frame_rate,
                    transcoded,
                },
                video.codecs.clone(),
            ),
            TrackConfig::Audio(audio) => {
                (RenditionKind::Audio { channels: audio.channels }, audio.codecs.clone())
            }
        };
        let rung = self.rung.clone();
        let record = InitRecord { rung, hash, codecs, bandwidth_bps, announced_bps, kind };
        Some(Message::Init(Init { record, bytes }))
    }

    /// Adds a sample to the part `slot`, which begins with it if it is not open yet.
    pub(crate) fn push(&mut self, slot: Slot, decode_time: i64, mut sample: Sample) {
        if sample.sync && !self.parameter_sets.is_empty() {
            sample.bytes = [&self.parameter_sets[..], &sample.bytes].concat().into();
        }
        let init = self.init.expect("invariant: a rung is described before its first sample");
        let open = self.open.get_or_insert_with(|| OpenPart {
            slot,
            decode_time,
            samples: Vec::with_capacity(32),
            init,
        });
        open.samples.push(sample);
    }

    /// Closes the open part, if any, at `end`; `last` says whether its segment ends too.
    pub(crate) fn close(&mut self, end: MediaTime, last: bool) -> Option<Message> {
        let OpenPart { slot, decode_time, samples, init } = self.open.take()?;
        let sequence = (slot.segment.msn.0 as u32) << 8 | slot.part.0 & 0xff;
        let is_blank = match self.blank {
            None => false,
            Some(Blank::UpTo(msn)) => slot.segment.msn <= msn,
            Some(Blank::Before(_)) => true,
        };
        let bytes = match is_blank {
            true => Bytes::new(),
            false => part(sequence, decode_time.unsigned_abs(), &samples),
        };
        self.closed_to = Some(end);
        let record = PartRecord {
            rung: self.rung.clone(),
            msn: slot.segment.msn,
            part: slot.part,
            epoch: self.epoch,
            segment_start: slot.segment.start,
            discontinuity: slot.segment.discontinuity,
            start: slot.at,
            end,
            independent: samples[0].sync && !is_blank,
            last,
            short: false,
            init,
            hash: Hash::of(&bytes),
            length: u32::try_from(bytes.len()).expect("invariant: a part is smaller than 4 GiB"),
        };
        Some(Message::Part(Part { record, bytes }))
    }

    /// Says that the rung has nothing in a segment, which ends at `end`: a part without bytes.
    pub(crate) fn gap(&mut self, segment: SegmentStamp, end: MediaTime) -> Option<Message> {
        let init = self.init.filter(|_| self.open.is_none() && end > segment.start)?;
        self.closed_to = Some(end);
        let record = PartRecord {
            rung: self.rung.clone(),
            msn: segment.msn,
            part: PartNo(0),
            epoch: self.epoch,
            segment_start: segment.start,
            discontinuity: segment.discontinuity,
            start: segment.start,
            end,
            independent: false,
            last: true,
            short: false,
            init,
            hash: Hash::of(&[]),
            length: 0,
        };
        Some(Message::Part(Part { record, bytes: Bytes::new() }))
    }

    /// Where the last part that was closed ended.
    pub(crate) const fn closed_to(&self) -> Option<MediaTime> {
        self.closed_to
    }
}
