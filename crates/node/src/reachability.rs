//! Whether an origin is lost: its connections break twice in a row, or it does not answer for a second. Pure.
//!
//! One broken connection may be an old one that the origin closed. Silence counts only while this node's own tick is on time:
//! else a node that was held up would find every origin lost.

use std::time::Duration;

use millrace_types::Mono;

/// From one look to the next while an answer is awaited.
pub const TICK: Duration = Duration::from_millis(100);
/// A tick that comes later than this says that this node was held up; the silence starts anew.
const LATE: Duration = Duration::from_millis(200);
/// Without an answer for so long, the origin is lost.
const SILENCE: Duration = Duration::from_secs(1);
/// So many broken connections in a row too.
const BREAKS: u32 = 2;

/// What was observed of one origin by one who waits for its answers.
#[derive(Clone, Copy, Debug)]
pub struct Reachability {
    silent_since: Mono,
    ticked: Mono,
    breaks: u32,
}

impl Reachability {
    /// An origin that is asked from now on.
    pub const fn new(now: Mono) -> Self {
        Self { silent_since: now, ticked: now, breaks: 0 }
    }

    /// It answered something.
    pub fn answered(&mut self, now: Mono) {
        *self = Self::new(now);
    }

    /// A connection to it broke, or could not be made; whether it is lost.
    pub fn broke(&mut self) -> bool {
        self.breaks += 1;
        self.breaks >= BREAKS
    }

    /// Time has passed while an answer was awaited; whether the origin is lost.
    pub fn tick(&mut self, now: Mono) -> bool {
        if now.since(self.ticked) > TICK + LATE {
            self.silent_since = now;
        }
        self.ticked = now;
        now.since(self.silent_since) >= SILENCE
    }

    /// An answer is awaited from now on: the time between two requests is no silence.
    pub fn asked(&mut self, now: Mono) {
        if self.breaks == 0 && now.since(self.ticked) > TICK + LATE {
            self.silent_since = now;
        }
        self.ticked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    /// When it is lost, ticking every 100 ms from 0 on but for the ticks in `held_up`.
    fn lost_at(held_up: std::ops::Range<u64>) -> Option<u64> {
        let mut origin = Reachability::new(at(0));
        origin.asked(at(0));
        let ticks = (100..5_000).step_by(100).filter(|tick| !held_up.contains(tick));
        ticks.into_iter().find(|tick| origin.tick(at(*tick)))
    }

    #[test]
    fn a_second_without_an_answer_is_a_loss() {
        assert_eq!(lost_at(0..0), Some(1_000));
    }

    #[test]
    fn a_node_that_was_held_up_itself_blames_nobody_for_that_time() {
        assert_eq!(lost_at(500..2_500), Some(3_500));
    }

    #[test]
    fn two_broken_connections_in_a_row_are_a_loss_and_one_between_answers_is_not() {
        let mut origin = Reachability::new(at(0));
        assert!(!origin.broke());
        origin.answered(at(10));
        assert!(!origin.broke());
        assert!(origin.broke());
    }

    #[test]
    fn silence_goes_on_from_one_try_to_the_next() {
        let mut origin = Reachability::new(at(0));
        origin.asked(at(0));
        assert!((100..=900).step_by(100).all(|tick| !origin.tick(at(tick))));
        origin.asked(at(950));
        assert!(origin.tick(at(1_050)));
    }

    #[test]
    fn time_between_two_requests_is_no_silence() {
        let mut origin = Reachability::new(at(0));
        origin.answered(at(10));
        origin.asked(at(10_000));
        assert!(!origin.tick(at(10_100)));
    }
}
