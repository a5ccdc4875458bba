//! What a pipeline asks of a decoder, a scaler and an encoder, without naming one.
//!
//! A [`Backend`] makes all three for one kind of [`Frame`]. A frame is opaque: it may lie in the memory of a device from
//! decode to bitstream. Cloning one adds a reference and copies no picture. Nothing here links C.
//!
//! ```text
//! coded picture → Decoder → Frame → Scaler → Frame → Encoder → coded picture
//! ```

mod backend;
mod error;
mod settings;

pub use backend::{Backend, Decoder, Encoded, Encoder, Frame, Scaler};
pub use error::TranscodeError;
pub use settings::{DecoderSettings, EncoderSettings, Size};
