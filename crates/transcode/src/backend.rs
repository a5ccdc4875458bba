//! The traits. All of them push and poll: a codec may keep pictures back and give them later, never reorder or lose them.

use bytes::Bytes;

use crate::{DecoderSettings, EncoderSettings, Size, TranscodeError};

/// Makes decoders, scalers and encoders that understand each other's frames.
pub trait Backend {
    /// A decoded picture.
    type Frame: Frame;
    /// Opened by [`Backend::decoder`].
    type Decoder: Decoder<Frame = Self::Frame>;
    /// Opened by [`Backend::scaler`].
    type Scaler: Scaler<Frame = Self::Frame>;
    /// Opened by [`Backend::encoder`].
    type Encoder: Encoder<Frame = Self::Frame>;

    /// Opens a decoder.
    ///
    /// # Errors
    /// [`TranscodeError::BadInput`] when the parameter sets cannot be read, or a fault of the device.
    fn decoder(&self, settings: &DecoderSettings) -> Result<Self::Decoder, TranscodeError>;

    /// Opens a scaler to `size`; it takes pictures of any size and any format the decoder yields.
    ///
    /// # Errors
    /// A fault of the device.
    fn scaler(&self, size: Size) -> Result<Self::Scaler, TranscodeError>;

    /// Opens an encoder for pictures that were scaled, coloured like `first`.
    ///
    /// # Errors
    /// [`TranscodeError::NoEncoder`], or a fault of the device.
    fn encoder(
        &self,
        settings: &EncoderSettings,
        first: &Self::Frame,
    ) -> Result<Self::Encoder, TranscodeError>;
}

/// A decoded picture. A clone is another reference to the same picture.
pub trait Frame: Clone + Send + 'static {
    /// Presentation time, as it was given to the decoder.
    fn pts(&self) -> i64;
    /// Of the picture.
    fn size(&self) -> Size;
}

/// Coded pictures in, pictures in the order of presentation out.
pub trait Decoder: Send + 'static {
    /// What comes out.
    type Frame: Frame;

    /// Takes a coded picture: NAL units with 4-byte lengths. Says whether it could be read;
    /// one that could not is skipped, and the decoder goes on.
    ///
    /// # Errors
    /// A fault of the device.
    fn push(&mut self, pts: i64, picture: &[u8]) -> Result<bool, TranscodeError>;

    /// Nothing follows: what is held back comes out, and nothing may be pushed any more.
    ///
    /// # Errors
    /// A fault of the device.
    fn finish(&mut self) -> Result<(), TranscodeError>;

    /// The next picture that is due, if any.
    ///
    /// # Errors
    /// A fault of the device.
    fn poll(&mut self) -> Result<Option<Self::Frame>, TranscodeError>;
}

/// A picture in, the same picture in another size out.
pub trait Scaler: Send + 'static {
    /// What goes in and comes out.
    type Frame: Frame;

    /// The picture in the scaler's size and in the format of its encoder: the same reference if it is so already.
    ///
    /// # Errors
    /// A fault of the device.
    fn scale(&mut self, frame: &Self::Frame) -> Result<Self::Frame, TranscodeError>;
}

/// Pictures in, coded pictures in the same order out.
pub trait Encoder: Send + 'static {
    /// What goes in.
    type Frame: Frame;

    /// `AVCDecoderConfigurationRecord` of everything that comes out.
    fn avcc(&self) -> Bytes;

    /// Takes a picture and its presentation time, in ticks of 90 kHz; codes it as an IDR if so told.
    ///
    /// # Errors
    /// A fault of the device.
    fn push(&mut self, frame: &Self::Frame, pts: i64, idr: bool) -> Result<(), TranscodeError>;

    /// Nothing follows: what is held back comes out, and nothing may be pushed any more.
    ///
    /// # Errors
    /// A fault of the device.
    fn finish(&mut self) -> Result<(), TranscodeError>;

    /// The next coded picture that is due, if any.
    ///
    /// # Errors
    /// A fault of the device.
    fn poll(&mut self) -> Result<Option<Encoded>, TranscodeError>;
}

/// One coded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Presentation and decoding time, as it was given to the encoder.
    pub pts: i64,
    /// Whether it is an IDR.
    pub idr: bool,
    /// NAL units with 4-byte lengths, without parameter sets.
    pub bytes: Bytes,
}
