//! A leaky bucket in bytes: how far a publisher is above its sustained rate. Pure.

use std::time::Duration;

use millrace_types::Mono;

/// Empties at the sustained rate; overflows when more than a burst has gathered.
#[derive(Debug)]
pub struct RateLimit {
    bits_per_second: u64,
    burst_bits: f64,
    level_bits: f64,
    at: Mono,
}

impl RateLimit {
    /// An empty bucket that takes `burst` of the rate at once.
    pub fn new(now: Mono, bits_per_second: u64, burst: Duration) -> Self {
        let burst_bits = bits_per_second as f64 * burst.as_secs_f64();
        Self { bits_per_second, burst_bits, level_bits: 0.0, at: now }
    }

    /// Counts received bytes; `false` once the sustained rate is exceeded.
    #[must_use]
    pub fn admit(&mut self, now: Mono, bytes: usize) -> bool {
        let drained = now.since(self.at).as_secs_f64() * self.bits_per_second as f64;
        self.at = self.at.max(now);
        self.level_bits = (self.level_bits - drained).max(0.0) + bytes as f64 * 8.0;
        self.level_bits <= self.burst_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_sustained_excess_does_not() {
        let mut limit = RateLimit::new(Mono::default(), 8_000, Duration::from_secs(10));
        assert!(limit.admit(Mono::default(), 10_000));
        let mut admitted = 0;
        for second in 1..100 {
            let now = Mono(Duration::from_secs(second));
            admitted += u32::from(limit.admit(now, 1_000));
        }
        assert_eq!(admitted, 99);
        let mut now = Mono(Duration::from_secs(100));
        let refused_after = (0..).find(|_| {
            now = now + Duration::from_secs(1);
            !limit.admit(now, 2_000)
        });
        assert!(refused_after < Some(12));
    }
}
