//! Gives a live stream a second encoder on another node, and keeps it given one. Decides; the driver owns the connections.
//!
//! ```text
//! Off ⇄ Waiting --Tick--> Asking --Admitted--> Aligning --SegmentBegan, clean and caught up--> Joining --Covered--> Paired
//!          ^                | Refused             | SecondLost, SecondLeft, deadline             |                 |
//!          +----------------+---------------------+----------------------------------------------+-----------------+
//! ```
//! The second is fed from the newest IDR on and makes nothing until it is told a segment to begin with; it publishes from there,
//! beside the first. Once the first has published all that lies before that segment, the second alone would do: the stream is
//! paired, and when the first is lost the second is promoted. Before that, the loss of the first is the loss of the stream's
//! placement, and the second is given up with it.
//!
//! From one try to the next time passes, more after each one that led to nothing.

use std::{collections::VecDeque, time::Duration};

use millrace_types::{Mono, PairEnd};

/// From one try to the next: at first,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and at most, doubling with each that led to nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A second that was lost sooner after it was paired led to nothing.
const LASTING: Duration = Duration::from_secs(60);
/// How long nodes may take to be asked, one after the other.
const ASK: Duration = Duration::from_secs(12);
/// How long the second waits for a segment that it may begin with.
const ALIGN: Duration = Duration::from_secs(15);
/// How long both may take until the second alone would do.
const JOIN: Duration = Duration::from_secs(10);

/// What the driver observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingInput {
    /// The stream is live and is to have two encoders.
    Wanted,
    /// It is not, or not now.
    Unwanted,
    /// A node has a worker waiting.
    Admitted,
    /// No other node took the stream.
    Refused,
    /// The second has worked off all that was there when it was admitted.
    CaughtUp,
    /// The next picture is the first of a segment. `clean`: nothing shown before it is decoded behind it.
    SegmentBegan {
        /// See above.
        clean: bool,
    },
    /// Everything before the second's first segment is published, and something of the second on every rung.
    Covered,
    /// The first is gone.
    FirstLost,
    /// The second is gone, or of no use.
    SecondLost,
    /// The second's node is to be empty.
    SecondLeft,
    /// Time has passed.
    Tick,
}

/// What the driver must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingOutput {
    /// Ask nodes other than the first's, under a new epoch.
    Ask,
    /// Tell the second to begin with this segment and to publish.
    Begin,
    /// Either encoder alone would do from here on.
    Paired,
    /// Give the second up; the first goes on.
    Drop(PairEnd),
    /// The second is the stream's only encoder.
    Promote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Waiting,
    Asking,
    Aligning { caught_up: bool },
    Joining,
    Paired { since: Mono },
}

/// One stream's second encoder.
#[derive(Debug)]
pub struct Pairing {
    state: State,
    until: Mono,
    /// Tries in a row that led to nothing.
    failures: u32,
    out: VecDeque<PairingOutput>,
}

impl Default for Pairing {
    fn default() -> Self {
        Self { state: State::Off, until: Mono::default(), failures: 0, out: VecDeque::new() }
    }
}

impl Pairing {
    /// Whether either encoder alone would do.
    pub fn is_paired(&self) -> bool {
        matches!(self.state, State::Paired { .. })
    }

    /// Takes a fact in.
    pub fn handle(&mut self, now: Mono, input: PairingInput) {
        use PairingInput as I;
        match (self.state, input) {
            (State::Off, I::Wanted) => self.wait(now),
            (State::Off, _) | (_, I::Wanted) => {}
            (State::Waiting, I::Unwanted | I::FirstLost) => self.state = State::Off,
            (State::Waiting, I::Tick) if now >= self.until => {
                self.out.push_back(PairingOutput::Ask);
                self.enter(State::Asking, now + ASK);
            }
            (State::Waiting, _) => {}
            (State::Paired { .. }, I::FirstLost) => {
                self.out.push_back(PairingOutput::Promote);
                self.failures = 0;
                self.wait(now);
            }
            (_, I::Unwanted | I::FirstLost) => {
                let end = if input == I::Unwanted { PairEnd::Unwanted } else { PairEnd::FirstLost };
                self.out.push_back(PairingOutput::Drop(end));
                self.state = State::Off;
            }
            (State::Asking, I::Admitted) => {
                self.enter(State::Aligning { caught_up: false }, now + ALIGN);
            }
            (State::Asking, I::Refused) => self.give_up(now, PairEnd::Refused),
            (State::Aligning { .. }, I::CaughtUp) => {
                self.state = State::Aligning { caught_up: true };
            }
            (State::Aligning { caught_up: true }, I::SegmentBegan { clean: true }) => {
                self.out.push_back(PairingOutput::Begin);
                self.enter(State::Joining, now + JOIN);
            }
            (State::Joining, I::Covered) => {
                self.out.push_back(PairingOutput::Paired);
                self.state = State::Paired { since: now };
            }
            (State::Paired { since }, I::SecondLost) if now.since(since) >= LASTING => {
                self.failures = 0;
                self.out.push_back(PairingOutput::Drop(PairEnd::SecondLost));
                self.wait(now);
            }
            (_, I::SecondLost) => self.give_up(now, PairEnd::SecondLost),
            (_, I::SecondLeft) => {
                self.out.push_back(PairingOutput::Drop(PairEnd::Drained));
                self.wait(now);
            }
            (State::Asking, I::Tick) if now >= self.until => self.give_up(now, PairEnd::Refused),
            (State::Aligning { .. } | State::Joining, I::Tick) if now >= self.until => {
                self.give_up(now, PairEnd::NotInStep);
            }
            _ => {}
        }
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<PairingOutput> {
        self.out.pop_front()
    }

    /// When the next [`PairingInput::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        (!matches!(self.state, State::Off | State::Paired { .. })).then_some(self.until)
    }

