//! How fast a publisher may be: a file that is sent as fast as it goes is read at little more than the speed at which it is to be
//! watched. A live stream that ran ahead of the clock would show its viewers times and segment numbers of the future, which the
//! channel's next stream would use again. Decides; reads no clock.

use std::time::Duration;

use millrace_types::{MEDIA_TIMESCALE, MediaTime, Mono};

/// What may come at once: an encoder's backlog, the segments with which a restreamer begins.
const BURST: Duration = Duration::from_secs(20);
/// Media that may come in 4 s, beyond that.
const SECONDS_IN_FOUR: u32 = 5;

/// What a publisher may send at once, which grows while it sends less than it may.
#[derive(Clone, Copy, Debug)]
pub struct Rush {
    /// Media that was spent and has not grown again.
    spent: Duration,
    at: Mono,
    newest: Option<MediaTime>,
}

impl Rush {
    /// Nothing was sent yet.
    pub const fn new(now: Mono) -> Self {
        Self { spent: Duration::ZERO, at: now, newest: None }
    }

    /// What comes next is of another publisher: the time between is no media.
    pub fn begins_again(&mut self) {
        self.newest = None;
    }

    /// A picture or a frame of sound of that media time has come.
    pub fn saw(&mut self, now: Mono, at: MediaTime) {
        let grown = now.since(self.at) * SECONDS_IN_FOUR / 4;
        (self.spent, self.at) = (self.spent.saturating_sub(grown), now);
        let newest = self.newest.unwrap_or(at);
        let ticks = u64::try_from(at.0 - newest.0).unwrap_or(0);
        self.spent += Duration::from_micros(ticks * 1_000_000 / u64::from(MEDIA_TIMESCALE));
        self.newest = Some(newest.max(at));
    }

    /// Until when nothing more is to be read, if it came too fast.
    pub fn wait_until(&self) -> Option<Mono> {
        let beyond = self.spent.checked_sub(BURST).filter(|beyond| !beyond.is_zero())?;
        Some(self.at + beyond * 4 / SECONDS_IN_FOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = 3000;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    /// Media that is taken within `seconds` from who sends as fast as it may.
    fn taken_within(seconds: u64) -> u64 {
        let (mut rush, mut now, mut media) = (Rush::new(at(0)), at(0), 0);
        while now < at(seconds * 1000) {
            rush.saw(now, MediaTime(media));
            now = rush.wait_until().unwrap_or(now);
            media += FRAME;
        }
        u64::try_from(media).unwrap() / u64::from(MEDIA_TIMESCALE)
    }

    #[test]
    fn a_file_that_is_sent_at_once_is_read_little_faster_than_it_plays() {
        assert_eq!(taken_within(1), 21);
        assert_eq!(taken_within(400), 520);
    }

    #[test]
    fn who_sends_in_real_time_or_a_little_faster_is_never_waited_for() {
        let (mut rush, mut now) = (Rush::new(at(0)), Duration::ZERO);
        for frame in 0..100_000 {
            rush.saw(Mono(now), MediaTime(frame * FRAME));
            assert_eq!(rush.wait_until(), None);
            now += Duration::from_millis(27);
        }
    }

    #[test]
    fn a_backlog_after_a_stall_and_the_time_between_two_publishers_are_no_rush() {
        let mut rush = Rush::new(at(0));
        rush.saw(at(0), MediaTime(0));
        rush.saw(at(12_000), MediaTime(12 * 90_000));
        assert_eq!(rush.wait_until(), None);
        rush.begins_again();
        rush.saw(at(13_000), MediaTime(3600 * 90_000));
        assert_eq!(rush.wait_until(), None);
        rush.saw(at(13_000), MediaTime(3500 * 90_000));
        assert_eq!(rush.wait_until(), None, "what comes behind others costs nothing");
    }
}
