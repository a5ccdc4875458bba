//! Moves a live stream from the node that makes it, its writer, to another, the standby: make before break. Decides; the
//! driver owns the connections and the stream's records.
//!
//! ```text
//! Asking --Admitted--> Aligning --SegmentBegan, clean and caught up--> Crossing --Crossed--> Flushing --WriterEnded--> Over
//!   | Refused             | StandbyLost, WriterLost, deadline            | StandbyLost, deadline | incomplete, deadline
//!   v                     v                                              v                       v
//!  Drop: the writer goes on as if nothing had been tried                 PlaceAnew: from what is published
//! ```
//!
//! The standby is fed from the newest IDR on and makes nothing until it is told a segment to begin with. From that segment on
//! the writer is given nothing: it flushes what came before, and only when all of that is published may the standby
//! publish. So each segment has one maker, nothing is made twice, and no encoder goes on where another stopped.
//!
//! Whatever ends the writer once it was given less than everything, its worker is of no further use: it was given sound that comes behind
//! pictures which it was not given, and to go on behind the newest it has would lose those.
//!
//! A segment may be the first of the standby when no picture shown before it is decoded behind it: the two encoders would
//! not agree on whose such a picture is.

use std::{collections::VecDeque, time::Duration};

use millrace_types::{Mono, MoveEnd};

/// How long nodes may take to be asked, one after the other.
const ASK: Duration = Duration::from_secs(12);
/// How long a standby waits for a segment that it may begin with: longer than the keyframes of any usual encoder are apart.
const ALIGN: Duration = Duration::from_secs(15);
/// How long the other track may take to come to the segment too.
const CROSS: Duration = Duration::from_millis(1_500);
/// How long the writer, told to flush, may publish nothing, and how long it may take in all: longer than its node gives its worker.
/// One that is only slow, on a host that is short of processors, gets on.
const FLUSH: Duration = Duration::from_millis(1_500);
const WHOLE_FLUSH: Duration = Duration::from_secs(9);

/// What the driver observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverInput {
    /// A node has a worker waiting.
    Admitted,
    /// No other node took the stream.
    Refused,
    /// The standby has worked off all that was there when it was admitted.
    CaughtUp,
    /// The next picture is the first of a segment. `clean`: nothing shown before it is decoded behind it.
    SegmentBegan {
        /// See above.
        clean: bool,
    },
    /// The writer has been given the last unit of each track that belongs before the segment.
    Crossed,
    /// The writer has published more.
    Published,
    /// The writer has flushed and ended. `complete`: every rung is published up to the segment.
    WriterEnded {
        /// See above.
        complete: bool,
    },
    /// The writer is gone without having been told to.
    WriterLost,
    /// The standby is gone.
    StandbyLost,
    /// The stream ends, or goes to another router.
    Cancelled,
    /// Time has passed.
    Tick,
}

/// What the driver must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverOutput {
    /// Ask other nodes, under a new epoch.
    Ask,
    /// Tell the standby to begin with this segment; give the writer none of its units.
    Begin,
    /// Tell the writer to flush and end.
    EndWriter,
    /// The standby is the stream's node: tell it to publish.
    Promote,
    /// Give the standby up; the writer goes on.
    Drop(MoveEnd),
    /// Give both up and place the stream again, from what is published.
    PlaceAnew(MoveEnd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Aligning { caught_up: bool },
    Crossing,
    Flushing { at_most_until: Mono },
    Over,
}

/// One try to move one stream.
#[derive(Debug)]
pub struct Handover {
    state: State,
    until: Mono,
    out: VecDeque<HandoverOutput>,
}

impl Handover {
    /// Begins by asking.
    pub fn new(now: Mono) -> Self {
        let out = VecDeque::from([HandoverOutput::Ask]);
        Self { state: State::Asking, until: now + ASK, out }
    }

