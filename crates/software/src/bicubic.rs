//! The weights of bicubic scaling along one axis, as small integers. Pure arithmetic: touches no pixels.
//!
//! The kernel is swscale's default (Mitchell and Netravali's family with B = 0, C = 0.6), widened by the ratio when a
//! picture shrinks. Weights are multiples of 1/64, so that the products of a pixel and a weight add up in 16 bits.

/// The sum of the weights of one output sample, as a shift.
pub(crate) const WEIGHT_BITS: u32 = 6;
const ONE: i32 = 1 << WEIGHT_BITS;
/// `C` of the kernel; `B` is 0.
const C: f64 = 0.6;

/// Where the samples of a plane lie within its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Siting {
    /// In the middle of what they stand for: luma, and chroma down the picture.
    Centre,
    /// At its left edge: chroma across the picture (ITU-T H.264 E.2.1, `chroma_sample_loc_type` 0).
    Left,
}

/// How each output sample is made of input samples.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The first input sample of each output sample; it may lie before the input, whose edge is repeated.
    pub(crate) first: Vec<i32>,
    /// Weights of each output sample, [`Self::taps`] of them, one output sample after the other.
    pub(crate) weights: Vec<i8>,
    /// Input samples per output sample: even.
    pub(crate) taps: usize,
}

impl Axis {
    /// Weights for scaling `from` samples to `to`, no more than `from` and no less than half of it.
    pub(crate) fn new(from: usize, to: usize, siting: Siting) -> Self {
        debug_assert!(to <= from && from <= 2 * to, "{from} to {to}");
        let ratio = from as f64 / to as f64;
        let taps = ((4.0 * ratio).ceil() as usize).next_multiple_of(2);
        let offset = match siting {
            Siting::Centre => (ratio - 1.0) / 2.0,
            Siting::Left => (ratio - 1.0) / 4.0,
        };
        let (mut first, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to * taps));
        for index in 0..to {
            let centre = index as f64 * ratio + offset;
            let start = (centre - taps as f64 / 2.0).floor() as i32 + 1;
            let exact: Vec<f64> = (0..taps)
                .map(|tap| kernel((f64::from(start) + tap as f64 - centre) / ratio))
                .collect();
            first.push(start);
            weights.extend(rounded(&exact));
        }
        Self { first, weights, taps }
    }
}

/// The kernel at a distance of `x` output samples.
fn kernel(x: f64) -> f64 {
    let x = x.abs();
    match x {
        0.0..1.0 => ((2.0 - C) * x - (3.0 - C)) * x * x + 1.0,
        1.0..2.0 => C * (((5.0 - x) * x - 8.0) * x + 4.0),
        _ => 0.0,
    }
}

/// Integers in these proportions whose sum is exactly [`ONE`], so that an even surface stays even.
fn rounded(exact: &[f64]) -> Vec<i8> {
    let scale = f64::from(ONE) / exact.iter().sum::<f64>();
    let mut whole: Vec<i32> = exact.iter().map(|weight| (weight * scale).round() as i32).collect();
    loop {
        let missing = ONE - whole.iter().sum::<i32>();
        if missing == 0 {
            return whole.into_iter().map(|weight| weight as i8).collect();
        }
        // Where the step changes the proportion least.
        let error =
            |index: usize| (exact[index] * scale - f64::from(whole[index])) * f64::from(missing);
        let best = (0..exact.len()).max_by(|&a, &b| error(a).total_cmp(&error(b)));
        whole[best.expect("invariant: an axis has taps")] += missing.signum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_and_lie_around_the_centre() {
        for (from, to) in [(1920, 1280), (1280, 854), (854, 640), (640, 427), (1080, 540), (7, 7)] {
            for siting in [Siting::Centre, Siting::Left] {
                let axis = Axis::new(from, to, siting);
                assert_eq!((axis.first.len(), axis.weights.len()), (to, to * axis.taps));
                for (first, weights) in axis.first.iter().zip(axis.weights.chunks(axis.taps)) {
                    assert_eq!(weights.iter().map(|&weight| i32::from(weight)).sum::<i32>(), ONE);
                    assert!(*first >= -(axis.taps as i32) && *first < from as i32);
                }
                assert!(axis.first.is_sorted());
            }
        }
    }

    #[test]
    fn equal_sizes_copy() {
        let axis = Axis::new(16, 16, Siting::Centre);
        for (index, (first, weights)) in
            axis.first.iter().zip(axis.weights.chunks(axis.taps)).enumerate()
        {
            assert_eq!(weights[(index as i32 - first) as usize], ONE as i8);
        }
    }

    #[test]
    fn the_usual_ratio_takes_six_samples() {
        assert_eq!(Axis::new(1920, 1280, Siting::Centre).taps, 6);
        assert_eq!(Axis::new(854, 640, Siting::Centre).taps, 6);
    }
}
