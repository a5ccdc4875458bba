//! Estimates how many watch a stream, without knowing who: each served playlist stands for the time until the player asks again.
//! Players of other origins count too: those ask here and say for how many. A cache between here and the players counts as one.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use millrace_types::{Mono, StreamId};

/// Length of one counting period.
const PERIOD_S: u64 = 6;
/// Streams that the farm is told of: those with the most viewers.
const MOST_TOLD: usize = 500;
/// Digits of a count that are told: what is an estimate anyway need not be written anew all the time.
const TOLD_DIGITS: u32 = 3;

/// Watching time, counted in periods. Concurrent updates at a period's edge may lose one; it is an estimate.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    period: AtomicU64,
    current_ms: AtomicU64,
    previous_ms: AtomicU64,
}

impl Audience {
    /// A player was given a playlist and will ask again after `lasts`.
    pub(crate) fn watched(&self, now: Mono, lasts: Duration) {
        self.turn(now);
        self.current_ms.fetch_add(lasts.as_millis().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    /// Players watching: the watching time of the last full period by its length.
    pub(crate) fn viewers(&self, now: Mono) -> u64 {
        self.turn(now);
        let full = self.previous_ms.load(Relaxed) as f64 / (PERIOD_S * 1000) as f64;
        full.round() as u64
    }

    fn turn(&self, now: Mono) {
        let period = now.0.as_secs() / PERIOD_S;
        // A request that waited may come with a time of the period before: it counts for this one.
        let seen = self.period.fetch_max(period, Relaxed);
        if seen < period {
            let ended = self.current_ms.swap(0, Relaxed);
            self.previous_ms.store(if seen + 1 == period { ended } else { 0 }, Relaxed);
        }
    }
}

/// What the farm is told of the streams with at least `from` viewers.
pub(crate) fn told(
    audiences: impl Iterator<Item = (StreamId, u64)>,
    from: u64,
) -> BTreeMap<StreamId, u64> {
    let mut told: Vec<_> = audiences.filter(|(_, viewers)| *viewers >= from.max(1)).collect();
    told.sort_by_key(|(_, viewers)| Reverse(*viewers));
    told.truncate(MOST_TOLD);
    told.into_iter().map(|(stream, viewers)| (stream, rounded(viewers))).collect()
}

fn rounded(viewers: u64) -> u64 {
    let digits = viewers.checked_ilog10().unwrap_or(0) + 1;
    let unit = 10_u64.pow(digits.saturating_sub(TOLD_DIGITS));
    viewers / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farm_is_told_of_the_most_watched_streams_in_round_numbers() {
        let stream = |number: u64| (format!("s{number}").parse().unwrap(), number);
        let audiences = || (0..2_000).map(stream);
        let all = told(audiences(), 1_000);
        assert_eq!(all.len(), MOST_TOLD);
        assert_eq!(all[&stream(1_999).0], 1_990);
        assert!(!all.contains_key(&stream(1_499).0));
        let few = told(audiences().take(102), 100);
        assert_eq!(few, [stream(100), stream(101)].into());
        assert!(told([stream(0)].into_iter(), 0).is_empty());
    }

    #[test]
    fn who_has_waited_over_the_edge_of_a_period_counts_and_takes_nothing_from_others() {
        let (audience, each) = (Audience::default(), Duration::from_millis(500));
        for ms in (6_000..18_000).step_by(500) {
            audience.watched(Mono(Duration::from_millis(ms)), each);
            audience.watched(Mono(Duration::from_millis(ms - 300)), each);
        }
        assert_eq!(audience.viewers(Mono(Duration::from_millis(18_000))), 2);
        assert_eq!(audience.viewers(Mono(Duration::from_millis(17_900))), 2);
    }

    #[test]
    fn players_with_and_without_low_latency_count_alike_and_leave() {
        let audience = Audience::default();
        for ms in (6_000..12_000).step_by(500) {
            let now = Mono(Duration::from_millis(ms));
            audience.watched(now, Duration::from_millis(500));
            if ms % 2_000 == 0 {
                audience.watched(now, Duration::from_secs(2));
            }
        }
        assert_eq!(audience.viewers(Mono(Duration::from_secs(13))), 2);
        assert_eq!(audience.viewers(Mono(Duration::from_secs(30))), 0);
    }
}
