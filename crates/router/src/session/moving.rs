//! Moves the stream to another node: make before break. Decisions are `millrace_lifecycle::Handover`'s; this is its driver.
//!
//! ```text
//! items ─┬─→ writer     up to the segment that the standby begins with; then End
//!        └─→ standby    from the newest IDR on; Begin before that segment, Publish once the writer has ended
//! ```

use std::collections::BTreeSet;

use millrace_lifecycle::{Handover, HandoverInput, HandoverOutput, Lost, PairingInput};
use millrace_media::{AccessUnit, Cut, Item, Track};
use millrace_types::{Alternative, DecisionKind, EndReason, Mono, MoveEnd, Msn, NodeId};
use millrace_wire::{Begin, End, Message};
use tracing::info;

use super::{
    Session,
    left_node::LeftNode,
    standby::{Standby, StandbyEvent, Wanted},
};
use crate::placement::{Last, Link, Unplaced};

/// A stream on its way from one node to another.
pub(super) struct Moving {
    /// Where to; `None`: wherever there is room.
    to: Option<NodeId>,
    machine: Handover,
    standby: Standby,
    /// The segment whose first picture comes next.
    segment: Msn,
    crossing: Option<Crossing>,
}

/// The standby's first segment, and which tracks have come to it.
struct Crossing {
    msn: Msn,
    waits_for: BTreeSet<Track>,
}

impl Moving {
    /// Waits for whatever comes first; cancel-safe.
    pub(super) async fn event(&mut self) -> StandbyEvent {
        self.standby.event().await
    }

    /// Moves items to the standby's writer.
    pub(super) fn fill(&mut self) {
        self.standby.fill();
    }

    /// Whether the standby lives, if there is one; says that this router does.
    pub(super) fn beat(&mut self, now: Mono, is_late: bool) -> bool {
        self.standby.beat(now, is_late)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.machine.deadline()
    }
}

/// Whether two encoders agree on which pictures belong before a cut: none is shown before it and decoded behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutWatch {
    newest: Option<Msn>,
    /// Since the last IDR no picture was decoded before its presentation.
    is_plain: bool,
}

impl CutWatch {
    /// Looks at the next unit; `Some` when a segment begins with it: whether it begins cleanly.
    fn saw(&mut self, unit: &AccessUnit, has_video: bool) -> Option<bool> {
        if unit.track == Track::Video {
            self.is_plain = unit.pts == unit.dts && (unit.idr || self.is_plain);
        }
        let msn = unit.stamp.segment.msn;
        if self.newest.is_some_and(|newest| msn <= newest) {
            return None;
        }
        self.newest = Some(msn);
        let is_clean = match unit.track {
            Track::Video => unit.idr || self.is_plain,
            Track::Audio => !has_video,
        };
        Some(is_clean && unit.stamp.starts == Cut::Segment)
    }
}

/// Why nobody but the writer takes the stream.
pub(super) fn refusals_of_others(asked: &[Alternative], writer: Option<&NodeId>) -> String {
    let others = asked.iter().filter(|asked| Some(&asked.name) != writer);
    let others: Vec<_> = others
        .map(|other| {
            let colon = if other.text.is_empty() { "" } else { ": " };
            format!("{}: {}{colon}{}", other.name, other.reason.as_str(), other.text)
        })
        .collect();
    match others.is_empty() {
        true => "no other node is there".to_owned(),
        false => others.join("; "),
    }
}

impl Session {
    /// Begins to move the stream off a node, if it is made there, still, and is not on its way already.
    pub(super) fn move_away(&mut self, from: &NodeId, to: Option<NodeId>) {
        let first = self.link.as_ref().map(|state| &state.link.node);
        let is_there = first == Some(from) || self.second.node().as_ref() == Some(from);
        let is_made = self.machine.is_live() && first.is_some();
        if self.moving.is_some() || !is_made || !is_there {
            return;
        }
        let second = self.second.paired_node().filter(|second| to.as_ref() != Some(second));
        if let (Some(to), Some(second)) = (&to, second) {
            let why = format!("{to} cannot take over: its second encoder, on {second}, does");
            return self.not_moved(MoveEnd::Refused, Some(why));
        }
        if self.leave_by_second() {
            return;
        }
        self.second_input(PairingInput::Unwanted);
        self.moving = Some(Moving {
            to,
            machine: Handover::new(self.now()),
            standby: Standby::default(),
            segment: Msn(0),
            crossing: None,
        });
        self.drive_move();
        self.show();
    }

