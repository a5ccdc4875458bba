//! AAC headers: what an `AudioSpecificConfig` says (ISO/IEC 14496-3 1.6.2.1), and frames of silence that fit it.
//!
//! Low complexity and high efficiency only; nothing is decoded.

use bytes::Bytes;
use millrace_types::RefusalReason;

use crate::{
    AudioConfig,
    bits::{BitReader, BitWriter},
};

const OBJECT_LC: u32 = 2;
const OBJECT_SBR: u32 = 5;
const OBJECT_PS: u32 = 29;
/// ISO/IEC 14496-3 table 1.18; index 15 says the rate itself.
const RATES: [u32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// A header that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// Neither AAC-LC nor HE-AAC.
    #[error("audio object type {0} is neither aac-lc nor he-aac")]
    ObjectType(u32),
    /// A reserved rate or channel layout.
    #[error("audio header says {what} {value}, which nobody can play")]
    Value {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: u32,
    },
    /// The header ends too early.
    #[error("audio header of {0} bytes ends too early")]
    Short(usize),
}

impl AacError {
    /// The reason that the publisher is told.
    pub const fn refusal(self) -> RefusalReason {
        match self {
            Self::ObjectType(_) => RefusalReason::AudioCodec,
            Self::Value { .. } | Self::Short(_) => RefusalReason::Undecodable,
        }
    }
}

/// One syntactic element of a `raw_data_block` (ISO/IEC 14496-3 table 4.85).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Single = 0,
    Pair = 1,
    Lfe = 3,
}

/// What an AAC track's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacHeader {
    asc: Bytes,
    core_rate: u32,
    channels: u8,
    frame_samples: u32,
    object_type: u32,
    elements: Vec<(Element, u8)>,
}

impl AacHeader {
    /// Reads an `AudioSpecificConfig`; high efficiency is found in either of its two signallings.
    ///
    /// # Errors
    /// Another object type, a reserved value, or a header that ends too early.
    pub fn parse(asc: Bytes) -> Result<Self, AacError> {
        let header =
            Self::read(&mut BitReader::new(&asc)).unwrap_or(Err(AacError::Short(asc.len())));
        header.map(|header| Self { asc, ..header })
    }

    /// AAC-LC in stereo at 48 kHz: what a publisher without sound is given.
    pub fn silent_source() -> Self {
        Self::parse(Bytes::from_static(&[0x11, 0x90]))
            .expect("invariant: a constant header that is tested")
    }

    fn read(bits: &mut BitReader<'_>) -> Option<Result<Self, AacError>> {
        let mut object_type = read_object_type(bits)?;
        let Some(core_rate) = read_rate(bits)? else {
            return Some(Err(AacError::Value { what: "sample rate index", value: 13 }));
        };
        let layout = bits.bits(4)?;
        let (mut sbr, mut ps) = (object_type == OBJECT_SBR, object_type == OBJECT_PS);
        if sbr || ps {
            sbr = true;
            read_rate(bits)?;
            object_type = read_object_type(bits)?;
        }
        if object_type != OBJECT_LC {
            return Some(Err(AacError::ObjectType(object_type)));
        }
        let frame_samples = if bits.flag()? { 960 } else { 1024 };
        if bits.flag()? {
            bits.bits(14)?;
        }
        bits.flag()?;
        let elements = match layout {
            0 => read_program_config(bits)?,
            _ => elements_of(layout),
        };
        if elements.is_empty() || core_rate == 0 {
            return Some(Err(AacError::Value { what: "channel configuration", value: layout }));
        }
        if !sbr {
            (sbr, ps) = read_extension(bits);
        }
        let core_channels: u8 =
            elements.iter().map(|(element, _)| if *element == Element::Pair { 2 } else { 1 }).sum();
        let object_type = match (sbr, ps) {
            (_, true) => OBJECT_PS,
            (true, false) => OBJECT_SBR,
            _ => OBJECT_LC,
        };
        let channels = if ps && core_channels == 1 { 2 } else { core_channels };
        let asc = Bytes::new();
        Some(Ok(Self { asc, core_rate, channels, frame_samples, object_type, elements }))
    }

    /// Samples of the core per second: the timescale of the track.
    pub const fn core_rate(&self) -> u32 {
        self.core_rate
    }

    /// Samples of the core in one frame: 1024, or 960.
    pub const fn frame_samples(&self) -> u32 {
        self.frame_samples
    }

    /// The track's description.
    pub fn config(&self) -> AudioConfig {
        AudioConfig {
            asc: self.asc.clone(),
            sample_rate: self.core_rate,
            channels: self.channels,
            codecs: format!("mp4a.40.{}", self.object_type),
        }
    }

    /// One frame of silence with these channels: every element has a long window and no band coded, so that it fits any rate.
    pub fn silent_frame(&self) -> Bytes {
        let mut bits = BitWriter::default();
        for (element, tag) in &self.elements {
            bits.bits(*element as u32, 3);
            bits.bits(u32::from(*tag), 4);
            match element {
                Element::Pair => {
                    bits.bits(1, 1); // common_window
                    write_window(&mut bits);
                    bits.bits(0, 2); // ms_mask_present
                    for _ in 0..2 {
                        bits.bits(GLOBAL_GAIN, 8);
                        bits.bits(0, 3); // no pulse, no TNS, no gain control
                    }
                }
                Element::Single | Element::Lfe => {
                    bits.bits(GLOBAL_GAIN, 8);
                    write_window(&mut bits);
                    bits.bits(0, 3);
                }
            }
        }
        bits.bits(7, 3); // ID_END
        bits.into_bytes().into()
    }
}

