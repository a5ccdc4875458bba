//! The frame stamp: a frame's number as large black and white cells that survive encoding, scaling and a changed aspect.
//!
//! ```text
//!          1/8                       7/8     of the width
//!     1/6   +--+--+--+--+--+--+--+--+
//!           | 24 bits: frame number |        white = 1, black = 0,
//!           |  (Gray code), highest |        row by row, highest bit first
//!           |  first                |
//!           | 16 bits: CRC of the   |
//!           |  number               |
//!     5/6   +--+--+--+--+--+--+--+--+
//! ```
//!
//! The number is Gray coded, so that two neighbours differ in one cell and a blend of both is grey there: unreadable,
//! never a third number. Pure: draws into and reads from memory; knows no codec and no file.

/// Frame numbers lie below this.
pub const STAMP_LIMIT: u32 = 1 << NUMBER_BITS;

const COLUMNS: usize = 8;
const ROWS: usize = 5;
const NUMBER_BITS: u32 = 24;
const CELLS: usize = COLUMNS * ROWS;
/// Luma of a 0 and of a 1: video range (ITU-R BT.601), so that no encoder clips them.
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// A cell darker than the first is a 0, brighter than the second a 1, between them unreadable.
const DARK: u32 = 90;
const BRIGHT: u32 = 165;
/// Points read per cell and direction.
const POINTS: usize = 4;
/// Period of the background's waves in pixels.
const WAVE: usize = 256;

/// Bytes of one yuv420p picture of `width` x `height` pixels without padding; odd sizes round chroma up.
pub const fn picture_bytes(width: usize, height: usize) -> usize {
    width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
}

/// Draws frame `number` (below [`STAMP_LIMIT`]) as yuv420p: a moving background and the stamp on it.
///
/// # Panics
///
/// When `picture` is not [`picture_bytes`] long.
pub fn draw(number: u32, width: usize, height: usize, picture: &mut [u8]) {
    draw_background(number, width, height, picture);
    let bits = encode(number);
    for cell in 0..CELLS {
        let luma = if bits >> (CELLS - 1 - cell) & 1 == 1 { WHITE } else { BLACK };
        fill_cell(cell, luma, width, height, picture);
    }
}

/// Draws frame `number` with every cell grey: a picture whose stamp cannot be read.
pub fn draw_unreadable(number: u32, width: usize, height: usize, picture: &mut [u8]) {
    draw_background(number, width, height, picture);
    for cell in 0..CELLS {
        fill_cell(cell, 128, width, height, picture);
    }
}

/// Reads the number of a frame from its luma plane; `stride` is the distance of two rows in bytes.
///
/// `None` when a cell is neither clearly black nor clearly white, or the checksum is wrong.
pub fn read(luma: &[u8], width: usize, height: usize, stride: usize) -> Option<u32> {
    let mut bits = 0_u64;
    for cell in 0..CELLS {
        let [left, right, top, bottom] = cell_bounds(cell, width, height);
        let at = |from: usize, to: usize, step: usize| {
            from + (to - from) / 4 + (to - from) * step / (2 * POINTS)
        };
        let mut sum = 0;
        for row in 0..POINTS {
            let line = at(top, bottom, row) * stride;
            for column in 0..POINTS {
                sum += u32::from(*luma.get(line + at(left, right, column))?);
            }
        }
        let mean = sum / (POINTS * POINTS) as u32;
        if (DARK..BRIGHT).contains(&mean) {
            return None;
        }
        bits = bits << 1 | u64::from(mean >= BRIGHT);
    }
    decode(bits)
}

fn encode(number: u32) -> u64 {
    debug_assert!(number < STAMP_LIMIT, "frame number {number} does not fit in a stamp");
    let gray = number ^ (number >> 1);
    u64::from(gray) << 16 | u64::from(crc16(number))
}

fn decode(bits: u64) -> Option<u32> {
    let mut number = (bits >> 16) as u32;
    for shift in [1, 2, 4, 8, 16] {
        number ^= number >> shift;
    }
    (crc16(number) == bits as u16).then_some(number)
}

