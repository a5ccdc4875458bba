//! The parts of one worker that are on no origin yet: what it must keep, and how many bytes they are.
//!
//! The worker keeps a part until it is acknowledged, and it is acknowledged once the origin has it: a daemon that is killed
//! takes nothing with it that its successor could not have again. The bytes are bounded ([`MAX_BYTES`], policy `Block`): above
//! it the worker is fed no more, and the router keeps its input.

use std::collections::{BTreeMap, VecDeque};

use millrace_types::{Mark, Msn, PartNo, RungId};
use millrace_wire::{Part, PartAck};

/// Bytes of parts on their way to the origin above which a stream's Link is not read. The worker bears as much and, beyond
/// it, what was on its way to it.
pub const MAX_BYTES: usize = 24 << 20;

/// What waits, per rung, oldest first.
#[derive(Debug, Default)]
pub struct Unpublished {
    rungs: BTreeMap<RungId, VecDeque<Waiting>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    at: (Msn, PartNo),
    bytes: usize,
}

impl Unpublished {
    /// A worker made this.
    pub fn add(&mut self, part: &Part) {
        let waiting = Waiting { at: (part.record.msn, part.record.part), bytes: part.bytes.len() };
        self.bytes += waiting.bytes;
        self.rungs.entry(part.record.rung.clone()).or_default().push_back(waiting);
    }

    /// The origin has everything of a rung up to here; how to tell the worker.
    pub fn published(&mut self, mark: &Mark) -> PartAck {
        let at = (mark.msn, mark.part);
        if let Some(waiting) = self.rungs.get_mut(&mark.rung) {
            while let Some(safe) = waiting.pop_front_if(|part| part.at <= at) {
                self.bytes -= safe.bytes;
            }
        }
        PartAck { rung: mark.rung.clone(), msn: mark.msn, part: mark.part }
    }

    /// The worker is to end: what waits is taken off its hands.
    pub fn release(&mut self) -> Vec<PartAck> {
        self.bytes = 0;
        let last = |(rung, waiting): (RungId, VecDeque<Waiting>)| {
            let (msn, part) = waiting.back()?.at;
            Some(PartAck { rung, msn, part })
        };
        std::mem::take(&mut self.rungs).into_iter().filter_map(last).collect()
    }

    /// Whether there is room for what the worker makes of more input.
    pub const fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_hls::{Hash, PartRecord};
    use millrace_types::{Epoch, MediaTime};

    use super::*;

    fn part(rung: &str, part: u32, bytes: usize) -> Part {
        let bytes = Bytes::from(vec![0; bytes]);
        let record = PartRecord {
            rung: rung.parse().unwrap(),
            msn: Msn(7),
            part: PartNo(part),
            epoch: Epoch::default(),
            segment_start: MediaTime(0),
            discontinuity: 0,
            start: MediaTime(0),
            end: MediaTime(1),
            independent: false,
            last: false,
            short: false,
            init: Hash::of(b""),
            hash: Hash::of(b""),
            length: 0,
        };
        Part { record, bytes }
    }

    fn mark(rung: &str, part: u32) -> Mark {
        let (rung, part) = (rung.parse().unwrap(), PartNo(part));
        Mark { rung, msn: Msn(7), part, end: MediaTime(0), closed: false }
    }

    #[test]
    fn a_stream_is_fed_no_more_while_24_mib_of_its_parts_wait_for_the_origin() {
        let mut unpublished = Unpublished::default();
        for number in 0..24 {
            assert!(unpublished.has_room(), "{number}");
            unpublished.add(&part("source", number, 1 << 20));
        }
        unpublished.add(&part("720p", 0, 1));
        assert!(!unpublished.has_room());
        unpublished.published(&mark("720p", 0));
        assert!(!unpublished.has_room());
        unpublished.published(&mark("source", 0));
        assert!(unpublished.has_room());
    }

    #[test]
    fn a_worker_that_is_to_end_is_let_go_with_the_last_part_of_each_rung() {
        let mut unpublished = Unpublished::default();
        for (rung, number) in [("source", 0), ("720p", 0), ("source", 1)] {
            unpublished.add(&part(rung, number, 1));
        }
        let ack = unpublished.published(&mark("720p", 0));
        assert_eq!((ack.rung.as_str(), ack.part), ("720p", PartNo(0)));
        let acks = unpublished.release();
        assert_eq!(
            acks.iter().map(|ack| (ack.rung.as_str(), ack.part.0)).collect::<Vec<_>>(),
            [("source", 1)]
        );
        assert!(unpublished.release().is_empty());
    }
}
