//! Scales one plane of bytes down by up to two, bicubic, with AVX2: a third of what swscale takes for it.
//!
//! Each row is scaled across once, into a ring of as many rows as an output row is made of, and these are added up
//! down the picture. Both steps multiply bytes by small weights and round to bytes again.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_add_epi16, _mm256_castsi128_si256,
    _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_maddubs_epi16, _mm256_packus_epi16,
    _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_shuffle_epi8, _mm256_srai_epi16,
    _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use crate::bicubic::{Axis, Siting, WEIGHT_BITS};

/// Samples that are made at once.
const BLOCK: usize = 32;
/// Samples that one shuffle makes.
const LANE: usize = 8;
/// What a lane may read: 16 bytes for each pair of taps, two further on each time, rounded up.
const LANE_BYTES: usize = 32;
const ROUND: i16 = 1 << (WEIGHT_BITS - 1);

/// Bytes of one plane: rows of `width` samples, `stride` bytes apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
}

/// A scaler from one size to another.
#[derive(Debug)]
pub(crate) struct PlaneScaler {
    from: (usize, usize),
    to: (usize, usize),
    across: Across,
    down: Axis,
    /// Rows scaled across, row `n` at `n` modulo their number.
    ring: Vec<Vec<u8>>,
    /// One input row with its edges repeated.
    padded: Vec<u8>,
}

/// What scales rows across, in the order in which it is used: 16 output samples at a time.
#[derive(Debug)]
struct Across {
    pairs: usize,
    /// Repeated samples before a row.
    before: usize,
    /// Where in the padded row each lane of [`LANE`] output samples begins.
    starts: Vec<usize>,
    /// For each two lanes, where their samples' first two input samples lie behind the starts.
    shuffles: Vec<[u8; 32]>,
    /// For each two lanes and each pair of taps, the weights of that pair.
    weights: Vec<[i8; 32]>,
}

impl Across {
    fn new(axis: &Axis) -> Self {
        let (pairs, width) = (axis.taps / 2, axis.first.len());
        let before = usize::try_from(-axis.first.first().copied().unwrap_or(0)).unwrap_or(0);
        let at = |index: usize| axis.first[index.min(width - 1)] + before as i32;
        let lanes = width.next_multiple_of(BLOCK) / LANE;
        let starts: Vec<usize> = (0..lanes).map(|lane| at(lane * LANE) as usize).collect();
        let (mut shuffles, mut weights) = (Vec::new(), Vec::new());
        for two in 0..lanes / 2 {
            let mut shuffle = [0; 32];
            for sample in 0..2 * LANE {
                let index = two * 2 * LANE + sample;
                let behind = at(index) as usize - starts[index / LANE];
                shuffle[2 * sample] = behind as u8;
                shuffle[2 * sample + 1] = behind as u8 + 1;
            }
            shuffles.push(shuffle);
            for pair in 0..pairs {
                let mut of_pair = [0; 32];
                for sample in 0..2 * LANE {
                    let index = (two * 2 * LANE + sample).min(width - 1) * axis.taps + 2 * pair;
                    of_pair[2 * sample..2 * sample + 2]
                        .copy_from_slice(&axis.weights[index..index + 2]);
                }
                weights.push(of_pair);
            }
        }
        Self { pairs, before, starts, shuffles, weights }
    }

    /// Bytes of a padded row of `width` samples: the last lane reads beyond it.
    fn padded_bytes(&self, width: usize) -> usize {
        let last = self.starts.last().copied().unwrap_or(0);
        (last + LANE_BYTES).max(self.before + width)
    }
}

impl PlaneScaler {
    /// A scaler between these sizes, each width and height; `None` where it cannot: beyond a half, or without AVX2.
    pub(crate) fn new(from: (usize, usize), to: (usize, usize), across: Siting) -> Option<Self> {
        let fits = |from: usize, to: usize| 0 < to && to <= from && from <= 2 * to;
        if !is_x86_feature_detected!("avx2") || !fits(from.0, to.0) || !fits(from.1, to.1) {
            return None;
        }
        let across = Across::new(&Axis::new(from.0, to.0, across));
        let down = Axis::new(from.1, to.1, Siting::Centre);
        let ring = vec![vec![0; to.0.next_multiple_of(BLOCK)]; down.taps];
        let padded = vec![0; across.padded_bytes(from.0)];
        Some(Self { from, to, across, down, ring, padded })
    }

    /// Whether output rows this far apart have room for whole blocks.
    pub(crate) fn takes_rows_of(&self, stride: usize) -> bool {
        stride >= self.to.0.next_multiple_of(BLOCK)
    }

