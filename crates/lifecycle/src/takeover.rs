//! Two publishers, one key: the newest authenticated one wins. Decides; the driver closes connections.
//!
//! The loser's address is refused for 60 s while the winner sends, so that two encoders that both reconnect do not throw each
//! other out for ever; more than three takeovers a minute and key are refused whoever asks.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use millrace_types::{Mono, RefusalReason};

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
#[derive(Debug, Default)]
pub struct Takeovers {
    current: Option<IpAddr>,
    loser: Option<(IpAddr, Mono)>,
    recent: VecDeque<Mono>,
}

impl Takeovers {
    /// A publisher at `from` has shown the key.
    pub fn asked(&mut self, now: Mono, from: IpAddr) -> Takeover {
        let Some(current) = self.current else {
            self.current = Some(from);
            return Takeover::Free;
        };
        let refused = |(loser, at): (IpAddr, Mono)| loser == from && now.since(at) < LOSER_REFUSED;
        // An encoder that reconnects from the address it already sends from is no second encoder.
        if from != current && self.loser.is_some_and(refused) {
            return Takeover::Refused(RefusalReason::TakenOver);
        }
        while self.recent.front().is_some_and(|&at| now.since(at) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MAX_TAKEOVERS {
            return Takeover::Refused(RefusalReason::TakeoverLimit);
        }
        self.recent.push_back(now);
        self.loser = (from != current).then_some((current, now));
        self.current = Some(from);
        Takeover::Replaces
    }

    /// The current publisher is gone; the key is free, also for a loser.
    pub fn left(&mut self) {
        self.current = None;
        self.loser = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn at(secs: u64) -> Mono {
        Mono(Duration::from_secs(secs))
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
}
