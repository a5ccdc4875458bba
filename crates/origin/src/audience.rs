//! Estimates how many watch a stream, without knowing who: each served playlist stands for the time until the player asks again.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use millrace_types::Mono;

/// Length of one counting period.
const PERIOD_S: u64 = 6;

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
        let seen = self.period.swap(period, Relaxed);
        if seen != period {
            let ended = self.current_ms.swap(0, Relaxed);
            self.previous_ms.store(if seen + 1 == period { ended } else { 0 }, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