    /// Scales `plane` into rows of `stride` bytes, which may be overwritten up to the next multiple of 32 samples.
    ///
    /// # Panics
    /// When a plane is smaller than the scaler was told.
    pub(crate) fn scale(&mut self, plane: Plane<'_>, to: &mut [u8], stride: usize) {
        assert!(self.takes_rows_of(stride), "rows end on whole blocks");
        let (mut ready, last, taps) = (0, self.from.1 as i32 - 1, self.down.taps);
        let width = self.to.0.next_multiple_of(BLOCK);
        let rows = to.chunks_exact_mut(stride).take(self.to.1);
        assert_eq!(rows.len(), self.to.1, "a picture has all its rows");
        for (index, row) in rows.enumerate() {
            let first = self.down.first[index];
            let needed = (first + taps as i32 - 1).clamp(0, last);
            while ready <= needed as usize {
                let start = ready * plane.stride;
                self.scale_across(&plane.bytes[start..start + self.from.0], ready % taps);
                ready += 1;
            }
            let weights = &self.down.weights[index * taps..(index + 1) * taps];
            let row_at = |tap: usize| {
                let number = (first + tap as i32).clamp(0, last) as usize;
                self.ring[number % taps].as_slice()
            };
            let pair = |pair: usize| {
                (row_at(2 * pair), row_at(2 * pair + 1), [weights[2 * pair], weights[2 * pair + 1]])
            };
            let row = &mut row[..width];
            // SAFETY: the processor has AVX2, or there would be no scaler.
            unsafe {
                match taps {
                    4 => add_down::<2>(&std::array::from_fn(pair), row),
                    6 => add_down::<3>(&std::array::from_fn(pair), row),
                    _ => add_down::<4>(&std::array::from_fn(pair), row),
                }
            }
        }
    }

    /// Scales one input row into a row of the ring.
    fn scale_across(&mut self, row: &[u8], slot: usize) {
        let before = self.across.before;
        let edges = (row[0], row[row.len() - 1]);
        self.padded[..before].fill(edges.0);
        self.padded[before..before + row.len()].copy_from_slice(row);
        self.padded[before + row.len()..].fill(edges.1);
        // SAFETY: the processor has AVX2, or there would be no scaler.
        unsafe {
            let (across, padded, out) = (&self.across, &self.padded, &mut self.ring[slot]);
            match across.pairs {
                2 => add_across::<2>(across, padded, out),
                3 => add_across::<3>(across, padded, out),
                _ => add_across::<4>(across, padded, out),
            }
        }
    }
}

/// Makes one row: 32 samples at a time, each half by one shuffle of two lanes.
#[target_feature(enable = "avx2")]
fn add_across<const PAIRS: usize>(across: &Across, padded: &[u8], out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<BLOCK>();
    let (starts, _) = across.starts.as_chunks::<4>();
    let (shuffles, _) = across.shuffles.as_chunks::<2>();
    let (weights, _) = across.weights.as_chunks::<PAIRS>();
    let (weights, _) = weights.as_chunks::<2>();
    for (((out, starts), shuffles), weights) in
        blocks.iter_mut().zip(starts).zip(shuffles).zip(weights)
    {
        let mut sums = [_mm256_set1_epi16(ROUND); 2];
        for half in 0..2 {
            let lane = |lane: usize| {
                padded[starts[lane]..]
                    .first_chunk::<LANE_BYTES>()
                    .expect("invariant: rows are padded")
            };
            let (left, right) = (lane(2 * half), lane(2 * half + 1));
            let shuffle = load(&shuffles[half]);
            for (pair, weights) in weights[half].iter().enumerate() {
                let (left, right) = (load_half(left, 2 * pair), load_half(right, 2 * pair));
                let samples = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(left), right);
                let samples = _mm256_shuffle_epi8(samples, shuffle);
                let product = _mm256_maddubs_epi16(samples, load_weights(weights));
                sums[half] = _mm256_add_epi16(sums[half], product);
            }
        }
        let [left, right] = sums;
        let packed = _mm256_packus_epi16(shifted(left), shifted(right));
        store(out, _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
    }
}

/// Two rows, and the weights of each that stand side by side.
type RowPair<'a> = (&'a [u8], &'a [u8], [i8; 2]);

