//! Sequence parameter sets (ITU-T H.264 7.3.2.1 and E.1): size, profile, timing, reordering.

use millrace_types::FrameRate;

use crate::bits::BitReader;

/// Profiles whose sequence parameter sets carry chroma format and bit depth (7.3.2.1.1).
pub(super) const HIGH_PROFILES: [u8; 13] =
    [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
const EXTENDED_SAR: u32 = 255;

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`, e.g. 100 for High.
    pub profile: u8,
    /// The constraint flags and their reserved bits, one byte.
    pub constraints: u8,
    /// `level_idc`, ten times the level.
    pub level: u8,
    /// `chroma_format_idc`: 1 for 4:2:0.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub luma_bits: u8,
    /// Bits of a chroma sample.
    pub chroma_bits: u8,
    /// Width after cropping, pixels.
    pub width: u32,
    /// Height after cropping, pixels.
    pub height: u32,
    /// Whether every picture is a whole frame.
    pub progressive: bool,
    /// The nominal rate, if the set says one.
    pub frame_rate: Option<FrameRate>,
    /// How many frames may precede a frame in decoding order and follow it in output order, if the set says so.
    pub max_reorder: Option<u32>,
}

impl Sps {
    /// Reads a NAL unit of type 7, with its header byte and its emulation prevention. `None` if it cannot be read.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let payload = without_emulation_prevention(nal.get(1..)?);
        read(&mut BitReader::new(&payload))
    }

    /// RFC 6381 string such as `avc1.64001f`.
    pub fn codecs(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

/// The payload of a NAL unit without the bytes that keep start codes out of it (7.4.1).
fn without_emulation_prevention(nal: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

fn read(bits: &mut BitReader<'_>) -> Option<Sps> {
    let profile = bits.bits(8)? as u8;
    let constraints = bits.bits(8)? as u8;
    let level = bits.bits(8)? as u8;
    bits.ue()?; // seq_parameter_set_id
    let (chroma_format, separate_planes, luma_bits, chroma_bits) =
        if HIGH_PROFILES.contains(&profile) { read_chroma(bits)? } else { (1, false, 8, 8) };
    bits.ue()?; // log2_max_frame_num
    skip_picture_order(bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.flag()?; // gaps_in_frame_num_value_allowed_flag
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let height_units = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let progressive = bits.flag()?;
    if !progressive {
        bits.flag()?; // mb_adaptive_frame_field_flag
    }
    let fields: u32 = if progressive { 1 } else { 2 };
    let height = height_units.checked_mul(fields)?;
    bits.flag()?; // direct_8x8_inference_flag
    let (crop_x, crop_y) = if bits.flag()? {
        let (unit_x, unit_y) = match chroma_format {
            1 if !separate_planes => (2, 2),
            2 if !separate_planes => (2, 1),
            _ => (1, 1),
        };
        let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
        (
            left.checked_add(right)?.checked_mul(unit_x)?,
            top.checked_add(bottom)?.checked_mul(unit_y * fields)?,
        )
    } else {
        (0, 0)
    };
    let (width, height) = (width.checked_sub(crop_x)?, height.checked_sub(crop_y)?);
    if width == 0 || height == 0 {
        return None;
    }
    // A set whose optional tail is cut short is still good for everything above.
    let (frame_rate, max_reorder) = match bits.flag() {
        Some(true) => read_vui(bits),
        _ => (None, None),
    };
    Some(Sps {
        profile,
        constraints,
        level,
        chroma_format,
        luma_bits,
        chroma_bits,
        width,
        height,
        progressive,
        frame_rate,
        max_reorder,
    })
}

/// Chroma format, separate planes, and the depths of luma and chroma.
fn read_chroma(bits: &mut BitReader<'_>) -> Option<(u8, bool, u8, u8)> {
    let chroma_format = u8::try_from(bits.ue()?).ok().filter(|format| *format <= 3)?;
    let separate_planes = chroma_format == 3 && bits.flag()?;
    let depth = |code: u32| u8::try_from(code).ok().filter(|code| *code <= 6).map(|code| code + 8);
    let (luma_bits, chroma_bits) = (depth(bits.ue()?)?, depth(bits.ue()?)?);
    bits.flag()?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        for list in 0..if chroma_format == 3 { 12 } else { 8 } {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((chroma_format, separate_planes, luma_bits, chroma_bits))
}

fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?.checked_rem(256)? + 256) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn skip_picture_order(bits: &mut BitReader<'_>) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.flag()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(256) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// Frame rate and reorder depth of the usability information (E.1.1), as far as it can be read.
fn read_vui(bits: &mut BitReader<'_>) -> (Option<FrameRate>, Option<u32>) {
    let mut frame_rate = None;
    let mut read = || {
        if bits.flag()? && bits.bits(8)? == EXTENDED_SAR {
            bits.bits(32)?;
        }
        if bits.flag()? {
            bits.flag()?; // overscan
        }
        if bits.flag()? {
            bits.bits(4)?; // video_format, full range
            if bits.flag()? {
                bits.bits(24)?; // colour description
            }
        }
        if bits.flag()? {
            bits.ue()?;
            bits.ue()?; // chroma sample location
        }
        if bits.flag()? {
            let (units_in_tick, timescale) = (bits.bits(32)?, bits.bits(32)?);
            bits.flag()?; // fixed_frame_rate_flag
            // Two ticks, one per field, make a frame.
            frame_rate = units_in_tick
                .checked_mul(2)
                .filter(|den| *den > 0 && timescale > 0)
                .map(|den| FrameRate { num: timescale, den });
        }
        let (nal_hrd, vcl_hrd) = (skip_hrd(bits)?, skip_hrd(bits)?);
        if nal_hrd || vcl_hrd {
            bits.flag()?; // low_delay_hrd_flag
        }
        bits.flag()?; // pic_struct_present_flag
        if !bits.flag()? {
            return None;
        }
        bits.flag()?; // motion_vectors_over_pic_boundaries_flag
        for _ in 0..4 {
            bits.ue()?;
        }
        bits.ue()
    };
    let max_reorder = read();
    (frame_rate, max_reorder)
}

fn skip_hrd(bits: &mut BitReader<'_>) -> Option<bool> {
    if !bits.flag()? {
        return Some(false);
    }
    let schedules = bits.ue()?.min(31) + 1;
    bits.bits(8)?;
    for _ in 0..schedules {
        bits.ue()?;
        bits.ue()?;
        bits.flag()?;
    }
    bits.bits(20)?;
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SD_B_FRAMES: &[u8] = &[
        0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x51, 0x9e, 0x22, 0x7c, 0x04, 0x40, 0x00, 0x00,
        0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0x65, 0x80,
    ];
    const HD_NTSC: &[u8] = &[
        0x67, 0x42, 0xc0, 0x2a, 0xda, 0x01, 0xe0, 0x08, 0x9f, 0x97, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x78, 0x3c, 0x60, 0xca, 0x80,
    ];

    #[test]
    fn x264_headers_tell_cropped_size_rate_and_reordering() {
        let sps = Sps::parse(SD_B_FRAMES).unwrap();
        assert_eq!((sps.width, sps.height, sps.progressive), (322, 180, true));
        assert_eq!(sps.frame_rate.map(FrameRate::fps), Some(30.0));
        assert_eq!(sps.max_reorder, Some(2));
        assert_eq!(sps.codecs(), "avc1.64000d");
        let sps = Sps::parse(HD_NTSC).unwrap();
        assert_eq!((sps.width, sps.height), (1920, 1080));
        assert_eq!(sps.codecs(), "avc1.42c02a");
    }

    #[test]
    fn a_header_without_its_optional_tail_still_tells_the_size() {
        let sizes: Vec<_> = (0..SD_B_FRAMES.len())
            .filter_map(|end| Sps::parse(&SD_B_FRAMES[..end]))
            .map(|sps| (sps.width, sps.height))
            .collect();
        assert!(!sizes.is_empty() && sizes.iter().all(|size| *size == (322, 180)), "{sizes:?}");
    }
}
