//! Opens what the other files own.

use millrace_transcode::{Backend, DecoderSettings, EncoderSettings, Size, TranscodeError};

use crate::{Picture, SoftwareDecoder, SoftwareEncoder, SoftwareScaler, Tuning};

/// FFmpeg on the host's processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Software {
    /// How libx264 is set.
    pub tuning: Tuning,
}

impl Backend for Software {
    type Frame = Picture;
    type Decoder = SoftwareDecoder;
    type Scaler = SoftwareScaler;
    type Encoder = SoftwareEncoder;

    fn decoder(&self, settings: &DecoderSettings) -> Result<SoftwareDecoder, TranscodeError> {
        SoftwareDecoder::open(settings)
    }

    fn scaler(&self, size: Size) -> Result<SoftwareScaler, TranscodeError> {
        Ok(SoftwareScaler::new(size))
    }

    fn encoder(
        &self,
        settings: &EncoderSettings,
        first: &Picture,
    ) -> Result<SoftwareEncoder, TranscodeError> {
        SoftwareEncoder::open(settings, self.tuning, first)
    }
}
