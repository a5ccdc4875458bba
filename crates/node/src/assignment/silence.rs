//! Whether the router of an assignment is silent, as far as this side has listened to it. Decides; the assignment owns the Link.

use std::time::Duration;

use millrace_types::Mono;

/// From one heartbeat to the next, on every connection.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(200);
/// Silence of the router after which the Link is lost.
pub(super) const LINK_SILENCE: Duration = Duration::from_secs(1);
/// A beat that comes later than this says that this node is slow; the silence starts anew.
const LATE: Duration = Duration::from_millis(300);

/// For how long the router has said nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouterSilence {
    heard_at: Mono,
    /// When this side last had its turn: silence counts only while that is on time.
    beat_at: Mono,
}

impl RouterSilence {
    pub(super) const fn new(now: Mono) -> Self {
        Self { heard_at: now, beat_at: now }
    }

    /// The router has said something.
    pub(super) const fn heard(&mut self, now: Mono) {
        self.heard_at = now;
    }

    /// At every beat: whether the router has been silent for too long. `listens`: somebody reads what it says.
    pub(super) fn beat(&mut self, now: Mono, listens: bool) -> bool {
        let is_late = now.since(self.beat_at) > BEAT_EVERY + LATE;
        self.beat_at = now;
        if is_late || !listens {
            self.heard_at = now;
        }
        now.since(self.heard_at) > LINK_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    /// The beats, every 200 ms from `from` to `to`, at which the router counts as silent.
    fn silent(silence: &mut RouterSilence, from: u64, to: u64, listens: bool) -> Vec<u64> {
        (from..=to).step_by(200).filter(|&now| silence.beat(at(now), listens)).collect()
    }

    #[test]
    fn a_router_is_silent_after_a_second_in_which_somebody_listened() {
        let mut silence = RouterSilence::new(at(0));
        assert_eq!(silent(&mut silence, 200, 1_200, true), [1_200]);
        silence.heard(at(1_300));
        assert_eq!(silent(&mut silence, 1_400, 2_400, true), [2_400]);
    }

    #[test]
    fn who_does_not_listen_or_is_slow_itself_takes_nobody_for_silent() {
        let mut silence = RouterSilence::new(at(0));
        assert!(silent(&mut silence, 200, 5_000, false).is_empty());
        assert_eq!(silent(&mut silence, 5_200, 6_200, true), [6_200], "counted from then on");
        assert!(!silence.beat(at(6_701), true), "it was not there itself");
    }
}
