//! The backend of a worker that only repackages: it can open nothing, and its frames cannot exist.

use bytes::Bytes;
use millrace_transcode::{
    Backend, Decoder, DecoderSettings, Encoded, Encoder, EncoderSettings, Frame, Scaler, Size,
    TranscodeError,
};

/// No decoder, no encoder.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBackend;

/// A frame, decoder, scaler or encoder of [`NoBackend`]: there is none.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

fn none<T>() -> Result<T, TranscodeError> {
    Err(TranscodeError::NoEncoder("this worker only repackages".to_owned()))
}

impl Backend for NoBackend {
    type Frame = Never;
    type Decoder = Never;
    type Scaler = Never;
    type Encoder = Never;

    fn decoder(&self, _: &DecoderSettings) -> Result<Never, TranscodeError> {
        none()
    }

    fn scaler(&self, _: Size) -> Result<Never, TranscodeError> {
        none()
    }

    fn encoder(&self, _: &EncoderSettings, _: &Never) -> Result<Never, TranscodeError> {
        none()
    }
}

impl Frame for Never {
    fn pts(&self) -> i64 {
        match *self {}
    }

    fn size(&self) -> Size {
        match *self {}
    }
}

impl Decoder for Never {
    type Frame = Self;

    fn push(&mut self, _: i64, _: &[u8]) -> Result<bool, TranscodeError> {
        match *self {}
    }

    fn finish(&mut self) -> Result<(), TranscodeError> {
        match *self {}
    }

    fn poll(&mut self) -> Result<Option<Self>, TranscodeError> {
        match *self {}
    }
}

impl Scaler for Never {
    type Frame = Self;

    fn scale(&mut self, _: &Self) -> Result<Self, TranscodeError> {
        match *self {}
    }
}

impl Encoder for Never {
    type Frame = Self;

    fn avcc(&self) -> Bytes {
        match *self {}
    }

    fn push(&mut self, _: &Self, _: i64, _: bool) -> Result<(), TranscodeError> {
        match *self {}
    }

    fn finish(&mut self) -> Result<(), TranscodeError> {
        match *self {}
    }

    fn poll(&mut self) -> Result<Option<Encoded>, TranscodeError> {
        match *self {}
    }
}
