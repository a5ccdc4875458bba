//! One stream's life at its router: publisher, placement, recovery, end. Decides; the driver owns connections and bytes.
//!
//! ```text
//! Waiting --SourceKnown--> Placing --Admitted--> Live --Ended--> Finishing --Finished--> Closed
//!                          ^   | Refused           | Lost             ^ publisher away for 30 s
//!                          +---+---- retry --------+------------------+
//! ```
//!
//! A stream that has been live is never given up while its publisher sends: it is placed again, with growing pauses after
//! repeated failures. A stream whose workers fail on two nodes, or three times in a row, without publishing anything is poison
//! to its encoders and goes on as passthrough. A publisher whose pictures two workers could not decode is turned away; what is
//! left of its stream goes on as passthrough to the end. A first publisher that is refused for its codec or size ends its stream
//! at once: connecting again would change nothing, and nobody waits for it.

mod input;
mod output;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use millrace_types::{EndReason, Epoch, Mono, NodeId, RefusalReason};

pub use self::{
    input::{Lost, StreamInput},
    output::{LadderChoice, StreamOutput},
};

/// How long a stream waits for its publisher to come back.
const PUBLISHER_GRACE: Duration = Duration::from_secs(30);
/// How long a first placement may take before the publisher is told.
const FIRST_PLACEMENT: Duration = Duration::from_secs(5);
/// How long the last flush may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);
/// Workers lost in a row, none of which had published anything, that make a stream poison,
const POISON_FAILURES: u32 = 3;
/// and nodes that lost them: a node with a fault of its own is one.
const POISON_NODES: usize = 2;
/// Workers that cannot decode what one publisher sends before it is turned away.
const UNDECODABLE_FAILURES: u32 = 2;
/// The first pause before placing again after a failure without progress; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// Nothing is asked until `ask_at`; then an answer is awaited (`None`).
    Placing {
        ask_at: Option<Mono>,
    },
    Live,
    Finishing {
        until: Mono,
    },
    Closed,
}

/// One stream, from its first publisher to its end.
#[derive(Debug)]
pub struct Stream {
    state: State,
    epoch: Epoch,
    ladder: LadderChoice,
    /// `Some` while no publisher sends: when the stream is given up.
    give_up_at: Option<Mono>,
    /// `Some` until the stream is live: when its publisher is turned away.
    turn_away_at: Option<Mono>,
    failures: u32,
    /// The placement there is, or was last, has published something.
    has_progressed: bool,
    /// Workers among them that had published nothing, and on which nodes.
    worker_failures: u32,
    failed_on: BTreeSet<NodeId>,
    /// Workers that could not decode what the publisher sends.
    bad_inputs: u32,
    /// Publishers so far.
    publishers: u32,
    /// The only publisher there was is turned away for good: whatever comes of the placement, the stream is over.
    is_refused: bool,
    /// The ladder that is asked for is another than the one before: there may be no room for it.
    reshaped: bool,
    /// All that it lacks all rungs for is room.
    lacks_room: bool,
    out: VecDeque<StreamOutput>,
}

impl Stream {
    /// A stream whose owner holds `epoch`'s generation; its first placement is the epoch's next.
    pub fn new(now: Mono, epoch: Epoch) -> Self {
        Self {
            state: State::Waiting,
            epoch,
            ladder: LadderChoice::Full,
            give_up_at: Some(now + PUBLISHER_GRACE),
            turn_away_at: None,
            failures: 0,
            has_progressed: false,
            worker_failures: 0,
            failed_on: BTreeSet::new(),
            bad_inputs: 0,
            publishers: 0,
            is_refused: false,
            reshaped: false,
            lacks_room: false,
            out: VecDeque::new(),
        }
    }

    /// The epoch of the latest placement.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A node was asked under this epoch, which a later placement must be above.
    pub fn used(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Whether a node holds the stream now.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether its workers failed so that it goes on without them, to its end: no encoder, no decoder.
    pub fn is_poison(&self) -> bool {
        self.ladder == LadderChoice::Passthrough && !self.lacks_room
    }

    /// Whether all rungs are asked for.
    pub fn is_full(&self) -> bool {
        self.ladder == LadderChoice::Full
    }

    /// Whether it goes on without encoders only since no node had room for them.
    pub const fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// Takes a fact in.
    pub fn handle(&mut self, now: Mono, input: StreamInput) {
        use StreamInput as I;
        match (self.state, input) {
            (State::Closed, _) => {}
            (State::Finishing { .. }, I::Finished | I::Lost(_)) => self.close(),
            (State::Finishing { until }, I::Tick) if now >= until => self.close(),
            (State::Finishing { .. }, _) => {}
            (_, I::TakenOver) => self.taken_over(),
            (_, I::PublisherJoined) => {
                (self.give_up_at, self.bad_inputs) = (None, 0);
                self.publishers += 1;
            }
            (_, I::SourceRefused(reason)) => self.source_refused(now, reason),
            (_, I::ChannelGone) => self.end_wherever_it_stands(now),
            (_, I::PublisherLeft) => self.give_up_at = Some(now + PUBLISHER_GRACE),
            (State::Waiting, I::SourceKnown) => {
                self.turn_away_at = Some(now + FIRST_PLACEMENT);
                self.place();
            }
            (State::Placing { ask_at: None }, I::Admitted) if self.is_refused => self.finish(now),
            (State::Placing { ask_at: None }, I::Refused(_) | I::Lost(_)) if self.is_refused => {
                self.close();
            }
            (State::Placing { ask_at: None }, I::Admitted) => {
                (self.turn_away_at, self.reshaped) = (None, false);
                self.state = State::Live;
            }
            (State::Placing { ask_at: None }, I::Refused(reason)) => self.refused(now, reason),
            (State::Placing { ask_at: None } | State::Live, I::Lost(lost)) => self.lost(now, lost),
            (State::Live, I::Progressed) => self.progressed(),
            (State::Live, I::RoomCameBack) if self.lacks_room => {
                (self.ladder, self.lacks_room) = (LadderChoice::Full, false);
            }
            (_, I::Tick) => self.tick(now),
            _ => {}
        }
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<StreamOutput> {
        self.out.pop_front()
    }

    /// When the next [`StreamInput::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        let own = match self.state {
            State::Placing { ask_at } => ask_at,
            State::Finishing { until } => return Some(until),
            State::Closed => return None,
            State::Waiting | State::Live => None,
        };
        [own, self.give_up_at].into_iter().flatten().min()
    }