    /// Takes a fact in.
    pub fn handle(&mut self, now: Mono, input: HandoverInput) {
        use HandoverInput as I;
        match (self.state, input) {
            (State::Over, _) => {}
            (State::Asking, I::Admitted) => {
                (self.state, self.until) = (State::Aligning { caught_up: false }, now + ALIGN);
            }
            (State::Asking, I::Refused) => self.give_up(MoveEnd::Refused),
            (State::Aligning { .. }, I::CaughtUp) => {
                self.state = State::Aligning { caught_up: true };
            }
            (State::Aligning { caught_up: true }, I::SegmentBegan { clean: true }) => {
                self.out.push_back(HandoverOutput::Begin);
                (self.state, self.until) = (State::Crossing, now + CROSS);
            }
            (State::Crossing, I::Crossed) => {
                self.out.push_back(HandoverOutput::EndWriter);
                let at_most_until = now + WHOLE_FLUSH;
                (self.state, self.until) = (State::Flushing { at_most_until }, now + FLUSH);
            }
            (State::Flushing { at_most_until }, I::Published) => {
                self.until = at_most_until.min(now + FLUSH);
            }
            (State::Flushing { .. }, I::WriterEnded { complete: true }) => {
                self.out.push_back(HandoverOutput::Promote);
                self.state = State::Over;
            }
            (State::Flushing { .. }, I::WriterEnded { complete: false }) => {
                self.give_up(MoveEnd::Incomplete);
            }
            (_, I::WriterLost | I::WriterEnded { .. }) => self.give_up(MoveEnd::WriterLost),
            (_, I::StandbyLost) => self.give_up(MoveEnd::StandbyLost),
            (_, I::Cancelled) => self.give_up(MoveEnd::Cancelled),
            (State::Aligning { caught_up }, I::Tick) if now >= self.until => {
                self.give_up(if caught_up { MoveEnd::NoCleanPoint } else { MoveEnd::StandbyLost });
            }
            (State::Asking, I::Tick) if now >= self.until => self.give_up(MoveEnd::Refused),
            (_, I::Tick) if now >= self.until => self.give_up(MoveEnd::Incomplete),
            _ => {}
        }
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<HandoverOutput> {
        self.out.pop_front()
    }

    /// Whether the writer's worker may be gone on with, should its daemon be replaced: it has all that came before its newest.
    pub const fn writer_has_all(&self) -> bool {
        matches!(self.state, State::Asking | State::Aligning { .. })
    }

    /// When the next [`HandoverInput::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        (self.state != State::Over).then_some(self.until)
    }

    /// Before the writer has been given less than everything, it simply goes on.
    fn give_up(&mut self, end: MoveEnd) {
        self.out.push_back(match self.state {
            State::Crossing | State::Flushing { .. } => HandoverOutput::PlaceAnew(end),
            State::Asking | State::Aligning { .. } | State::Over => HandoverOutput::Drop(end),
        });
        self.state = State::Over;
    }
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: HandoverInput = HandoverInput::SegmentBegan { clean: true };
    const UNCLEAN: HandoverInput = HandoverInput::SegmentBegan { clean: false };
    const COMPLETE: HandoverInput = HandoverInput::WriterEnded { complete: true };
    const TO_CROSSING: [HandoverInput; 3] =
        [HandoverInput::Admitted, HandoverInput::CaughtUp, CLEAN];

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    /// What was ordered after the inputs, one each 10 ms, without the first `Ask`.
    fn after(inputs: &[HandoverInput]) -> Vec<HandoverOutput> {
        let (mut handover, mut said) = (Handover::new(at(0)), Vec::new());
        assert_eq!(handover.poll(), Some(HandoverOutput::Ask));
        for (turn, input) in (1..).zip(inputs) {
            handover.handle(at(turn * 10), *input);
            said.extend(std::iter::from_fn(|| handover.poll()));
        }
        said
    }

    fn after_crossing(more: &[HandoverInput]) -> Vec<HandoverOutput> {
        let said = after(&[&TO_CROSSING[..], more].concat());
        assert_eq!(said[0], HandoverOutput::Begin);
        said[1..].to_vec()
    }