    pub(super) fn move_input(&mut self, input: HandoverInput) {
        let now = self.now();
        if let Some(moving) = &mut self.moving {
            moving.machine.handle(now, input);
            self.drive_move();
        }
    }

    /// The stream's placement is gone, or its session ends: so does the move.
    pub(super) fn end_move(&mut self, input: HandoverInput) {
        let now = self.now();
        let Some(moving) = &mut self.moving else { return };
        self.worker_lacks |= !moving.machine.writer_has_all();
        moving.machine.handle(now, input);
        while let Some(output) = self.moving.as_mut().and_then(|moving| moving.machine.poll()) {
            if let HandoverOutput::Drop(end) | HandoverOutput::PlaceAnew(end) = output {
                self.move_over(end, None);
            }
        }
    }

    fn drive_move(&mut self) {
        while let Some(output) = self.moving.as_mut().and_then(|moving| moving.machine.poll()) {
            match output {
                HandoverOutput::Ask => self.ask_standby(),
                HandoverOutput::Begin => self.begin_standby(),
                HandoverOutput::EndWriter => {
                    if let Some(writer) = &mut self.link {
                        writer.end(End { continues: true });
                    }
                }
                HandoverOutput::Promote => self.promote(),
                HandoverOutput::Drop(end) => self.move_over(end, None),
                HandoverOutput::PlaceAnew(end) => {
                    self.worker_lacks = true;
                    self.move_over(end, None);
                    self.lost(Lost::Link, "move", end.as_str());
                }
            }
        }
    }

    fn ask_standby(&mut self) {
        let only = self.moving.as_ref().and_then(|moving| moving.to.clone());
        let asking = self.ask_other_node(Wanted { only, ..Wanted::default() });
        if let Some(moving) = &mut self.moving {
            moving.standby.ask(asking);
        }
    }

    pub(super) fn move_event(&mut self, event: StandbyEvent) {
        match event {
            StandbyEvent::Asked(asked) => self.standby_asked(*asked),
            StandbyEvent::Said(Ok(Some(message))) => {
                let now = self.now();
                let Some(moving) = &mut self.moving else { return };
                if moving.standby.heard(now, &message) {
                    self.move_input(HandoverInput::CaughtUp);
                    self.cut_while_away();
                } else if let Message::Ended(ended) = message {
                    // What cannot be decoded is no fault of the node.
                    let fault = (ended.reason != EndReason::BadInput).then_some(ended.text);
                    self.standby_lost(fault.as_deref());
                } else if matches!(message, Message::Restarting(_)) {
                    self.standby_lost(None);
                }
            }
            StandbyEvent::Written => {}
            StandbyEvent::Said(Ok(None) | Err(_)) => self.standby_lost(None),
        }
    }

    /// The node that was to make the stream does not. By a fault of its own, in these words, others are asked first for a while,
    /// by the next try too.
    pub(super) fn standby_lost(&mut self, fault: Option<&str>) {
        let standby = self.moving.as_ref().and_then(|moving| moving.standby.link.as_ref());
        if let (Some(standby), Some(text)) = (standby, fault) {
            self.context.fleet.failed(&standby.link.node, text);
        }
        self.move_input(HandoverInput::StandbyLost);
    }

    fn standby_asked(&mut self, asked: Result<Link, Unplaced>) {
        let now = self.now();
        let Some(moving) = &mut self.moving else { return };
        match asked {
            Ok(link) => {
                self.machine.used(link.epoch);
                if !link.admitted.standby {
                    // A node of the version before has fenced the writer: it is the stream's node now.
                    return self.promote_at_once(link);
                }
                let fits = moving.standby.admitted(now, link, self.replay.from_newest());
                let input = if fits { HandoverInput::Admitted } else { HandoverInput::StandbyLost };
                self.move_input(input);
            }
            Err(unplaced) => {
                self.machine.used(unplaced.epoch);
                let writer = self.link.as_ref().map(|writer| &writer.link.node);
                let why = refusals_of_others(&unplaced.others, writer);
                moving.machine.handle(now, HandoverInput::Refused);
                while moving.machine.poll().is_some() {}
                self.move_over(MoveEnd::Refused, Some(why));
            }
        }
    }

    fn promote_at_once(&mut self, link: Link) {
        self.moving = None;
        self.link = None;
        self.admitted(link);
    }

