//! Another picture needs another ladder. The worker there is publishes all of the segments before it, and ends; the stream is then
//! placed anew with the ladder that follows, and fed from the new picture's IDR on.
//!
//! ```text
//! items ─┬─→ writer    up to the segment that the new picture begins; then End
//!        └─→ replay    what the next worker is fed
//! ```

use std::{collections::BTreeSet, time::Duration};

use millrace_lifecycle::{HandoverInput, Lost, PairingInput, StreamInput};
use millrace_media::{AccessUnit, Cut, Item, Track};
use millrace_sched::{cost, following_ladder, is_same_shape};
use millrace_types::{Because, DecisionKind, Ladder, Mono, Msn};
use millrace_wire::End;
use tracing::info;

use super::Session;
use crate::regain::Lack;

/// How long the tracks may take to come to the new segment: a publisher may stop right after its first picture.
const CROSSING: Duration = Duration::from_secs(2);
/// How long the writer may take to publish what it holds.
const FLUSH: Duration = Duration::from_secs(4);

/// A stream between two ladders.
pub(super) struct Reshape {
    /// The segment that the new picture begins.
    msn: Msn,
    /// Its IDR.
    idr_seq: u64,
    /// The rungs until then, which players know.
    before: Ladder,
    waits_for: BTreeSet<Track>,
    until: Mono,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Tracks are still in segments before.
    Crossing,
    /// The writer was told to end.
    Ending,
    /// Everything before is published.
    Flushed,
}

impl Reshape {
    /// From where the next worker is to be fed; `None`: what lies before is not published.
    pub(super) fn feed_from(&self) -> Option<u64> {
        (self.progress == Progress::Flushed).then_some(self.idr_seq)
    }

    /// Takes the next item in; whether it is for the worker with the next ladder.
    fn is_behind(&mut self, item: &Item) -> bool {
        match item {
            Item::Unit(unit) if unit.stamp.segment.msn >= self.msn => {
                self.waits_for.remove(&unit.track);
                true
            }
            Item::Unit(_) => self.progress != Progress::Crossing,
            Item::Config(_) | Item::Tick(_) => true,
        }
    }
}

impl Session {
    /// Whether the item is not for the worker there is.
    pub(super) fn holds_back(&mut self, item: &Item) -> bool {
        if let Item::Unit(unit) = item
            && self.reshape.is_none()
            && self.wants_other_ladder(unit)
        {
            // Both would make the picture before: one of them is enough to end it.
            self.second_input(PairingInput::Unwanted);
            info!(stream = %self.stream, msn = %unit.stamp.segment.msn, "another picture: the ladder follows");
            self.tracks.announced = self.tracks.said;
            self.reshape = Some(Reshape {
                msn: unit.stamp.segment.msn,
                idr_seq: unit.seq,
                before: self.ladder.clone(),
                waits_for: BTreeSet::from([Track::Video, Track::Audio]),
                until: self.now() + CROSSING,
                progress: Progress::Crossing,
            });
        }
        let Some(reshape) = &mut self.reshape else { return false };
        let held = reshape.is_behind(item);
        if reshape.progress == Progress::Crossing && reshape.waits_for.is_empty() {
            self.end_writer_for_ladder();
        }
        held
    }

    /// At the first picture of a segment that is not on its way to another node: whether what is made of it is not what is to be.
    fn wants_other_ladder(&self, unit: &AccessUnit) -> bool {
        let begins = unit.track == Track::Video && unit.idr && unit.stamp.starts == Cut::Segment;
        if !begins || self.link.is_none() || self.moving.is_some() || !self.machine.is_full() {
            return false;
        }
        let next = following_ladder(&self.ladder, &self.tracks.source(), &self.context.ladder);
        !is_same_shape(&next, &self.ladder)
    }

    /// The rungs that go on when the ladder cannot follow.
    pub(super) fn known_ladder(&self) -> &Ladder {
        self.reshape.as_ref().map_or(&self.ladder, |reshape| &reshape.before)
    }

    /// There is room for the ladder that the stream was placed without: it begins with the next segment that an IDR begins, as that
    /// of another picture does.
    pub(super) fn regain_ladder(&mut self) {
        let is_busy = self.moving.is_some() || self.reshape.is_some() || self.link.is_none();
        if is_busy || !self.machine.lacks_room() {
            return;
        }
        info!(stream = %self.stream, "there is room for the ladder");
        self.is_regaining = true;
        self.input(StreamInput::RoomCameBack);
        self.show();
    }

