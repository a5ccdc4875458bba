//! `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1): read as sent, written with 4-byte NAL lengths.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_types::{FrameRate, RefusalReason};

use super::sps::{HIGH_PROFILES, Sps};
use crate::VideoConfig;

/// An H.264 header or access unit that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AvcError {
    /// The configuration record ends too early or is of another version.
    #[error("h.264 header of {0} bytes cannot be read")]
    Record(usize),
    /// It carries no sequence parameter set that can be read.
    #[error("h.264 header has no readable sequence parameter set")]
    NoSps,
    /// It carries no picture parameter set.
    #[error("h.264 header has no picture parameter set")]
    NoPps,
    /// A NAL unit is longer than what is left of its access unit.
    #[error("nal unit of {length} bytes in an access unit with {left} bytes left")]
    NalLength {
        /// What the length prefix says.
        length: usize,
        /// Bytes behind it.
        left: usize,
    },
}

impl AvcError {
    /// The reason that the publisher is told.
    pub const fn refusal(self) -> RefusalReason {
        RefusalReason::Undecodable
    }
}

/// The parameter sets of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcRecord {
    /// Sequence parameter sets, NAL units without length prefix.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, likewise.
    pub pps: Vec<Bytes>,
    /// Bytes of the length prefix in the access units that follow: 1, 2 or 4.
    pub length_size: usize,
}

impl AvcRecord {
    /// Reads a record as the publisher sent it.
    ///
    /// # Errors
    /// A record that ends too early, of another version, or without parameter sets.
    pub fn parse(record: &Bytes) -> Result<Self, AvcError> {
        let broken = AvcError::Record(record.len());
        if record.len() < 7 || record[0] != 1 {
            return Err(broken);
        }
        let length_size = usize::from(record[4] & 3) + 1;
        let mut rest = record.slice(5..);
        let mut read_sets = |mask: u8| {
            let count = rest.try_get_u8().map_err(|_| broken)? & mask;
            let mut sets = Vec::new();
            for _ in 0..count {
                let length = usize::from(rest.try_get_u16().map_err(|_| broken)?);
                if rest.len() < length {
                    return Err(broken);
                }
                let set = rest.split_to(length);
                if !set.is_empty() && !sets.contains(&set) {
                    sets.push(set);
                }
            }
            Ok(sets)
        };
        let (sps, pps) = (read_sets(0x1f)?, read_sets(0xff)?);
        if length_size == 3 {
            return Err(broken);
        }
        if pps.is_empty() {
            return Err(AvcError::NoPps);
        }
        let record = Self { sps, pps, length_size };
        record.main_sps()?;
        Ok(record)
    }

    /// The sequence parameter set that describes the track.
    ///
    /// # Errors
    /// [`AvcError::NoSps`] when there is none or the first cannot be read.
    pub fn main_sps(&self) -> Result<Sps, AvcError> {
        self.sps.first().and_then(|sps| Sps::parse(sps)).ok_or(AvcError::NoSps)
    }

    /// The parameter sets as they stand before an IDR picture in the stream itself: with 4-byte lengths.
    pub fn in_band(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        for set in self.sps.iter().chain(&self.pps) {
            bytes.put_u32(set.len() as u32);
            bytes.put_slice(set);
        }
        bytes.freeze()
    }

    /// Whether both describe the same track, whatever their length prefixes.
    pub fn same_sets(&self, other: &Self) -> bool {
        self.sps == other.sps && self.pps == other.pps
    }

    /// The track's description at `frame_rate`.
    ///
    /// # Errors
    /// [`AvcError::NoSps`] as in [`AvcRecord::main_sps`].
    pub fn config(&self, frame_rate: FrameRate) -> Result<VideoConfig, AvcError> {
        let sps = self.main_sps()?;
        Ok(VideoConfig {
            avcc: self.to_bytes(&sps),
            width: sps.width,
            height: sps.height,
            frame_rate,
            codecs: sps.codecs(),
        })
    }

    fn to_bytes(&self, sps: &Sps) -> Bytes {
        let mut record = BytesMut::new();
        record.put_slice(&[1, sps.profile, sps.constraints, sps.level, 0xfc | 3]);
        record.put_u8(0xe0 | self.sps.len() as u8);
        put_sets(&mut record, &self.sps);
        record.put_u8(self.pps.len() as u8);
        put_sets(&mut record, &self.pps);
        if HIGH_PROFILES.contains(&sps.profile) {
            let depths = [0xf8 | (sps.luma_bits - 8), 0xf8 | (sps.chroma_bits - 8)];
            record.put_slice(&[0xfc | sps.chroma_format, depths[0], depths[1], 0]);
        }
        record.freeze()
    }
}

fn put_sets(record: &mut BytesMut, sets: &[Bytes]) {
    for set in sets {
        record.put_u16(set.len() as u16);
        record.put_slice(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X264: &[u8] = &[
        0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41,
        0x51, 0x9e, 0x22, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03,
        0xc5, 0x0a, 0x65, 0x80, 0x01, 0x00, 0x04, 0x68, 0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
    ];

    #[test]
    fn a_record_of_x264_is_written_as_it_was_read() {
        let record = AvcRecord::parse(&Bytes::from_static(X264)).unwrap();
        let config = record.config(FrameRate { num: 30, den: 1 }).unwrap();
        assert_eq!(config.avcc, X264);
        assert_eq!((config.width, config.height), (322, 180));
    }

    #[test]
    fn a_cut_record_is_an_error_and_never_a_panic() {
        // The last four bytes are an extension that older writers leave out.
        for end in 0..X264.len() - 4 {
            let cut = Bytes::from_static(&X264[..end]);
            assert!(AvcRecord::parse(&cut).is_err(), "{end} bytes");
        }
    }
}