    /// Looks at the next item before anybody is given it: the standby may begin with its segment.
    pub(super) fn watch_for_cut(&mut self, item: &Item) {
        let Item::Unit(unit) = item else { return };
        let Some(clean) = self.cut_watch.saw(unit, self.tracks.video.is_some()) else { return };
        self.second_sees_segment(unit.stamp.segment.msn, clean);
        if let Some(moving) = &mut self.moving {
            moving.segment = unit.stamp.segment.msn;
            self.move_input(HandoverInput::SegmentBegan { clean });
        }
    }

    /// While no publisher sends, nothing follows in the segment there is: the next one may be the standby's.
    pub(super) fn cut_while_away(&mut self) {
        let Some(newest) = self.cut_watch.newest.filter(|_| self.left_at.is_some()) else { return };
        let Some(moving) = &mut self.moving else { return };
        if moving.crossing.is_none() {
            moving.segment = newest.next();
            self.move_input(HandoverInput::SegmentBegan { clean: true });
        }
        if self.moving.as_ref().is_some_and(|moving| moving.crossing.is_some()) {
            self.move_input(HandoverInput::Crossed);
        }
    }

    fn begin_standby(&mut self) {
        let Some(moving) = &mut self.moving else { return };
        let msn = moving.segment;
        let waits_for = match self.tracks.video.is_some() {
            true => BTreeSet::from([Track::Video, Track::Audio]),
            false => BTreeSet::from([Track::Audio]),
        };
        moving.crossing = Some(Crossing { msn, waits_for });
        moving.standby.say(&Message::Begin(Begin { msn }));
    }

    /// Gives an item to whom it is for.
    pub(super) fn give(&mut self, item: Item) {
        if self.holds_back(&item) {
            return;
        }
        let Some(item) = self.lend_to_writer(item) else { return };
        self.give_to_second(&item);
        let Some(moving) = &mut self.moving else { return self.give_to_writer(item) };
        let crossing = moving.crossing.as_mut();
        let is_behind_cut = match (&item, crossing) {
            (Item::Unit(unit), Some(crossing)) if unit.stamp.segment.msn >= crossing.msn => {
                crossing.waits_for.remove(&unit.track);
                true
            }
            _ => false,
        };
        let has_crossed = is_behind_cut
            && moving.crossing.as_ref().is_some_and(|crossing| crossing.waits_for.is_empty());
        let given = moving.standby.link.as_mut().map(|standby| standby.give(item.clone()));
        if !is_behind_cut {
            self.give_to_writer(item);
        }
        if let Some(Err(error)) = given {
            info!(%error, "standby too slow");
            self.move_input(HandoverInput::StandbyLost);
        }
        if has_crossed {
            self.move_input(HandoverInput::Crossed);
        }
    }

    /// A picture whose bytes lie in the replay buffer is written from there, if it is the writer's alone; else they are copied.
    fn lend_to_writer(&mut self, item: Item) -> Option<Item> {
        let unit = match item {
            Item::Unit(unit) if unit.track == Track::Video && unit.bytes.is_empty() => unit,
            other => return Some(other),
        };
        let is_the_writers = self.moving.is_none() && !self.second.is_fed();
        let bytes = self.replay.held_bytes().filter(|_| is_the_writers);
        if let (Some(bytes), Some(writer)) = (bytes, &mut self.link)
            && writer.lend(&unit, bytes)
        {
            return None;
        }
        let bytes = self.replay.held().collect::<Vec<_>>().concat().into();
        Some(Item::Unit(AccessUnit { bytes, ..unit }))
    }

    fn give_to_writer(&mut self, item: Item) {
        if let Some(Err(error)) = self.link.as_mut().map(|writer| writer.give(item)) {
            self.link_lost(&error.to_string());
        }
    }

    /// The writer has flushed and ended, as it was told; `false` when it was not told to.
    pub(super) fn writer_ended(&mut self) -> bool {
        let crossing = self.moving.as_ref().and_then(|moving| moving.crossing.as_ref());
        let Some(msn) = crossing.map(|crossing| crossing.msn) else { return false };
        let left = self.link.take();
        let complete = self.published.reaches(&self.ladder, msn);
        self.left_node = left.filter(|_| complete).map(|state| LeftNode::hold(state.link));
        self.move_input(HandoverInput::WriterEnded { complete });
        true
    }

