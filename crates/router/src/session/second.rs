//! The stream's second encoder, on another node: either of the two alone would do. Decisions are
//! `millrace_lifecycle::Pairing`'s; this is its driver.
//!
//! ```text
//! items ─┬─→ first     as without a second
//!        └─→ second    from the newest IDR on; Begin and Publish before its first segment
//! ```
//! Both are given the same items, and write to the origin under epochs of their own; the origin shows one.

use millrace_lifecycle::{PairingInput, PairingOutput};
use millrace_media::Item;
use millrace_registry::{ChannelRecord, NodeRecord, NodeState};
use millrace_telemetry::Clock;
use millrace_types::{
    Alternative, Because, DecisionKind, MEDIA_TIMESCALE, Msn, NodeId, PairEnd, Wall,
};
use millrace_wire::{Begin, Beside, ChangeOrigin, Message, OriginLost};
use tracing::{debug, info};

use super::{
    Session,
    link_state::LinkState,
    moving::refusals_of_others,
    standby::{Standby, StandbyEvent, Wanted},
};
use crate::{
    placement::{Last, Link, Unplaced},
    published::PublishedMarks,
    report::SecondReport,
};

/// An encoder this far behind the other is as good as lost, ticks of 90 kHz.
const MAX_LAG: i64 = 3 * MEDIA_TIMESCALE as i64;

/// Why a stream that is hot has one encoder.
const WAITS: &str =
    "streams with more viewers take all of the share that is for second encoders of hot ones";

/// What a session has of its second encoder.
#[derive(Default)]
pub(super) struct Second {
    machine: millrace_lifecycle::Pairing,
    standby: Standby,
    /// How far it has published.
    marks: PublishedMarks,
    /// The segment whose first picture comes next,
    segment: Msn,
    /// and its own first one.
    msn: Msn,
    /// The origin that it does not reach.
    origin_lost: Option<OriginLost>,
    /// Where an encoder was lost last: others are asked before that node.
    lost_on: Option<NodeId>,
    /// That node, as others are being asked.
    asked_without: Option<NodeId>,
    /// What was last said about why there is none.
    why: String,
    /// Since when it is there.
    since: Wall,
    /// Why there is to be one, if there is.
    wanted_because: Option<String>,
    /// Why there is none, though there should be one.
    single_because: Option<String>,
}

/// Why the first encoder is there no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstGone {
    /// Its node, its worker, or the way there.
    Lost,
    /// Its node is to be empty.
    Drained,
    /// Its node's daemon.
    Restarts,
}

impl FirstGone {
    /// For people.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "the first encoder was lost",
            Self::Drained => "the first encoder's node is to be empty",
            Self::Restarts => "the first encoder's node restarts",
        }
    }
}

/// Why each node that has no encoder of the stream has none: the first's has one.
fn others_than_first(
    asked: Vec<Alternative>,
    first: Option<&NodeId>,
    lost_on: Option<&NodeId>,
) -> Vec<Alternative> {
    let others = asked.into_iter().filter(|other| Some(&other.name) != first);
    let others = others.map(|other| match Some(&other.name) == lost_on {
        true => Alternative::new(other.name, Because::LostThere, ""),
        false => other,
    });
    others.collect()
}

impl Second {
    /// Whether a second encoder is given what the first is.
    pub(super) const fn is_fed(&self) -> bool {
        self.standby.link.is_some()
    }

    pub(super) async fn event(&mut self) -> StandbyEvent {
        self.standby.event().await
    }

    pub(super) fn fill(&mut self) {
        self.standby.fill();
    }

    pub(super) fn beat(&mut self, now: millrace_types::Mono, is_late: bool) -> bool {
        self.standby.beat(now, is_late)
    }

    pub(super) fn deadline(&self) -> Option<millrace_types::Mono> {
        self.machine.deadline()
    }

    pub(super) fn report(&self) -> Option<SecondReport> {
        let state = self.standby.link.as_ref()?;
        let link = &state.link;
        Some(SecondReport {
            node: link.node.clone(),
            worker_pid: link.admitted.worker_pid,
            epoch: state.writes_as.to_string(),
            since: self.since.to_string(),
            paired: self.machine.is_paired(),
        })
    }

    pub(super) fn wanted_because(&self) -> Option<String> {
        self.wanted_because.clone()
    }

