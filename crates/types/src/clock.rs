//! Three clocks, kept apart by type: [`Mono`] for deadlines, [`Wall`] for people, [`MediaTime`] for pictures.
//!
//! None of them can be read here; the real clock lives in `millrace-telemetry`.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Ticks of [`MediaTime`] in one second: the 90 kHz of MPEG systems and of our video tracks.
pub const MEDIA_TIMESCALE: u32 = 90_000;

/// A moment of the monotonic clock: the time since an arbitrary start of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub Duration);

impl Mono {
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

/// A moment of UTC: microseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Wall(pub u64);

impl Wall {
    /// Whole seconds since the Unix epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Add<Duration> for Wall {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Writes RFC 3339 in UTC with milliseconds, as `EXT-X-PROGRAM-DATE-TIME` wants it: `2026-11-21T01:02:03.456Z`.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1_000_000, self.0 / 1_000 % 1_000);
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) =
            (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The proleptic Gregorian date of a day counted from 1970-01-01.
/// Years are counted from March, so that the leap day is a year's last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn civil_from_days(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A moment of a stream's media clock in ticks of 90 kHz, anchored to UTC: about 1.6e14 in this decade.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// The same moment in ticks of another timescale, rounded to the nearest.
    pub const fn in_timescale(self, timescale: u32) -> i64 {
        rescale(self.0, MEDIA_TIMESCALE, timescale)
    }

    /// The moment that `ticks` of `timescale` stand for, rounded to the nearest tick of 90 kHz.
    pub const fn from_timescale(ticks: i64, timescale: u32) -> Self {
        Self(rescale(ticks, timescale, MEDIA_TIMESCALE))
    }

    /// The media time at which UTC is `wall`.
    pub const fn from_wall(wall: Wall) -> Self {
        Self((wall.0 / 100 * 9) as i64)
    }

    /// UTC at this media time, zero for what lies before 1970.
    pub const fn to_wall(self) -> Wall {
        let ticks = if self.0 < 0 { 0 } else { self.0 as u64 };
        Wall((ticks as u128 * 100 / 9) as u64)
    }

    /// Seconds, for text and comparisons with a tolerance.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / f64::from(MEDIA_TIMESCALE)
    }
}

const fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    let (product, from) = (ticks as i128 * to as i128, from as i128);
    (product + from / 2).div_euclid(from) as i64
}

/// Ticks from `rhs` to `self`; negative if `rhs` is later.
impl Sub for MediaTime {
    type Output = i64;
    fn sub(self, rhs: Self) -> i64 {
        self.0 - rhs.0
    }
}

impl Add<i64> for MediaTime {
    type Output = Self;
    fn add(self, ticks: i64) -> Self {
        Self(self.0 + ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_prints_rfc3339_also_on_leap_days() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Wall(951_782_400_123_999).to_string(), "2000-02-29T00:00:00.123Z");
        assert_eq!(Wall(1_795_222_923_456_000).to_string(), "2026-11-21T01:02:03.456Z");
    }

    #[test]
    fn media_time_survives_a_round_trip_through_an_audio_timescale() {
        let start = MediaTime::from_wall(Wall(1_795_222_923_456_000));
        let ticks = start.in_timescale(44_100);
        assert!((MediaTime::from_timescale(ticks, 44_100) - start).abs() <= 1);
        assert!(start.to_wall().0.abs_diff(1_795_222_923_456_000) < 100);
    }

    #[test]
    fn negative_media_time_rounds_to_the_nearest_tick() {
        assert_eq!(MediaTime(-90_000).in_timescale(48_000), -48_000);
        assert_eq!(MediaTime(-1).in_timescale(45_000), 0);
    }
}
