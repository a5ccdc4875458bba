//! Whether a track's timestamps stand still while its frames keep coming: by such a clock nothing ends and nothing can be shown.
//! Decides nothing about timestamps that move, however wrongly.

use std::time::Duration;

use millrace_types::Mono;

/// How long they may stand.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// So many frames must have come meanwhile: pictures of slides come seconds apart.
const LEAST_FRAMES: u32 = 50;
/// Timestamps that differ by less have not moved, milliseconds. No source sends [`LEAST_FRAMES`] of one track within it.
const MOVED_MS: u32 = 100;

/// One track's timestamps since they moved last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standstill {
    /// When they moved last, and where to.
    moved: Option<(Mono, u32)>,
    frames: u32,
}

impl Standstill {
    /// A frame with that RTMP timestamp has come; whether they stand still.
    pub(super) fn came(&mut self, now: Mono, timestamp_ms: u32) -> bool {
        let has_moved = |from: u32| {
            let by = timestamp_ms.wrapping_sub(from);
            by.min(by.wrapping_neg()) >= MOVED_MS
        };
        match self.moved {
            Some((since, from)) if !has_moved(from) => {
                self.frames += 1;
                self.frames >= LEAST_FRAMES && now.since(since) >= PATIENCE
            }
            _ => {
                *self = Self { moved: Some((now, timestamp_ms)), frames: 0 };
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the frames, each `(arrival, timestamp)` in milliseconds, come until they stand still.
    fn stands_after(frames: impl IntoIterator<Item = (u64, u32)>) -> Option<usize> {
        let mut track = Standstill::default();
        let came = |(at, ms)| track.came(Mono(Duration::from_millis(at)), ms);
        frames.into_iter().map(came).position(|stands| stands)
    }

    #[test]
    fn timestamps_that_do_not_move_for_five_seconds_stand_still() {
        let frames = |ms: fn(u64) -> u32| (0..1_000).map(move |n| (n * 40, ms(n)));
        assert_eq!(stands_after(frames(|_| 0)), Some(125));
        assert_eq!(stands_after(frames(|n| (n % 2) as u32)), Some(125), "to and fro is no way on");
        assert_eq!(stands_after(frames(|n| (n as u32 * 40).wrapping_sub(1_000))), None, "a wrap");
        let restarts = |n| if n < 500 { 5_000_000 + n as u32 * 40 } else { (n as u32 - 500) * 40 };
        assert_eq!(stands_after(frames(restarts)), None, "a new beginning");
        let frozen = |n| if n < 500 { n as u32 * 40 } else { 20_000 };
        assert_eq!(stands_after(frames(frozen)), Some(623), "also in the midst of a stream");
    }

    #[test]
    fn slides_a_backlog_and_a_slow_connection_are_no_standstill() {
        assert_eq!(stands_after((0..40).map(|n| (n * 10_000, n as u32 * 10_000))), None);
        assert_eq!(stands_after((0..40).map(|n| (n * 1_000, 0))), None, "few frames prove little");
        let backlog = (0..500_u64).map(|n| (if n == 0 { 0 } else { 20_000 }, n as u32 * 8));
        assert_eq!(stands_after(backlog), None);
        assert_eq!(stands_after((0..500).map(|n| (n * 400, n as u32 * 33))), None);
    }
}