    pub(super) fn single_because(&self) -> Option<String> {
        self.single_because.clone()
    }

    /// It writes elsewhere from here on, and reaches that as far as is known.
    pub(super) fn change_origin(&mut self, change: ChangeOrigin) {
        self.origin_lost = None;
        self.standby.link.iter_mut().for_each(|state| state.change_origin(change));
    }

    /// Where it is made, or is about to be.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.standby.link.as_ref().map(|state| state.link.node.clone())
    }

    /// Where the stream goes on when it leaves its first node.
    pub(super) fn paired_node(&self) -> Option<NodeId> {
        self.node().filter(|_| self.machine.is_paired())
    }
}

impl Session {
    /// Whether the channel's record pins the stream to two encoders.
    fn is_pinned(&self) -> bool {
        let channel = self.context.registry.get::<ChannelRecord>(self.stream.as_str());
        matches!(channel, Ok(Some(channel)) if channel.dual)
    }

    /// Whether it is to have two encoders, and can have them now.
    fn wants_second(&mut self) -> bool {
        let is_pinned = self.is_pinned();
        self.look_at_heat(is_pinned);
        self.second.wanted_because = match (is_pinned, self.hot) {
            (true, _) => Some("pinned".to_owned()),
            (false, hot) => hot.map(|hot| hot.words()),
        };
        let is_busy = self.moving.is_some() || self.reshape.is_some();
        let wants = is_pinned || self.is_hot();
        wants && self.machine.is_live() && self.link.is_some() && !is_busy
    }

    /// Looks whether the stream should have a second encoder, and whether the one it has keeps up.
    pub(super) fn look_at_second(&mut self) {
        let wanted = self.wants_second();
        let input = if wanted { PairingInput::Wanted } else { PairingInput::Unwanted };
        self.second_input(input);
        if !wanted {
            let waits = self.hot.is_some() && !self.is_hot();
            self.second.single_because = waits.then(|| WAITS.to_owned());
        }
        if !self.second.machine.is_paired() {
            return;
        }
        let slowest = |marks: &PublishedMarks| {
            let ends = marks.resume_by(&self.ladder)?.into_iter().map(|mark| mark.end);
            ends.min()
        };
        let (first, second) = (slowest(&self.published), slowest(&self.second.marks));
        let Some((first, second)) = first.zip(second) else { return };
        if first - second > MAX_LAG {
            self.second.why = "3 s behind the first".to_owned();
            self.second_input(PairingInput::SecondLost);
        } else if second - first > MAX_LAG {
            self.link_lost("3 s behind the second encoder");
        }
    }

    pub(super) fn second_input(&mut self, input: PairingInput) {
        let now = self.context.clock.mono();
        self.second.machine.handle(now, input);
        while let Some(output) = self.second.machine.poll() {
            match output {
                PairingOutput::Ask => {
                    let first = self.link.as_ref().map(|state| state.writes_as);
                    self.second.asked_without = self.second.lost_on.take();
                    let rather_not = self.second.asked_without.clone();
                    let asking =
                        self.ask_other_node(Wanted { beside: first, rather_not, only: None });
                    self.second.standby.ask(asking);
                }
                PairingOutput::Begin => self.begin_second(),
                PairingOutput::Paired => self.paired(),
                PairingOutput::Drop(end) => self.drop_second(end),
                // Its caller does it: only it knows that the first is gone.
                PairingOutput::Promote => {}
            }
        }
    }

    pub(super) fn second_event(&mut self, event: StandbyEvent) {
        let now = self.now();
        match event {
            StandbyEvent::Asked(asked) => self.second_asked(*asked),
            StandbyEvent::Said(Ok(Some(message))) => {
                if self.second.standby.heard(now, &message) {
                    self.second_input(PairingInput::CaughtUp);
                }
                match message {
                    Message::Published(published) => {
                        self.second.marks.note(published.mark);
                        self.second.origin_lost = None;
                        self.look_whether_covered();
                        self.release();
                    }
                    Message::OriginLost(lost) if self.has_just_left(lost.intake) => {}
                    Message::OriginLost(lost) => self.second.origin_lost = Some(lost),
                    Message::Ended(ended) => {
                        self.second.why = ended.text;
                        self.second_input(PairingInput::SecondLost);
                    }
                    Message::Restarting(_) => {
                        self.second.why = "its node restarts".to_owned();
                        self.second_input(PairingInput::SecondLost);
                    }
                    other => debug!(?other, "second said"),
                }
            }
            StandbyEvent::Written => {}
            StandbyEvent::Said(Ok(None)) => self.second_failed("closed by the node"),
            StandbyEvent::Said(Err(error)) => self.second_failed(&error.to_string()),
        }
    }

