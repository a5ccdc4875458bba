//! The frame rate: known values, its detection from timestamps, and the grid that millisecond jitter is smoothed on.
//!
//! A frame that fits no grid (variable frame rate) keeps its own time.

use millrace_types::{FrameRate, MEDIA_TIMESCALE, MediaTime};

/// How far a millisecond timestamp may lie from the grid, ticks: rounding, and a few milliseconds of jitter.
const MAX_RESIDUAL: i64 = 6 * 90;
/// A mean distance from the grid that is corrected, ticks.
const DRIFT_TOLERANCE: i64 = 3 * 90;
/// Correction per frame, ticks: follows 29.97 fps on a grid of 30, and no part grows past its target by it.
const DRIFT_STEP: i64 = 4;
/// Misfits are worth two, fits take one away; at this many the rate is given up and detected again.
const MAX_MISFITS: u32 = 32;
/// Frames that a detection looks at.
pub(super) const DETECTION_FRAMES: usize = 12;

/// Ticks from the grid's origin to its `n`-th frame, rounded to the nearest.
fn ticks(n: i64, rate: FrameRate) -> i64 {
    let (num, den) = (i128::from(rate.num), i128::from(rate.den));
    let product = i128::from(n) * den * i128::from(MEDIA_TIMESCALE);
    (product + num / 2).div_euclid(num) as i64
}

/// The frame of the grid that is nearest to `offset` ticks.
pub(super) fn nearest(offset: i64, rate: FrameRate) -> i64 {
    let scale = i128::from(rate.den) * i128::from(MEDIA_TIMESCALE);
    let product = i128::from(offset) * i128::from(rate.num);
    (product + scale / 2).div_euclid(scale) as i64
}

/// The known rate that is meant by `fps`: an integer from 5 to 1,000, its NTSC neighbour, or 12.5 and 7.5.
pub(super) fn known_rate(fps: f64, tolerance: f64) -> Option<FrameRate> {
    if !(4.9..1_000.5).contains(&fps) {
        return None;
    }
    let whole = fps.round() as u32;
    let candidates = [
        FrameRate { num: whole, den: 1 },
        FrameRate { num: whole * 1_000, den: 1_001 },
        FrameRate { num: 25, den: 2 },
        FrameRate { num: 15, den: 2 },
    ];
    let distance = |rate: &FrameRate| (rate.fps() / fps - 1.0).abs();
    // The first wins when none is clearly nearer: a detection cannot tell 30 from 29.97.
    let best = candidates.into_iter().min_by(|a, b| {
        (distance(a) / tolerance).trunc().total_cmp(&(distance(b) / tolerance).trunc())
    });
    best.filter(|rate| distance(rate) <= tolerance)
}

/// The rate of frames that were decoded at `moments`; `None` when they are irregular or too few.
pub(super) fn detect(moments: &[i64]) -> Option<FrameRate> {
    let (first, last) = (*moments.first()?, *moments.last()?);
    if moments.len() < DETECTION_FRAMES || last <= first {
        return None;
    }
    let fps = (moments.len() - 1) as f64 * f64::from(MEDIA_TIMESCALE) / (last - first) as f64;
    let rate = known_rate(fps, 0.015)?;
    let limit = MAX_RESIDUAL.min(ticks(1, rate) * 2 / 5);
    let fits = |(n, moment): (usize, &i64)| (first + ticks(n as i64, rate) - moment).abs() <= limit;
    moments.iter().enumerate().all(fits).then_some(rate)
}

/// Puts the decoding and presentation times of one connection's frames on an exact grid.
#[derive(Clone, Debug)]
pub(super) struct FrameGrid {
    rate: Option<FrameRate>,
    origin: i64,
    last: Option<Placed>,
    mean_residual: i64,
    misfits: u32,
    recent: Vec<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    n: i64,
    dts: i64,
}

impl FrameGrid {
    pub(super) const fn new(rate: Option<FrameRate>) -> Self {
        Self { rate, origin: 0, last: None, mean_residual: 0, misfits: 0, recent: Vec::new() }
    }

    /// The rate frames come at, `None` while they are irregular.
    pub(super) const fn rate(&self) -> Option<FrameRate> {
        self.rate
    }

    /// Length of a frame, ticks: the longer one of what the rate says and what the last ones were; `None` while both are unknown.
    pub(super) fn frame(&self) -> Option<i64> {
        let mean = match (self.recent.first(), self.recent.last()) {
            (Some(first), Some(last)) if self.recent.len() == DETECTION_FRAMES => {
                Some((last - first) / (DETECTION_FRAMES as i64 - 1))
            }
            _ => None,
        };
        self.rate.map(|rate| ticks(1, rate)).max(mean)
    }

