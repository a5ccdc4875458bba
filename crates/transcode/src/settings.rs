//! How a decoder and an encoder are opened. Equal settings must give equal parameter sets, on any host.

use bytes::Bytes;
use millrace_types::FrameRate;

/// Pixels, both even for whatever is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Size {
    /// Whether a picture of this size can be scaled down to `other`, or is of that size.
    pub const fn covers(self, other: Self) -> bool {
        self.width >= other.width && self.height >= other.height
    }
}

/// An H.264 source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderSettings {
    /// `AVCDecoderConfigurationRecord`, with 4-byte NAL lengths.
    pub avcc: Bytes,
    /// How many pictures presentation lags behind decoding; a decoder that knows holds back no more than that.
    pub reorder: u8,
}

/// An H.264 rung: closed GOPs, no B-frames, an IDR only where one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// Of the picture.
    pub size: Size,
    /// Nominal.
    pub frame_rate: FrameRate,
    /// Target and cap over any second, kilobits per second.
    pub bitrate_kbps: u32,
}
