//! How often one kind of log line may be written: strangers must not be able to fill a disk. Decides; writes nothing.

use std::time::Duration;

use millrace_types::Mono;

/// Lines that may come at once.
const BURST: u32 = 10;
/// After a burst, one line in so long.
const EVERY: Duration = Duration::from_secs(10);

/// The limit of one kind of line: a burst, then one every ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineLimit {
    /// Lines of the current burst.
    written: u32,
    /// The newest of them.
    at: Mono,
    left_out: u64,
}

impl LineLimit {
    /// Whether a line may be written now; if so, how many were left out since the last one.
    pub fn admit(&mut self, now: Mono) -> Option<u64> {
        let rested = now.since(self.at).as_nanos() / EVERY.as_nanos();
        let rested = u32::try_from(rested).unwrap_or(u32::MAX);
        if rested > 0 {
            self.written = self.written.saturating_sub(rested);
        }
        if self.written >= BURST {
            self.left_out += 1;
            return None;
        }
        if self.written == 0 || rested > 0 {
            self.at = now;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_then_one_line_in_ten_seconds_that_counts_the_others() {
        let mut limit = LineLimit::default();
        let mut written = Vec::new();
        // 100 lines a second for 25 seconds.
        for line in 0..2_500 {
            let now = Mono(Duration::from_millis(line * 10));
            if let Some(left_out) = limit.admit(now) {
                written.push(left_out);
            }
        }
        assert_eq!(written, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 990, 999]);
        let later = Mono(Duration::from_secs(1_000));
        assert_eq!(limit.admit(later), Some(499));
        assert_eq!(limit.admit(later), Some(0), "a whole burst again");
    }
}
