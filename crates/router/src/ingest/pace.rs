//! How often a publisher's socket is looked at. Nothing is published before a part is complete: what comes in the midst of one
//! waits in the kernel until some of it is there, and is taken in one go.
//!
//! ```text
//! part begins ─pause─ look ─pause─ look ─pause─ look ─ look ─── every beat, until the next part has begun
//!                            a little before it is due ┘      └ when it is due
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// The longest pause, and with it what a router's death can cost that had come already: three for a part of 0.334 s.
const LONGEST: Duration = Duration::from_millis(105);
/// So long before a part is due is the last look before it: the pictures that complete the part before are not to be encoded all at
/// once, and of most streams one more comes until then.
const EARLY: Duration = Duration::from_millis(25);
/// No pause is worth it that is shorter.
const SHORTEST: Duration = Duration::from_millis(15);
/// Who sends so much between two looks is behind, and not to be slowed down by a full socket.
const MOST_BYTES: usize = 128 << 10;

/// When a publisher's next part is due, from the publication's owner to its connection; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<Mutex<Option<Instant>>>);

impl Pace {
    /// What comes before `due` is in no hurry; all is, while it is `None`.
    pub fn expect(&self, due: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    /// Until when the socket is left alone from which `bytes` were just read.
    pub(super) fn next_look(&self, bytes: usize) -> Option<Instant> {
        self.next_look_at(Instant::now(), bytes)
    }

    fn next_look_at(&self, now: Instant, bytes: usize) -> Option<Instant> {
        let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = due?.saturating_duration_since(now);
        Some(now + pause(left).filter(|_| bytes < MOST_BYTES)?)
    }
}

/// The first of as few pauses of equal length as the time allows that is `left` until a part is due, but for the last one.
fn pause(left: Duration) -> Option<Duration> {
    let calm = left.saturating_sub(EARLY);
    let pauses = calm.as_micros().div_ceil(LONGEST.as_micros()).max(1);
    let pause = calm / u32::try_from(pauses).unwrap_or(u32::MAX);
    [pause, left].into_iter().find(|pause| *pause >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_334_ms_is_looked_at_four_times_before_it_is_due_then_when_it_is_and_at_every_beat()
    {
        let (pace, begin) = (Pace::default(), Instant::now());
        let due = Duration::from_millis(334);
        pace.expect(Some(begin + due));
        let mut looks = vec![Duration::ZERO];
        while let Some(next) = pace.next_look_at(begin + looks[looks.len() - 1], 1_000) {
            looks.push(next - begin);
        }
        let ms: Vec<_> = looks.iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [0, 103, 206, 309, 334]);
        assert_eq!(pace.next_look_at(begin + due * 2, 1_000), None, "it is late");
    }

    #[test]
    fn nobody_is_left_alone_who_is_in_a_hurry_or_behind() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.next_look_at(now, 1_000), None);
        pace.expect(Some(now + Duration::from_secs(3)));
        assert_eq!(pace.next_look_at(now, MOST_BYTES), None);
        assert!(pace.next_look_at(now, MOST_BYTES - 1).is_some_and(|look| look <= now + LONGEST));
        pace.expect(None);
        assert_eq!(pace.next_look_at(now, 1_000), None);
    }
}