    fn promote(&mut self) {
        let Some(mut moving) = self.moving.take() else { return };
        let Some(mut standby) = moving.standby.link.take() else { return };
        let msn = moving.segment;
        standby.link.writer.push(&Message::Publish);
        let (node, pid) = (standby.link.node.clone(), standby.link.admitted.worker_pid);
        let from = self.last.take().map(|last| last.node);
        let from = from.as_ref().map_or("another node", NodeId::as_str);
        self.context.metrics.moves.with_label_values(&[MoveEnd::Moved.as_str()]).inc();
        info!(stream = %self.stream, epoch = %self.machine.epoch(), from, %node, pid, %msn, "stream moved");
        let chosen = standby.link.chosen.clone();
        let moved = self.decision(DecisionKind::Moved).subject(&node).worker(pid);
        // The node that it leaves is no choice that was not taken.
        let others = chosen.others.into_iter().filter(|other| other.name.as_str() != from);
        let moved = moved.because(chosen.reason).instead_of(others);
        self.note(moved.saying(format!("from {from}, from segment {msn} on")));
        self.last = Some(Last { node, patience: None });
        (self.link, self.stays) = (Some(standby), None);
        self.record();
        self.show();
    }

    fn move_over(&mut self, end: MoveEnd, why: Option<String>) {
        self.moving = None;
        self.not_moved(end, why);
    }

    fn not_moved(&mut self, end: MoveEnd, why: Option<String>) {
        self.context.metrics.moves.with_label_values(&[end.as_str()]).inc();
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let text = format!("{}{why}", end.as_str());
        info!(stream = %self.stream, text, "move given up");
        if self.stays.as_ref() != Some(&text) {
            let stays = self.decision(DecisionKind::NotMoved).because(end);
            self.note(stays.saying(text.clone()));
        }
        self.stays = Some(text);
        self.show();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_media::{SegmentStamp, Stamp};
    use millrace_types::{MediaTime, PartNo, RefusalReason};

    use super::*;

    fn unit(track: Track, msn: u64, starts: Cut, (dts, pts): (i64, i64), idr: bool) -> AccessUnit {
        let segment = SegmentStamp { msn: Msn(msn), discontinuity: 0, start: MediaTime(0) };
        let stamp = Stamp { segment, part: PartNo(0), starts, ends: None };
        AccessUnit { seq: 0, track, dts, pts, duration: 1, idr, stamp, bytes: Bytes::new() }
    }

    #[test]
    fn a_node_that_is_drained_is_not_named_among_those_that_refuse_its_streams() {
        let [a, b]: [NodeId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let no =
            |name: &NodeId| Alternative::new(name.clone(), RefusalReason::NodeUnavailable, "no");
        assert_eq!(refusals_of_others(&[no(&a)], Some(&a)), "no other node is there");
        assert_eq!(refusals_of_others(&[no(&a), no(&b)], Some(&a)), "b: node_unavailable: no");
    }

    #[test]
    fn a_segment_begins_cleanly_at_an_idr_and_elsewhere_only_where_nothing_is_reordered() {
        let mut watch = CutWatch::default();
        let mut saw =
            |msn, starts, times, idr| watch.saw(&unit(Track::Video, msn, starts, times, idr), true);
        assert_eq!(saw(1, Cut::Segment, (0, 0), true), Some(true));
        assert_eq!(saw(1, Cut::None, (1, 1), false), None);
        assert_eq!(
            saw(2, Cut::Segment, (2, 2), false),
            Some(true),
            "a forced cut without reordering"
        );
        assert_eq!(saw(3, Cut::Segment, (3, 5), true), Some(true), "an IDR");
        assert_eq!(saw(3, Cut::None, (4, 4), false), None);
        assert_eq!(saw(4, Cut::Segment, (5, 5), false), Some(false), "a forced cut among B-frames");
        assert_eq!(saw(5, Cut::Segment, (6, 6), true), Some(true));
    }

    #[test]
    fn a_segment_that_sound_opens_is_clean_only_where_there_are_no_pictures() {
        let sound = |msn| unit(Track::Audio, msn, Cut::Segment, (0, 0), true);
        assert_eq!(CutWatch::default().saw(&sound(1), true), Some(false));
        assert_eq!(CutWatch::default().saw(&sound(1), false), Some(true));
        let mut watch = CutWatch::default();
        watch.saw(&unit(Track::Video, 2, Cut::Segment, (0, 0), true), true);
        assert_eq!(watch.saw(&sound(2), true), None);
    }
}
