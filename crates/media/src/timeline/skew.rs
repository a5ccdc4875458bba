//! Tracks that arrive apart: how far apart is played as it is stamped, how long who comes late is waited for, and when that is for good.
//!
//! The first units of a connection's two tracks tell how far apart they arrive ([`super::clock`] places them): up to [`MAX_SKEW`]
//! is waited for, all the while. What goes beyond, and a track that later falls behind for good, is moved instead.

use std::time::Duration;

use millrace_types::{MEDIA_TIMESCALE, Mono};

const TICKS_PER_MS: i64 = MEDIA_TIMESCALE as i64 / 1_000;
/// Tracks whose units of one moment arrive this far from each other are played as they are stamped, ticks.
pub(super) const MAX_SKEW: i64 = 4_000 * TICKS_PER_MS;
/// How much longer than it first came late a track is waited for, ticks.
const MARGIN: i64 = 500 * TICKS_PER_MS;
/// Who is too late for so long, frame by frame, is so for good. A backlog is worked off earlier.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait for a track that first came `behind` ticks after the other: `usual`, or as long as that takes.
pub(super) fn wait_for(behind: i64, usual: i64) -> i64 {
    usual.max(behind.min(MAX_SKEW) + MARGIN)
}

/// One track's lateness on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lateness {
    /// Since when every frame came too late for its place.
    since: Option<Mono>,
}

impl Lateness {
    /// A frame came that is too late for its place by so many ticks, or is not; by how many all are, once that is for good.
    pub(super) fn for_good(&mut self, now: Mono, ticks: Option<i64>) -> Option<i64> {
        let Some(ticks) = ticks else {
            self.since = None;
            return None;
        };
        if now.since(*self.since.get_or_insert(now)) < PATIENCE {
            return None;
        }
        self.since = None;
        Some(ticks)
    }
}