    #[test]
    fn a_stream_moves_where_a_segment_begins_cleanly_and_only_once_the_writer_has_flushed() {
        use HandoverInput as I;
        let inputs = [
            I::Admitted,
            CLEAN,
            I::CaughtUp,
            UNCLEAN,
            CLEAN,
            CLEAN,
            I::Crossed,
            COMPLETE,
            COMPLETE,
        ];
        use HandoverOutput as O;
        assert_eq!(after(&inputs), [O::Begin, O::EndWriter, O::Promote]);
    }

    #[test]
    fn whatever_fails_before_the_writer_was_given_less_leaves_it_alone() {
        use HandoverInput as I;
        let drop = |end| vec![HandoverOutput::Drop(end)];
        assert_eq!(after(&[I::Refused]), drop(MoveEnd::Refused));
        assert_eq!(after(&[I::WriterLost]), drop(MoveEnd::WriterLost));
        assert_eq!(after(&[I::Admitted, I::StandbyLost]), drop(MoveEnd::StandbyLost));
        assert_eq!(after(&[I::Admitted, I::CaughtUp, I::Cancelled]), drop(MoveEnd::Cancelled));
        assert_eq!(after(&[I::Admitted, COMPLETE]), drop(MoveEnd::WriterLost));
    }

    #[test]
    fn what_fails_later_places_the_stream_again_from_what_is_published() {
        use HandoverInput as I;
        let anew = |end| vec![HandoverOutput::PlaceAnew(end)];
        assert_eq!(after_crossing(&[I::StandbyLost, COMPLETE]), anew(MoveEnd::StandbyLost));
        assert_eq!(after_crossing(&[COMPLETE]), anew(MoveEnd::WriterLost));
        let incomplete = [I::Crossed, I::WriterEnded { complete: false }];
        let flushed = [HandoverOutput::EndWriter, HandoverOutput::PlaceAnew(MoveEnd::Incomplete)];
        assert_eq!(after_crossing(&incomplete), flushed);
    }

    #[test]
    fn a_writer_that_goes_on_publishing_what_it_holds_has_longer_than_one_that_does_not() {
        let until_given_up = |publishes_every: Option<u64>| {
            let mut handover = Handover::new(at(0));
            let inputs = TO_CROSSING.into_iter().chain([HandoverInput::Crossed]);
            inputs.for_each(|input| handover.handle(at(0), input));
            for now in 0.. {
                if publishes_every.is_some_and(|every| now > 0 && now % every == 0) {
                    handover.handle(at(now), HandoverInput::Published);
                }
                handover.handle(at(now), HandoverInput::Tick);
                let given_up = HandoverOutput::PlaceAnew(MoveEnd::Incomplete);
                if std::iter::from_fn(|| handover.poll()).any(|output| output == given_up) {
                    return now;
                }
            }
            unreachable!()
        };
        assert_eq!([None, Some(1_400), Some(2_000)].map(until_given_up), [1_500, 9_000, 1_500]);
    }

    #[test]
    fn no_state_lasts_longer_than_its_deadline() {
        use HandoverInput as I;
        let waits = [&[][..], &TO_CROSSING[..1], &TO_CROSSING[..2], &TO_CROSSING];
        let ends = [MoveEnd::Refused, MoveEnd::StandbyLost, MoveEnd::NoCleanPoint];
        for (turn, inputs) in waits.into_iter().enumerate() {
            let mut handover = Handover::new(at(0));
            inputs.iter().for_each(|input| handover.handle(at(0), *input));
            let said = std::iter::from_fn(|| handover.poll()).count();
            assert_eq!(said, if turn == 3 { 2 } else { 1 });
            let until = handover.deadline().unwrap();
            handover.handle(at(0), I::Tick);
            assert_eq!(handover.poll(), None);
            handover.handle(until, I::Tick);
            let wanted = match ends.get(turn) {
                Some(end) => HandoverOutput::Drop(*end),
                None => HandoverOutput::PlaceAnew(MoveEnd::Incomplete),
            };
            assert_eq!((handover.poll(), handover.deadline()), (Some(wanted), None));
        }
    }
}
