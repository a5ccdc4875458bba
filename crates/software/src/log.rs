//! Hands FFmpeg's error lines to a function of ours; everything less than an error is dropped.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

use ffmpeg_next::ffi;

static SINK: OnceLock<fn(&str)> = OnceLock::new();

/// Sends every error line of FFmpeg to `sink`, from whatever thread it is said on. Later calls change nothing.
pub fn log_errors_to(sink: fn(&str)) {
    if SINK.set(sink).is_ok() {
        // SAFETY: the callback lives as long as the program and touches only what it is given.
        unsafe { ffi::av_log_set_callback(Some(log_line)) };
    }
}

unsafe extern "C" fn log_line(
    source: *mut c_void,
    level: c_int,
    format: *const c_char,
    arguments: *mut ffi::__va_list_tag,
) {
    if level > ffi::AV_LOG_ERROR {
        return;
    }
    let mut line = [0; 512];
    let mut prefix = 0;
    // SAFETY: FFmpeg gives a format with its arguments; it writes a zero-ended text of at most the length we say.
    let line = unsafe {
        ffi::av_log_format_line(
            source,
            level,
            format,
            arguments,
            line.as_mut_ptr(),
            line.len() as c_int,
            &mut prefix,
        );
        CStr::from_ptr(line.as_ptr())
    };
    if let Some(sink) = SINK.get() {
        sink(line.to_string_lossy().trim_end());
    }
}
