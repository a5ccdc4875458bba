//! One segment of one rung as the window holds it: its parts in order, with their bytes. Decides nothing.

use bytes::Bytes;
use millrace_types::{MEDIA_TIMESCALE, MediaTime, Msn};

use crate::{Hash, PartRecord, TARGET_DURATION};

/// Longest segment that rounds to the target duration, in ticks, as the router cuts them.
pub(crate) const LONGEST_SEGMENT: i64 = 24 * MEDIA_TIMESCALE as i64 / 10;

/// A part that is there.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) record: PartRecord,
    pub(crate) bytes: Bytes,
}

/// Parts without a hole, from the first on. A closed one without any bytes is a gap (`EXT-X-GAP`): nobody made it, or its maker says
/// so by a part without bytes.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) msn: Msn,
    pub(crate) discontinuity: u64,
    pub(crate) init: Hash,
    /// Where its first sample is presented.
    pub(crate) start: MediaTime,
    /// Where its last part ends.
    pub(crate) end: MediaTime,
    pub(crate) parts: Vec<Part>,
    pub(crate) closed: bool,
}

impl Segment {
    /// An open segment without parts, of which `first` will be the first, under the init section `init`.
    pub(crate) fn opened_by(first: &PartRecord, init: Hash) -> Self {
        Self {
            msn: first.msn,
            discontinuity: first.discontinuity,
            init,
            start: first.start,
            end: first.start,
            parts: Vec::new(),
            closed: false,
        }
    }

    /// A segment that this rung never got.
    pub(crate) fn gap(
        msn: Msn,
        discontinuity: u64,
        init: Hash,
        span: (MediaTime, MediaTime),
    ) -> Self {
        Self {
            msn,
            discontinuity,
            init,
            start: span.0,
            end: span.1,
            parts: Vec::new(),
            closed: true,
        }
    }

    pub(crate) fn push(&mut self, part: Part) {
        // Not every writer is to be trusted with its clock.
        self.end = self.end.max(part.record.end);
        self.closed = part.record.last;
        self.parts.push(part);
    }

    /// Lasts until `end`, as far as a segment may, though its parts do not: the rest of it was lost.
    pub(crate) fn stretch_to(&mut self, end: MediaTime) {
        self.end = self.end.max(end.min(self.start + LONGEST_SEGMENT));
    }

    pub(crate) fn is_gap(&self) -> bool {
        self.closed && self.parts.iter().all(|part| part.bytes.is_empty())
    }

    /// The init section that its last media needs; without any, the one it was opened under.
    pub(crate) fn init_at_end(&self) -> Hash {
        let media = self.parts.iter().rev().find(|part| !part.bytes.is_empty());
        media.map_or(self.init, |part| part.record.init)
    }

    pub(crate) fn seconds(&self) -> f64 {
        MediaTime(self.end - self.start).seconds()
    }

    /// Bits per second, of one that is long enough to tell a peak (RFC 8216bis 4.1: half a target duration).
    pub(crate) fn peak_bps(&self) -> Option<u64> {
        let seconds = self.seconds();
        let tells = seconds >= TARGET_DURATION.as_secs_f64() / 2.0;
        tells.then(|| (self.bytes() as f64 * 8.0 / seconds) as u64)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}
