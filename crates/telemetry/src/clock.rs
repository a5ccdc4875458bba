//! The real clocks. Everything else is handed [`Mono`] and [`Wall`] as values.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_types::{Mono, Wall};

/// What reads time; tests hand out their own.
pub trait Clock: Send + Sync {
    /// Monotonic time since this clock was made.
    fn mono(&self) -> Mono;
    /// UTC.
    fn wall(&self) -> Wall;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The tokio instant at which this clock shows `at`.
    pub fn instant(&self, at: Mono) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + at.0)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> Mono {
        Mono(self.start.elapsed())
    }

    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}
