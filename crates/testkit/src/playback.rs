//! A simulated viewer: plays what a recording got, in real time, and waits where a part was not there yet. Pure.

use std::time::{Duration, Instant};

use crate::{Chunk, RenditionRecording};

/// What a viewer waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When the picture stopped.
    pub at: Instant,
    /// How long.
    pub lasted: Duration,
}

impl RenditionRecording {
    /// The waits of a viewer who begins at `join`, `behind` behind the newest part that had come by then (or at the first part
    /// there is), plays in real time and leaves at `leave`. It never skips: after a stall it is that much further behind.
    pub fn stalls(&self, join: Instant, leave: Instant, behind: Duration) -> Vec<Stall> {
        let live_s: f64 =
            self.chunks.iter().filter(|chunk| chunk.arrived <= join).map(|c| c.declared_s).sum();
        let begin_s = (live_s - behind.as_secs_f64()).max(0.0);
        let mut stalls = Vec::new();
        // Where the viewer is, and what it has waited for in all.
        let (mut at_s, mut waited) = (0.0, Duration::ZERO);
        for Chunk { declared_s, arrived, .. } in &self.chunks {
            let due = join + waited + Duration::from_secs_f64(f64::max(at_s - begin_s, 0.0));
            if due >= leave {
                break;
            }
            at_s += declared_s;
            if at_s > begin_s && *arrived > due {
                let lasted = (*arrived).min(leave) - due;
                stalls.push(Stall { at: due, lasted });
                waited += lasted;
            }
        }
        stalls
    }

    /// The longest of them.
    pub fn longest_stall(&self, join: Instant, leave: Instant, behind: Duration) -> Duration {
        let stalls = self.stalls(join, leave, behind);
        stalls.iter().map(|stall| stall.lasted).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::arrivals;

    const SECOND: Duration = Duration::from_secs(1);

    /// The stalls in milliseconds after `start`, of a viewer of parts of one second that joins at 2 s and leaves at 20 s.
    fn stalls(at_ms: &[u64], behind: Duration) -> Vec<(u128, u128)> {
        let recording = arrivals(at_ms);
        let start = recording.chunks[0].arrived;
        let stalls = recording.stalls(start + 2 * SECOND, start + 20 * SECOND, behind);
        let ms = |stall: &Stall| ((stall.at - start).as_millis(), stall.lasted.as_millis());
        stalls.iter().map(ms).collect()
    }

    #[test]
    fn a_viewer_that_is_far_enough_behind_waits_for_nothing() {
        // Four parts are there at 2 s; the next comes 2.5 s late.
        let late = [0, 0, 1_000, 2_000, 5_500, 5_600, 5_700, 6_000];
        assert_eq!(stalls(&late, 3 * SECOND + SECOND / 2), []);
        assert_eq!(stalls(&late, 3 * SECOND), [(5_000, 500)]);
    }

    #[test]
    fn after_a_stall_it_is_further_behind_and_a_second_one_that_is_no_longer_costs_nothing() {
        let twice = [0, 1_000, 2_000, 4_000, 4_000, 5_000, 7_000, 7_000];
        assert_eq!(stalls(&twice, SECOND), [(3_000, 1_000)]);
        let longer = [0, 1_000, 2_000, 4_000, 4_000, 5_000, 7_500, 7_500];
        assert_eq!(stalls(&longer, SECOND), [(3_000, 1_000), (7_000, 500)]);
    }

    #[test]
    fn at_live_every_part_that_is_late_is_waited_for() {
        assert_eq!(stalls(&[0, 1_000, 2_000, 3_100], Duration::ZERO), [(2_000, 1_100)]);
    }

    #[test]
    fn before_it_joins_and_after_it_leaves_nothing_counts() {
        let late = arrivals(&[0, 10_000, 11_000, 12_000, 30_000]);
        let start = late.chunks[0].arrived;
        let stalls = |join: u32, leave: u32| {
            late.longest_stall(start + join * SECOND, start + leave * SECOND, SECOND)
        };
        assert_eq!(stalls(12, 13), Duration::ZERO);
        assert_eq!(stalls(12, 16), 3 * SECOND);
        assert_eq!(stalls(12, 40), 17 * SECOND);
    }
}
