//! H.264 headers and access units: decoder configuration records, sequence parameter sets, NAL units.
//!
//! Enough to describe a track, to find real IDR pictures and to clean access units; no picture is decoded.

mod nal;
mod record;
mod sps;

pub use nal::{Picture, clean_picture};
pub use record::{AvcError, AvcRecord};
pub use sps::Sps;
