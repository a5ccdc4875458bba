//! Repeated measurements of one thing, said by median and extremes. Measures nothing itself.

use serde::Serialize;

/// Values in the order in which they were measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Series(Vec<f64>);

impl Series {
    /// Nothing measured yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Each of ours over that of the peer measured beside it.
    #[must_use]
    pub fn over(&self, peer: &Self) -> Self {
        self.0.iter().zip(&peer.0).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest value that at least `share` (0 to 1) of all do not exceed; NaN without any.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle value, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        (self.quantile(0.5) + -Self(self.0.iter().map(|value| -value).collect()).quantile(0.5))
            / 2.0
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl From<f64> for Series {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_two_in_the_middle() {
        let of = |values: &[f64]| values.iter().copied().collect::<Series>();
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!((of(&[2.0, 1.0]).min(), of(&[2.0, 1.0]).max()), (1.0, 2.0));
        assert!(Series::default().median().is_nan());
    }

    #[test]
    fn ratios_pair_what_was_measured_side_by_side() {
        let ours: Series = [1.0, 3.0, 8.0].into_iter().collect();
        let peer: Series = [2.0, 3.0, 4.0].into_iter().collect();
        assert_eq!(ours.over(&peer).median(), 1.0);
    }
}