    /// Where a frame lies that was sent with `raw`, and where its presentation does, `composition` ticks later or, if that is
    /// negative, earlier. Frames lie strictly one behind the other and none before `floor`.
    pub(super) fn place(
        &mut self,
        raw: MediaTime,
        composition: i64,
        floor: MediaTime,
    ) -> (MediaTime, MediaTime) {
        self.remember(raw.0);
        let lowest = self.last.map_or(floor.0, |last| floor.0.max(last.dts + 90));
        let on_grid = self.rate.and_then(|rate| {
            let limit = MAX_RESIDUAL.min(ticks(1, rate) * 2 / 5);
            let n = match self.last {
                None => 0,
                Some(last) => nearest(raw.0 - self.origin, rate).max(last.n + 1),
            };
            if self.last.is_none() {
                self.origin = raw.0;
            }
            let dts = self.origin + ticks(n, rate);
            let residual = raw.0 - dts;
            (residual.abs() <= limit && dts >= lowest).then_some((n, dts, residual, rate, limit))
        });
        let (dts, pts) = match on_grid {
            Some((n, dts, residual, rate, limit)) => {
                let k = nearest(composition, rate);
                let smooth = (ticks(k, rate) - composition).abs() <= limit;
                let pts = if smooth { self.origin + ticks(n + k, rate) } else { dts + composition };
                self.last = Some(Placed { n, dts });
                self.fits(residual);
                (dts, pts)
            }
            None => {
                let dts = raw.0.max(lowest);
                self.last = Some(Placed { n: 0, dts });
                self.origin = dts;
                self.misfits(dts);
                (dts, raw.0 + composition)
            }
        };
        (MediaTime(dts), MediaTime(pts))
    }

    fn remember(&mut self, raw: i64) {
        if self.recent.len() == DETECTION_FRAMES {
            self.recent.remove(0);
        }
        self.recent.push(raw);
    }

    fn fits(&mut self, residual: i64) {
        self.misfits = self.misfits.saturating_sub(1);
        self.mean_residual += (residual * 16 - self.mean_residual) / 32;
        let mean = self.mean_residual / 16;
        if mean.abs() > DRIFT_TOLERANCE {
            self.origin += mean.signum() * DRIFT_STEP;
        }
    }

    fn misfits(&mut self, origin: i64) {
        self.mean_residual = 0;
        if self.rate.is_some() {
            self.misfits += 2;
            if self.misfits < MAX_MISFITS {
                return;
            }
        }
        self.rate = detect(&self.recent);
        self.misfits = 0;
        self.origin = origin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_as_the_rate_they_mean() {
        for (fps, num, den) in
            [(29.97, 30_000, 1_001), (23.98, 24_000, 1_001), (30.0, 30, 1), (59.94, 60_000, 1_001)]
        {
            assert_eq!(known_rate(fps, 0.0004), Some(FrameRate { num, den }), "{fps}");
        }
        assert_eq!(known_rate(29.4, 0.0004), None);
        assert_eq!(known_rate(f64::NAN, 0.0004), None);
    }

    #[test]
    fn regular_times_are_detected_and_irregular_ones_are_not() {
        let every_40_ms: Vec<_> = (0..12).map(|n| n * 3_600 + n % 3 * 90).collect();
        assert_eq!(detect(&every_40_ms), Some(FrameRate { num: 25, den: 1 }));
        let uneven: Vec<_> = (0..12).map(|n| n * 3_600 + n % 2 * 2_000).collect();
        assert_eq!(detect(&uneven), None);
    }

    #[test]
    fn what_is_far_above_every_limit_is_detected_too() {
        for fps in [144, 240, 480, 1_000] {
            let in_ms: Vec<_> = (0..12).map(|n| (n * 1_000 + fps / 2) / fps * 90).collect();
            let found = detect(&in_ms).expect("it is even").fps();
            assert!((found / fps as f64 - 1.0).abs() < 0.03, "{found} for {fps}");
        }
    }

    #[test]
    fn a_wrong_hint_is_given_up_for_the_real_rate() {
        let mut grid = FrameGrid::new(Some(FrameRate { num: 30, den: 1 }));
        for n in 0..100 {
            grid.place(MediaTime(n * 1_500), 0, MediaTime(0));
        }
        assert_eq!(grid.rate(), Some(FrameRate { num: 60, den: 1 }));
    }

    #[test]
    fn an_hour_of_29_97_on_a_grid_of_30_stays_within_ten_milliseconds() {
        let mut grid = FrameGrid::new(Some(FrameRate { num: 30, den: 1 }));
        let mut last = -1;
        for n in 0..108_000 {
            let raw = n * 3_003 / 90 * 90;
            let (dts, _) = grid.place(MediaTime(raw), 0, MediaTime(0));
            assert!(dts.0 > last && (dts.0 - raw).abs() < 900, "frame {n}: {} {raw}", dts.0);
            last = dts.0;
        }
    }
}