    fn place(&mut self) {
        self.epoch = self.epoch.next_placement();
        self.out.push_back(StreamOutput::Place { epoch: self.epoch, ladder: self.ladder });
        self.state = State::Placing { ask_at: None };
    }

    fn taken_over(&mut self) {
        self.out.push_back(StreamOutput::RefusePublisher(RefusalReason::TakenOver));
        self.close();
    }

    /// Another connection of the same encoder may heal what cannot be read, but no codec.
    fn source_refused(&mut self, now: Mono, reason: RefusalReason) {
        let may_heal = reason == RefusalReason::Undecodable && self.state == State::Live;
        if self.state == State::Waiting || !(self.publishers > 1 || may_heal) {
            self.end_wherever_it_stands(now);
        }
    }

    /// A node that is being asked is heard out first.
    fn end_wherever_it_stands(&mut self, now: Mono) {
        match self.state {
            State::Placing { ask_at: None } => self.is_refused = true,
            State::Live => self.finish(now),
            State::Waiting | State::Placing { ask_at: Some(_) } => self.close(),
            State::Finishing { .. } | State::Closed => {}
        }
    }

    fn finish(&mut self, now: Mono) {
        self.out.push_back(StreamOutput::Finish);
        self.state = State::Finishing { until: now + FINISH_TIMEOUT };
    }

    fn refused(&mut self, now: Mono, reason: RefusalReason) {
        // Epochs of one owner only grow: only a newer owner's fence can be above them.
        if reason == RefusalReason::Fenced {
            return self.taken_over();
        }
        let is_new = self.turn_away_at.is_some() || self.reshaped;
        let may_shrink = is_new && self.is_full();
        if may_shrink && reason == RefusalReason::NoCapacity {
            (self.ladder, self.lacks_room) = (LadderChoice::Passthrough, true);
            return self.place();
        }
        let for_good = matches!(reason, RefusalReason::NoCapacity)
            || self.turn_away_at.is_some_and(|at| now >= at);
        if self.turn_away_at.is_some() && for_good {
            self.out.push_back(StreamOutput::RefusePublisher(reason));
            return self.close();
        }
        self.retry(now);
    }

    fn progressed(&mut self) {
        (self.failures, self.worker_failures, self.has_progressed) = (0, 0, true);
        self.failed_on.clear();
    }

    fn lost(&mut self, now: Mono, lost: Lost) {
        let has_worked = std::mem::take(&mut self.has_progressed);
        if matches!(lost, Lost::Restart | Lost::Reshaped) {
            self.reshaped |= lost == Lost::Reshaped;
            return self.place();
        }
        self.failures += 1;
        if let Lost::Worker(reason, node) = lost {
            // One that worked until it died is no evidence: whatever killed it may have come from outside.
            if !has_worked {
                self.worker_failures += 1;
                self.failed_on.insert(node);
            }
            if reason == EndReason::BadInput {
                self.bad_inputs += 1;
            }
            if reason == EndReason::BadInput && self.bad_inputs == UNDECODABLE_FAILURES {
                self.out.push_back(StreamOutput::RefusePublisher(RefusalReason::Undecodable));
                (self.ladder, self.lacks_room) = (LadderChoice::Passthrough, false);
            }
        }
        if self.worker_failures >= POISON_FAILURES || self.failed_on.len() >= POISON_NODES {
            (self.ladder, self.lacks_room) = (LadderChoice::Passthrough, false);
        }
        match self.failures {
            0 | 1 => self.place(),
            _ => self.retry(now),
        }
    }

    fn retry(&mut self, now: Mono) {
        let doublings = self.failures.saturating_sub(1).min(10);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
        self.state = State::Placing { ask_at: Some(now + pause) };
    }

    fn tick(&mut self, now: Mono) {
        if self.give_up_at.is_some_and(|at| now >= at) {
            return match self.state {
                State::Live => self.finish(now),
                _ => self.close(),
            };
        }
        if matches!(self.state, State::Placing { ask_at: Some(at) } if now >= at) {
            self.place();
        }
    }

    fn close(&mut self) {
        self.out.push_back(StreamOutput::Close);
        self.state = State::Closed;
    }
}