    fn enter(&mut self, state: State, until: Mono) {
        (self.state, self.until) = (state, until);
    }

    fn wait(&mut self, now: Mono) {
        let pause = (FIRST_PAUSE * 2_u32.pow(self.failures.min(10))).min(LONGEST_PAUSE);
        self.enter(State::Waiting, now + pause);
    }

    fn give_up(&mut self, now: Mono, end: PairEnd) {
        self.out.push_back(PairingOutput::Drop(end));
        self.failures += 1;
        self.wait(now);
    }
}

#[cfg(test)]
mod tests {
    use PairingInput as I;
    use PairingOutput as O;

    use super::*;

    const CLEAN: I = I::SegmentBegan { clean: true };
    const TO_PAIRED: [I; 5] = [I::Tick, I::Admitted, I::CaughtUp, CLEAN, I::Covered];

    /// Wanted at once; then each input as late as it may come.
    fn after(inputs: &[I]) -> (Pairing, Vec<O>) {
        let (mut pairing, mut said) = (Pairing::default(), Vec::new());
        pairing.handle(Mono::default(), I::Wanted);
        for input in inputs {
            let now = pairing.deadline().unwrap_or_default();
            pairing.handle(now, *input);
            said.extend(std::iter::from_fn(|| pairing.poll()));
        }
        (pairing, said)
    }

    #[test]
    fn a_second_begins_where_a_segment_begins_cleanly_and_is_promoted_when_the_first_dies() {
        let inputs = [I::Tick, CLEAN, I::Admitted, CLEAN, I::CaughtUp, CLEAN, I::Covered];
        let (mut pairing, said) = after(&inputs);
        assert_eq!(said, [O::Ask, O::Begin, O::Paired]);
        assert!(pairing.is_paired() && pairing.deadline().is_none());
        pairing.handle(Mono(Duration::from_secs(60)), I::FirstLost);
        assert_eq!(pairing.poll(), Some(O::Promote));
        assert_eq!(pairing.deadline(), Some(Mono(Duration::from_secs(61))), "the next is asked");
    }

    #[test]
    fn before_either_alone_would_do_the_loss_of_the_first_ends_both() {
        for count in 1..TO_PAIRED.len() {
            let inputs = [&TO_PAIRED[..count], &[I::FirstLost]].concat();
            let (pairing, said) = after(&inputs);
            assert_eq!(said.last(), Some(&O::Drop(PairEnd::FirstLost)), "{count}");
            assert_eq!(pairing.deadline(), None);
        }
    }

    #[test]
    fn a_stream_that_is_to_have_one_encoder_gives_the_second_up_at_once() {
        let (pairing, said) = after(&[&TO_PAIRED[..], &[I::Unwanted]].concat());
        assert_eq!(said.last(), Some(&O::Drop(PairEnd::Unwanted)));
        assert_eq!(pairing.deadline(), None);
    }

    #[test]
    fn a_second_that_leaves_its_node_is_followed_by_another_at_once_and_is_no_failure() {
        for count in 1..=TO_PAIRED.len() {
            let (pairing, said) = after(&[&TO_PAIRED[..count], &[I::SecondLeft]].concat());
            assert_eq!(said.last(), Some(&O::Drop(PairEnd::Drained)), "{count}");
            assert_eq!(pairing.failures, 0);
            assert_eq!(pairing.state, State::Waiting);
        }
        assert!(after(&[I::SecondLeft]).1.is_empty());
    }

    #[test]
    fn tries_that_lead_to_nothing_are_further_and_further_apart() {
        let mut pairing = Pairing::default();
        let (mut now, mut pauses) = (Mono::default(), Vec::new());
        pairing.handle(now, I::Wanted);
        for _ in 0..9 {
            let due = pairing.deadline().unwrap();
            pauses.push(due.since(now).as_secs());
            now = due;
            pairing.handle(now, I::Tick);
            pairing.handle(now, I::Refused);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_second_that_is_lost_again_and_again_soon_after_it_was_paired_is_asked_for_less_and_less() {
        let mut pairing = Pairing::default();
        let (mut now, mut pauses) = (Mono::default(), Vec::new());
        pairing.handle(now, I::Wanted);
        for lasts in [1, 1, 1, 60, 1] {
            for input in TO_PAIRED {
                now = pairing.deadline().unwrap_or(now);
                pairing.handle(now, input);
            }
            assert!(pairing.is_paired());
            now = now + Duration::from_secs(lasts);
            pairing.handle(now, I::SecondLost);
            pauses.push(pairing.deadline().unwrap().since(now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 1, 2]);
    }

    #[test]
    fn no_try_lasts_longer_than_its_deadline() {
        let ends = [PairEnd::Refused, PairEnd::NotInStep, PairEnd::NotInStep, PairEnd::NotInStep];
        for (count, end) in (1..TO_PAIRED.len()).zip(ends) {
            let (_, said) = after(&[&TO_PAIRED[..count], &[I::Tick]].concat());
            assert_eq!(said.last(), Some(&O::Drop(end)), "{count}");
        }
    }
}