    /// The connection to the second's node is lost: others are asked before it for a while.
    pub(super) fn second_failed(&mut self, why: &str) {
        if let Some(node) = self.second.node() {
            self.context.fleet.failed(&node, why);
        }
        self.second.why = format!("link to its node: {why}");
        self.second_input(PairingInput::SecondLost);
    }

    fn second_asked(&mut self, asked: Result<Link, Unplaced>) {
        let now = self.now();
        let first = self.link.as_ref().map(|first| first.link.node.clone());
        let lost_on = self.second.asked_without.take();
        let others = |asked| others_than_first(asked, first.as_ref(), lost_on.as_ref());
        match asked {
            Ok(mut link) => {
                self.machine.used(link.epoch);
                link.chosen.others = others(link.chosen.others);
                if !link.admitted.beside || !link.admitted.standby {
                    // A node of the version before would fence the first.
                    self.second.why = format!("{}: an older version", link.node);
                    return self.second_input(PairingInput::Refused);
                }
                self.second.since = self.context.clock.wall();
                let fits = self.second.standby.admitted(now, link, self.replay.from_newest());
                let input = if fits { PairingInput::Admitted } else { PairingInput::SecondLost };
                self.second_input(input);
            }
            Err(unplaced) => {
                self.machine.used(unplaced.epoch);
                self.second.why = refusals_of_others(&others(unplaced.others), None);
                self.second_input(PairingInput::Refused);
            }
        }
    }

    /// The next picture is the first of segment `msn`.
    pub(super) fn second_sees_segment(&mut self, msn: Msn, clean: bool) {
        if self.second.standby.link.is_some() {
            self.second.segment = msn;
            self.second_input(PairingInput::SegmentBegan { clean });
        }
    }

    fn begin_second(&mut self) {
        let msn = self.second.segment;
        self.second.msn = msn;
        self.second.standby.say(&Message::Begin(Begin { msn }));
        self.second.standby.say(&Message::Publish);
        self.tell_first(true);
    }

    /// Tells the first whether there is a second.
    fn tell_first(&mut self, lives: bool) {
        if let Some(first) = &mut self.link {
            first.link.writer.push(&Message::Beside(Beside { lives }));
        }
    }

    /// Whether either encoder alone would do: all that lies before the second's first segment is there.
    pub(super) fn look_whether_covered(&mut self) {
        let begun = self.second.marks.resume_by(&self.ladder).is_some();
        if begun && self.published.reaches(&self.ladder, self.second.msn) {
            self.second_input(PairingInput::Covered);
        }
    }

    fn paired(&mut self) {
        self.second.single_because = None;
        let Some(link) = self.second.standby.link.as_ref().map(|state| &state.link) else { return };
        let (node, pid) = (link.node.clone(), link.admitted.worker_pid);
        let chosen = link.chosen.clone();
        info!(stream = %self.stream, %node, pid, msn = %self.second.msn, "stream has a second encoder");
        let paired = self.decision(DecisionKind::Paired).subject(&node).worker(pid);
        let paired = paired.because(chosen.reason).instead_of(chosen.others);
        let from = self.second.msn;
        let why = self.second.wanted_because.clone().unwrap_or_default();
        self.note(paired.saying(format!("{why}: a second encoder, from segment {from} on")));
        self.show();
    }

    /// The origin changes: a second that would do alone goes along, one that is on its way is given up. Whether there is one.
    pub(super) fn keep_second(&mut self) -> bool {
        let is_paired = self.second.machine.is_paired();
        if !is_paired {
            self.second_input(PairingInput::SecondLost);
        }
        is_paired
    }

