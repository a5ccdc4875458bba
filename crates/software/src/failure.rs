//! Names what FFmpeg says: its error numbers as text, and as the closed reasons of a backend.

use std::ffi::{CStr, c_int};

use ffmpeg_next::ffi;
use millrace_transcode::TranscodeError;

/// `AVERROR(EAGAIN)`: nothing more until something is pushed.
pub(crate) const AGAIN: c_int = ffi::AVERROR(ffi::EAGAIN);
/// `AVERROR(ENOMEM)`.
const NO_MEMORY: c_int = ffi::AVERROR(ffi::ENOMEM);

/// FFmpeg's text for an error number.
pub(crate) fn text(code: c_int) -> String {
    let mut buffer = [0; 128];
    // SAFETY: the buffer is as long as we say, and FFmpeg ends the text with a zero.
    unsafe {
        ffi::av_strerror(code, buffer.as_mut_ptr(), buffer.len());
        CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned()
    }
}

/// A call that cannot fail on account of the stream failed: the encoder, or memory.
pub(crate) fn encoding(what: &str, code: c_int) -> TranscodeError {
    let text = format!("{what}: {}", text(code));
    if code == NO_MEMORY {
        TranscodeError::DeviceFull(text)
    } else {
        TranscodeError::NoEncoder(text)
    }
}

/// A decoder cannot go on.
pub(crate) fn decoding(what: &str, code: c_int) -> TranscodeError {
    let text = format!("{what}: {}", text(code));
    if code == NO_MEMORY {
        TranscodeError::DeviceFull(text)
    } else {
        TranscodeError::BadInput(text)
    }
}