/// CRC-16/CCITT-FALSE over the three bytes of the number.
fn crc16(number: u32) -> u16 {
    number.to_be_bytes()[1..].iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

/// Left, right, top and bottom of a cell in pixels; right and bottom lie outside.
fn cell_bounds(cell: usize, width: usize, height: usize) -> [usize; 4] {
    let (column, row) = (cell % COLUMNS, cell / COLUMNS);
    let x = |column: usize| width / 8 + width * 3 / 4 * column / COLUMNS;
    let y = |row: usize| height / 6 + height * 2 / 3 * row / ROWS;
    [x(column), x(column + 1), y(row), y(row + 1)]
}

/// Fills a cell with one grey, chroma included.
fn fill_cell(cell: usize, luma: u8, width: usize, height: usize, picture: &mut [u8]) {
    let [left, right, top, bottom] = cell_bounds(cell, width, height);
    let (luma_plane, chroma) = picture.split_at_mut(width * height);
    for line in luma_plane.chunks_exact_mut(width).take(bottom).skip(top) {
        line[left..right].fill(luma);
    }
    let chroma_width = width.div_ceil(2);
    let (u, v) = chroma.split_at_mut(chroma_width * height.div_ceil(2));
    for plane in [u, v] {
        for line in plane.chunks_exact_mut(chroma_width).take(bottom / 2).skip(top / 2) {
            line[left / 2..right / 2].fill(128);
        }
    }
}

/// Diagonal waves that move by a few pixels per frame, at another speed in luma and in each chroma plane.
fn draw_background(number: u32, width: usize, height: usize, picture: &mut [u8]) {
    assert_eq!(picture.len(), picture_bytes(width, height), "a picture of {width}x{height}");
    let number = number as usize;
    let (luma, chroma) = picture.split_at_mut(width * height);
    let chroma_width = width.div_ceil(2);
    let (u, v) = chroma.split_at_mut(chroma_width * height.div_ceil(2));
    draw_waves(luma, width, number * 3, 1, 64..=192);
    draw_waves(u, chroma_width, number * 2, 3, 96..=160);
    draw_waves(v, chroma_width, number, 2, 96..=160);
}

/// Each row is the same triangle wave, moved by `slope` pixels against the row above it.
fn draw_waves(
    plane: &mut [u8],
    width: usize,
    offset: usize,
    slope: usize,
    range: std::ops::RangeInclusive<usize>,
) {
    let (low, high) = range.into_inner();
    let wave: Vec<u8> = (0..width + WAVE)
        .map(|x| {
            let phase = x % WAVE;
            let height = phase.min(WAVE - phase);
            (low + (high - low) * height / (WAVE / 2)) as u8
        })
        .collect();
    for (y, line) in plane.chunks_exact_mut(width).enumerate() {
        let from = (offset + y * slope) % WAVE;
        line.copy_from_slice(&wave[from..from + width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(number: u32, width: usize, height: usize) -> Vec<u8> {
        let mut picture = vec![0; picture_bytes(width, height)];
        draw(number, width, height, &mut picture);
        picture
    }

    #[test]
    fn every_number_is_read_as_it_was_drawn_in_any_size_and_aspect() {
        for (width, height) in [(1920, 1080), (320, 240), (426, 240), (135, 241), (160, 90)] {
            for number in [0, 1, 2, 1_799, 65_536, STAMP_LIMIT - 1] {
                let picture = drawn(number, width, height);
                assert_eq!(read(&picture, width, height, width), Some(number), "{width}x{height}");
            }
        }
    }

    #[test]
    fn a_blend_of_two_frames_is_unreadable() {
        let (a, b) = (drawn(41, 320, 180), drawn(42, 320, 180));
        let blend: Vec<u8> =
            a.iter().zip(&b).map(|(a, b)| ((u16::from(*a) + u16::from(*b)) / 2) as u8).collect();
        assert_eq!(read(&blend, 320, 180, 320), None);
    }

    #[test]
    fn one_wrong_cell_is_noticed() {
        for cell in 0..CELLS {
            assert_eq!(decode(encode(123_456) ^ 1 << cell), None);
        }
    }

    #[test]
    fn a_grey_stamp_and_a_short_plane_are_unreadable() {
        let mut picture = vec![0; picture_bytes(320, 180)];
        draw_unreadable(7, 320, 180, &mut picture);
        assert_eq!(read(&picture, 320, 180, 320), None);
        assert_eq!(read(&picture[..100], 320, 180, 320), None);
    }

    #[test]
    fn the_background_moves() {
        let (a, b) = (drawn(1, 320, 180), drawn(2, 320, 180));
        assert_ne!(a[..320], b[..320]);
    }
}