/// What FFmpeg's encoder writes for silence.
const GLOBAL_GAIN: u32 = 140;

/// `ics_info` of one long Kaiser-Bessel window with `max_sfb` 0 and no prediction.
fn write_window(bits: &mut BitWriter) {
    bits.bits(0b0001, 4);
    bits.bits(0, 7);
}

fn read_object_type(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)?),
        object_type => Some(object_type),
    }
}

fn read_rate(bits: &mut BitReader<'_>) -> Option<Option<u32>> {
    match bits.bits(4)? {
        15 => Some(Some(bits.bits(24)?)),
        index => Some(RATES.get(index as usize).copied()),
    }
}

fn elements_of(layout: u32) -> Vec<(Element, u8)> {
    use Element::{Lfe, Pair, Single};
    match layout {
        1 => vec![(Single, 0)],
        2 => vec![(Pair, 0)],
        3 => vec![(Single, 0), (Pair, 0)],
        4 => vec![(Single, 0), (Pair, 0), (Single, 1)],
        5 => vec![(Single, 0), (Pair, 0), (Pair, 1)],
        6 => vec![(Single, 0), (Pair, 0), (Pair, 1), (Lfe, 0)],
        7 => vec![(Single, 0), (Pair, 0), (Pair, 1), (Pair, 2), (Lfe, 0)],
        _ => Vec::new(),
    }
}

/// `program_config_element` (ISO/IEC 14496-3 4.4.1.1) up to its channel elements.
fn read_program_config(bits: &mut BitReader<'_>) -> Option<Vec<(Element, u8)>> {
    bits.bits(4 + 2 + 4)?;
    let spatial = bits.bits(4)? + bits.bits(4)? + bits.bits(4)?;
    let lfe = bits.bits(2)?;
    bits.bits(3 + 4)?;
    for width in [4, 4, 3] {
        if bits.flag()? {
            bits.bits(width)?;
        }
    }
    let mut elements = Vec::new();
    for _ in 0..spatial {
        let element = if bits.flag()? { Element::Pair } else { Element::Single };
        elements.push((element, bits.bits(4)? as u8));
    }
    for _ in 0..lfe {
        elements.push((Element::Lfe, bits.bits(4)? as u8));
    }
    Some(elements)
}

/// The backward compatible signalling of (SBR, PS) behind the header proper; absent is `(false, false)`.
fn read_extension(bits: &mut BitReader<'_>) -> (bool, bool) {
    let mut read = || {
        if bits.left() < 16 || bits.bits(11)? != 0x2b7 || read_object_type(bits)? != OBJECT_SBR {
            return None;
        }
        let sbr = bits.flag()?;
        if sbr {
            read_rate(bits)?;
        }
        let ps = sbr && bits.left() >= 12 && bits.bits(11)? == 0x548 && bits.flag()?;
        Some((sbr, ps))
    };
    read().unwrap_or((false, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(asc: &'static [u8]) -> AacHeader {
        AacHeader::parse(Bytes::from_static(asc)).unwrap()
    }

    #[test]
    fn headers_of_the_usual_encoders_are_understood() {
        let cases: [(&[u8], u32, u8, &str); 6] = [
            (&[0x11, 0x90], 48_000, 2, "mp4a.40.2"),
            (&[0x12, 0x08, 0x56, 0xe5, 0x00], 44_100, 1, "mp4a.40.2"), // FFmpeg, SBR said to be absent
            (&[0x12, 0x10], 44_100, 2, "mp4a.40.2"),
            (&[0x2b, 0x11, 0x88, 0x00], 24_000, 2, "mp4a.40.5"), // explicit SBR
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], 24_000, 2, "mp4a.40.5"), // backward compatible SBR
            (&[0xeb, 0x09, 0x88, 0x00], 24_000, 2, "mp4a.40.29"), // explicit PS over a mono core
        ];
        for (asc, rate, channels, codecs) in cases {
            let config = header(asc).config();
            assert_eq!(
                (config.sample_rate, config.channels, config.codecs.as_str()),
                (rate, channels, codecs),
                "{asc:02x?}"
            );
        }
    }

    #[test]
    fn silence_is_what_ffmpeg_writes_for_it() {
        assert_eq!(header(&[0x11, 0x88]).silent_frame(), &[0x01, 0x18, 0x20, 0x07][..]);
        let stereo = AacHeader::silent_source().silent_frame();
        assert_eq!(stereo, &[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c][..]);
    }

    #[test]
    fn other_audio_and_broken_headers_are_told_apart() {
        let usac = AacHeader::parse(Bytes::from_static(&[0xf9, 0x46, 0x40])).unwrap_err();
        assert_eq!(usac.refusal(), RefusalReason::AudioCodec);
        let short = AacHeader::parse(Bytes::from_static(&[0x11])).unwrap_err();
        assert_eq!(short.refusal(), RefusalReason::Undecodable);
        let reserved = AacHeader::parse(Bytes::from_static(&[0x16, 0x90])).unwrap_err();
        assert_eq!(reserved.refusal(), RefusalReason::Undecodable);
    }
}
