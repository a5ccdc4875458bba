//! Two publishers, one key: the newest authenticated one wins. Decides; the driver closes connections.
//!
//! The loser's address is refused for 60 s while the winner sends, so that two encoders that both reconnect do not throw each
//! other out for ever; more than three takeovers a minute and key are refused whoever asks.
//!
//! What is remembered stands in the stream's record, so that all routers decide alike. It holds UTC: clocks of hosts that differ
//! by seconds shift the limits by as much.

use std::{net::IpAddr, time::Duration};

use millrace_types::{RefusalReason, Wall};
use serde::{Deserialize, Serialize};

/// How long the loser's address is refused while the winner sends.
const LOSER_REFUSED: Duration = Duration::from_secs(60);
/// Takeovers taken in within [`WINDOW`].
const MAX_TAKEOVERS: usize = 3;
/// What the limit counts over.
const WINDOW: Duration = Duration::from_secs(60);

/// What a newly authenticated publisher gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// The key is free.
    Free,
    /// It wins; close the other one as [`RefusalReason::TakenOver`].
    Replaces,
    /// It is refused.
    Refused(RefusalReason),
}

/// The publishers of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Takeovers {
    /// Where the publisher is that sends now.
    current: Option<IpAddr>,
    /// Where the one was whose place it took, and when.
    loser: Option<(IpAddr, Wall)>,
    /// When takeovers were let in, [`MAX_TAKEOVERS`] at most.
    recent: Vec<Wall>,
}

impl Takeovers {
    /// A publisher at `from` has shown the key.
    pub fn asked(&mut self, now: Wall, from: IpAddr) -> Takeover {
        let Some(current) = self.current else {
            self.current = Some(from);
            return Takeover::Free;
        };
        let refused =
            |(loser, at): (IpAddr, Wall)| loser == from && is_within(LOSER_REFUSED, now, at);
        // An encoder that reconnects from the address it already sends from is no second encoder.
        if from != current && self.loser.is_some_and(refused) {
            return Takeover::Refused(RefusalReason::TakenOver);
        }
        self.recent.retain(|&at| is_within(WINDOW, now, at));
        if self.recent.len() >= MAX_TAKEOVERS {
            return Takeover::Refused(RefusalReason::TakeoverLimit);
        }
        self.recent.push(now);
        if from != current {
            self.loser = Some((current, now));
        }
        self.current = Some(from);
        Takeover::Replaces
    }

    /// The current publisher is gone; the key is free, also for a loser.
    pub fn left(&mut self) {
        self.current = None;
        self.loser = None;
    }
}

/// Whether `at` is less than `window` away; a clock that was set back must not keep anybody out for longer.
fn is_within(window: Duration, now: Wall, at: Wall) -> bool {
    Duration::from_micros(now.0.abs_diff(at.0)) < window
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn at(secs: u64) -> Wall {
        Wall(1_795_222_923_000_000) + Duration::from_secs(secs)
    }

    #[test]
    fn the_newest_wins_and_the_loser_is_refused_for_a_minute() {
        let mut key = Takeovers::default();
        assert_eq!(key.asked(at(0), A), Takeover::Free);
        assert_eq!(key.asked(at(1), B), Takeover::Replaces);
        assert_eq!(key.asked(at(2), A), Takeover::Refused(RefusalReason::TakenOver));
        assert_eq!(key.asked(at(62), A), Takeover::Replaces);
    }

    #[test]
    fn the_loser_is_welcome_once_the_winner_is_gone() {
        let mut key = Takeovers::default();
        key.asked(at(0), A);
        key.asked(at(1), B);
        key.left();
        assert_eq!(key.asked(at(2), A), Takeover::Free);
    }

    #[test]
    fn a_reconnect_from_the_same_address_replaces_its_dead_connection_at_most_three_times_a_minute()
    {
        let mut key = Takeovers::default();
        key.asked(at(0), A);
        for second in 1..=3 {
            assert_eq!(key.asked(at(second), A), Takeover::Replaces);
        }
        assert_eq!(key.asked(at(4), A), Takeover::Refused(RefusalReason::TakeoverLimit));
        assert_eq!(key.asked(at(61), A), Takeover::Replaces);
    }

    #[test]
    fn two_encoders_at_two_routers_that_share_a_record_take_it_from_each_other_as_at_one() {
        let mut record = serde_json::json!({});
        let mut said = Vec::new();
        for (second, from) in [(0, A), (1, B), (2, A), (3, B), (4, B), (5, B)] {
            let mut router: Takeovers = serde_json::from_value(record).unwrap();
            said.push(router.asked(at(second), from));
            record = serde_json::to_value(router).unwrap();
        }
        let (lost, limit) = (RefusalReason::TakenOver, RefusalReason::TakeoverLimit);
        let (wins, lost, limit) =
            (Takeover::Replaces, Takeover::Refused(lost), Takeover::Refused(limit));
        assert_eq!(said, [Takeover::Free, wins, lost, wins, wins, limit]);
    }

    #[test]
    fn a_clock_that_was_set_back_refuses_nobody_for_longer_than_a_minute() {
        let mut key = Takeovers::default();
        key.asked(at(3_600), A);
        key.asked(at(3_601), B);
        assert_eq!(key.asked(at(1), A), Takeover::Replaces);
    }
}
