//! The FFmpeg backend: H.264 decoding, scaling, libx264. The only crate of ours that holds its C and its `unsafe`.
//!
//! One thread each, so that the pipeline decides what runs beside what. Nothing here knows of segments or parts.
#![allow(unsafe_code, reason = "the C interface of FFmpeg, and loads and stores of AVX2")]

mod avcc;
mod backend;
mod bicubic;
mod decoder;
mod encoder;
mod failure;
mod log;
mod picture;
mod picture_scaler;
mod plane_scaler;
mod scaler;
mod tuning;

pub use backend::Software;
pub use decoder::SoftwareDecoder;
pub use encoder::SoftwareEncoder;
pub use log::log_errors_to;
pub use picture::Picture;
pub use scaler::SoftwareScaler;
pub use tuning::Tuning;
