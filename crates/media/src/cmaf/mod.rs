//! CMAF (ISO/IEC 23000-19): the init section of a track, and parts, each one `moof mdat`.
//!
//! Owns the bytes of the boxes. What goes into a part, and where parts are cut, is decided elsewhere.

mod boxes;
mod init;
mod part;

pub use init::init_section;
pub use part::{Sample, part};