    /// A node has taken the stream, with its ladder or, since there was no room after all, as before.
    pub(super) fn ladder_regained(&mut self) {
        if std::mem::take(&mut self.is_regaining) && self.ladder.is_transcoded() {
            let rungs: Vec<_> = self.ladder.rungs.iter().map(|rung| rung.id.as_str()).collect();
            let encoded = self.decision(DecisionKind::Encoded).because(Because::RoomAgain);
            self.note(encoded.saying(rungs.join(", ")));
        }
    }

    /// What the stream would need for the ladder that it lacks, if room is all that it lacks.
    pub(super) fn lack(&self) -> Option<Lack> {
        if !self.machine.lacks_room() && !self.is_regaining {
            return None;
        }
        let pixels = self.tracks.pixels_per_second();
        let full = following_ladder(&self.ladder, &self.tracks.source(), &self.context.ladder);
        let announced = self.tracks.announced;
        full.is_transcoded().then(|| Lack {
            full: cost(pixels, announced, &full),
            held: cost(pixels, announced, &self.ladder),
            node: self.link.as_ref().map(|state| state.link.node.clone()),
            is_changing: self.is_regaining,
        })
    }

    fn end_writer_for_ladder(&mut self) {
        let until = self.now() + FLUSH;
        let (Some(reshape), Some(writer)) = (&mut self.reshape, &mut self.link) else { return };
        (reshape.progress, reshape.until) = (Progress::Ending, until);
        writer.end(End { continues: true });
    }

    /// Looks whether it takes too long.
    pub(super) fn look_at_reshape(&mut self) {
        let now = self.now();
        let Some(reshape) = self.reshape.as_ref().filter(|reshape| now >= reshape.until) else {
            return;
        };
        match reshape.progress {
            Progress::Crossing => self.end_writer_for_ladder(),
            Progress::Ending if self.link.is_some() => self.link_lost("flush takes too long"),
            Progress::Ending | Progress::Flushed => {}
        }
    }

    /// The writer has flushed and ended, as it was told for another ladder; `false` when it was not.
    pub(super) fn writer_ended_for_ladder(&mut self) -> bool {
        let Some(reshape) = &mut self.reshape else { return false };
        if reshape.progress != Progress::Ending {
            return false;
        }
        reshape.progress = Progress::Flushed;
        self.end_move(HandoverInput::Cancelled);
        self.link = None;
        self.input(StreamInput::Lost(Lost::Reshaped));
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_media::{SegmentStamp, Stamp, Tick};
    use millrace_types::{MediaTime, PartNo};

    use super::*;

    fn unit(seq: u64, track: Track, msn: u64) -> Item {
        let segment = SegmentStamp { msn: Msn(msn), discontinuity: 0, start: MediaTime(0) };
        let stamp = Stamp { segment, part: PartNo(0), starts: Cut::Segment, ends: None };
        let bytes = Bytes::new();
        Item::Unit(AccessUnit { seq, track, dts: 0, pts: 0, duration: 1, idr: true, stamp, bytes })
    }

    #[test]
    fn sound_that_trails_goes_to_the_old_worker_and_everything_of_the_new_picture_to_the_next() {
        let mut reshape = Reshape {
            msn: Msn(5),
            idr_seq: 7,
            before: Ladder::default(),
            waits_for: BTreeSet::from([Track::Video, Track::Audio]),
            until: Mono(Duration::ZERO),
            progress: Progress::Crossing,
        };
        assert!(reshape.is_behind(&unit(7, Track::Video, 5)));
        assert!(!reshape.is_behind(&unit(8, Track::Audio, 4)), "of the segment before");
        assert!(reshape.is_behind(&Item::Tick(Tick { seq: 9, to: MediaTime(0) })));
        assert!(!reshape.waits_for.is_empty());
        assert!(reshape.is_behind(&unit(10, Track::Audio, 5)));
        assert!(reshape.waits_for.is_empty());
        assert_eq!(reshape.feed_from(), None, "not everything is published");
        reshape.progress = Progress::Flushed;
        assert_eq!(reshape.feed_from(), Some(7));
    }
}