/// Adds up rows, each pair of them with its two weights.
#[target_feature(enable = "avx2")]
fn add_down<const PAIRS: usize>(rows: &[RowPair<'_>; PAIRS], out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<BLOCK>();
    let rows = rows.map(|(upper, lower, weights)| {
        let weights = i16::from_le_bytes(weights.map(|weight| weight as u8));
        (upper.as_chunks::<BLOCK>().0, lower.as_chunks::<BLOCK>().0, _mm256_set1_epi16(weights))
    });
    for (block, out) in blocks.iter_mut().enumerate() {
        let (mut low, mut high) = (_mm256_set1_epi16(ROUND), _mm256_set1_epi16(ROUND));
        for (upper, lower, weights) in rows {
            let (upper, lower) = (load(&upper[block]), load(&lower[block]));
            let (left, right) =
                (_mm256_unpacklo_epi8(upper, lower), _mm256_unpackhi_epi8(upper, lower));
            low = _mm256_add_epi16(low, _mm256_maddubs_epi16(left, weights));
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(right, weights));
        }
        store(out, _mm256_packus_epi16(shifted(low), shifted(high)));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn shifted(sum: __m256i) -> __m256i {
    _mm256_srai_epi16::<{ WEIGHT_BITS as i32 }>(sum)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_weights(weights: &[i8; 32]) -> __m256i {
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(lane: &[u8; LANE_BYTES], at: usize) -> __m128i {
    let bytes = &lane[at..at + 16];
    // SAFETY: 16 bytes are there, and need no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u8; 32], samples: __m256i) {
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), samples) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same arithmetic, sample by sample.
    fn plainly(plane: &[u8], from: (usize, usize), to: (usize, usize), siting: Siting) -> Vec<u8> {
        let (across, down) =
            (Axis::new(from.0, to.0, siting), Axis::new(from.1, to.1, Siting::Centre));
        let sum = |axis: &Axis, index: usize, sample: &dyn Fn(usize) -> u8, length: usize| {
            let weights = &axis.weights[index * axis.taps..(index + 1) * axis.taps];
            let sum: i32 = (axis.first[index]..)
                .zip(weights)
                .map(|(at, &weight)| {
                    i32::from(sample(at.clamp(0, length as i32 - 1) as usize)) * i32::from(weight)
                })
                .sum();
            ((sum + i32::from(ROUND)) >> WEIGHT_BITS).clamp(0, 255) as u8
        };
        let narrow: Vec<u8> = (0..from.1)
            .flat_map(|row| (0..to.0).map(move |index| (row, index)))
            .map(|(row, index)| sum(&across, index, &|at| plane[row * from.0 + at], from.0))
            .collect();
        (0..to.1)
            .flat_map(|row| (0..to.0).map(move |index| (row, index)))
            .map(|(row, index)| sum(&down, row, &|at| narrow[at * to.0 + index], from.1))
            .collect()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Many samples are at the ends, where sums are largest.
            match state >> 30 {
                0 => 0,
                1 => 255,
                _ => (state >> 16) as u8,
            }
        };
        (0..length).map(|_| next()).collect()
    }

    fn quickly(
        scaler: &mut PlaneScaler,
        bytes: &[u8],
        from: (usize, usize),
        to: (usize, usize),
    ) -> Vec<u8> {
        let stride = to.0.next_multiple_of(64);
        let mut out = vec![0; stride * to.1];
        scaler.scale(Plane { bytes, stride: from.0 }, &mut out, stride);
        out.chunks(stride).flat_map(|row| row[..to.0].to_vec()).collect()
    }

    #[test]
    fn blocks_give_exactly_what_single_samples_give() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        for (from, to) in [
            ((192, 108), (128, 72)),
            ((128, 72), (85, 48)),
            ((85, 48), (64, 36)),
            ((101, 37), (51, 19)),
            ((64, 64), (32, 32)),
            ((33, 9), (33, 9)),
            ((5, 3), (3, 2)),
        ] {
            for siting in [Siting::Centre, Siting::Left] {
                let plane = noise(from.0 * from.1);
                let mut scaler = PlaneScaler::new(from, to, siting).unwrap();
                for _ in 0..2 {
                    let quick = quickly(&mut scaler, &plane, from, to);
                    assert!(quick == plainly(&plane, from, to, siting), "{from:?} {to:?}");
                }
            }
        }
    }

    #[test]
    fn even_surfaces_stay_even_and_edges_are_kept() {
        let (from, to) = ((96, 54), (64, 36));
        let Some(mut scaler) = PlaneScaler::new(from, to, Siting::Left) else { return };
        for level in [0, 16, 128, 235, 255] {
            let plane = vec![level; from.0 * from.1];
            assert!(quickly(&mut scaler, &plane, from, to).iter().all(|&sample| sample == level));
        }
    }

    #[test]
    fn what_grows_or_shrinks_beyond_a_half_is_left_to_others() {
        assert!(PlaneScaler::new((64, 64), (65, 64), Siting::Centre).is_none());
        assert!(PlaneScaler::new((64, 64), (31, 64), Siting::Centre).is_none());
        assert!(PlaneScaler::new((64, 64), (64, 0), Siting::Centre).is_none());
    }
}