    /// Ends the second encoder; the first goes on.
    fn drop_second(&mut self, end: PairEnd) {
        let node = self.second.node();
        let is_to_blame = matches!(end, PairEnd::SecondLost | PairEnd::NotInStep);
        self.second.lost_on = node.clone().filter(|_| is_to_blame);
        let was_paired = !self.second.marks.is_empty();
        self.second.standby = Standby::default();
        (self.second.marks, self.second.origin_lost) = (PublishedMarks::default(), None);
        self.tell_first(false);
        let why = std::mem::take(&mut self.second.why);
        let text = format!("{}{}{why}", end.as_str(), if why.is_empty() { "" } else { ": " });
        info!(stream = %self.stream, text, "no second encoder");
        let is_news = was_paired || self.second.single_because.as_ref() != Some(&text);
        if is_news {
            let kind = if was_paired { DecisionKind::Unpaired } else { DecisionKind::NotPaired };
            let unpaired = self.decision(kind).because(end);
            let unpaired = node.iter().fold(unpaired, |said, node| said.subject(node));
            self.note(unpaired.saying(why));
        }
        self.second.single_because = (end != PairEnd::Unwanted).then_some(text);
        self.show();
    }

    /// The first is gone: the second makes the stream alone from here on, if it would do. Whether it does.
    pub(super) fn promote_second(&mut self, gone: FirstGone) -> bool {
        let is_paired = self.second.machine.is_paired();
        self.second_input(PairingInput::FirstLost);
        let Some(mut state) = self.second.standby.link.take().filter(|_| is_paired) else {
            return false;
        };
        let (node, pid) = (state.link.node.clone(), state.link.admitted.worker_pid);
        self.published = std::mem::take(&mut self.second.marks);
        let left = self.last.take().map(|last| last.node);
        self.second.lost_on = left.filter(|_| gone != FirstGone::Drained);
        self.last = Some(Last { node: node.clone(), patience: None });
        state.progressed = true;
        self.link = Some(state);
        self.tell_first(false);
        info!(stream = %self.stream, %node, pid, "second encoder goes on alone");
        let promoted = self.decision(DecisionKind::Promoted).subject(&node).worker(pid);
        let promoted = promoted.because(Because::WasHere);
        self.note(promoted.saying(format!("{}: the second encoder goes on alone", gone.as_str())));
        self.second.single_because = Some(format!("{}: another is asked", gone.as_str()));
        if let Some(lost) = self.second.origin_lost.take() {
            self.origin_lost(lost);
        }
        self.record();
        self.show();
        true
    }

    /// The stream is to leave a node: with two encoders it is enough to end the one there. Whether that is done.
    pub(super) fn leave_by_second(&mut self) -> bool {
        let leaves = |node: Option<NodeId>| {
            let record = node.map(|node| self.context.registry.get::<NodeRecord>(node.as_str()));
            matches!(record, Some(Ok(Some(node))) if node.state == NodeState::Draining)
        };
        if leaves(self.second.node()) {
            self.second_input(PairingInput::SecondLeft);
            return true;
        }
        let is_paired = self.second.machine.is_paired();
        if is_paired {
            self.link = None;
            self.promote_second(FirstGone::Drained);
        }
        is_paired
    }

    /// Gives an item to the second encoder.
    pub(super) fn give_to_second(&mut self, item: &Item) {
        let second = self.second.standby.link.as_mut();
        if let Some(Err(error)) = second.map(|second: &mut LinkState| second.give(item.clone())) {
            self.second.why = error.to_string();
            self.second_input(PairingInput::SecondLost);
        }
    }

    /// Forgets the input that neither encoder needs any more.
    pub(super) fn release(&mut self) {
        let by = match self.second.machine.is_paired() {
            true => self.published.slower(&self.second.marks),
            false => self.published.clone(),
        };
        if let Some(marks) = by.release_by(&self.ladder) {
            self.replay.release(&marks);
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::RefusalReason;

    use super::*;

    #[test]
    fn the_first_encoders_node_is_not_among_those_that_refuse_the_second() {
        let [a, b, c]: [NodeId; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let no = |name: &NodeId, text| {
            Alternative::new(name.clone(), RefusalReason::NodeUnavailable, text)
        };
        let elsewhere = "the stream is to be elsewhere";
        let asked = || vec![no(&a, elsewhere), no(&b, elsewhere), no(&c, "takes no new work")];
        let others = others_than_first(asked(), Some(&a), Some(&b));
        let text = "b: lost_there; c: node_unavailable: takes no new work";
        assert_eq!(refusals_of_others(&others, None), text);
        let only_first = others_than_first(asked()[..1].to_vec(), Some(&a), None);
        assert_eq!(refusals_of_others(&only_first, None), "no other node is there");
    }
}
