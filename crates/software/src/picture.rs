//! A decoded picture: a counted reference to FFmpeg's frame. Cloning it copies no pixels.

use std::ptr::NonNull;

use ffmpeg_next::ffi;
use millrace_transcode::{Frame, Size};

/// A picture in the memory of the host.
#[derive(Debug)]
pub struct Picture(NonNull<ffi::AVFrame>);

// SAFETY: FFmpeg counts references to a frame's buffers atomically, and a `Picture` owns its `AVFrame` alone.
unsafe impl Send for Picture {}

impl Picture {
    /// A frame without a picture.
    pub(crate) fn empty() -> Self {
        // SAFETY: it only allocates; null means that the host is out of memory, as when `Box::new` aborts.
        let frame = unsafe { ffi::av_frame_alloc() };
        Self(NonNull::new(frame).expect("invariant: memory for a frame's header"))
    }

    /// What FFmpeg takes.
    pub(crate) fn as_ptr(&self) -> *mut ffi::AVFrame {
        self.0.as_ptr()
    }

    /// The frame's fields.
    pub(crate) fn fields(&self) -> &ffi::AVFrame {
        // SAFETY: the pointer is valid as long as `self`, and nobody writes through it meanwhile.
        unsafe { self.0.as_ref() }
    }

    /// The frame's fields, to be changed.
    pub(crate) fn fields_mut(&mut self) -> &mut ffi::AVFrame {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { self.0.as_mut() }
    }

    /// Whether no other reference to the same pixels exists.
    pub(crate) fn is_alone(&self) -> bool {
        // SAFETY: reads the counters of the frame's buffers.
        unsafe { ffi::av_frame_is_writable(self.as_ptr()) > 0 }
    }
}

impl Clone for Picture {
    fn clone(&self) -> Self {
        // SAFETY: adds a reference to buffers that are counted; null means out of memory.
        let frame = unsafe { ffi::av_frame_clone(self.as_ptr()) };
        Self(NonNull::new(frame).expect("invariant: memory for a frame's header"))
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        let mut frame = self.0.as_ptr();
        // SAFETY: the frame is ours, and never used again.
        unsafe { ffi::av_frame_free(&mut frame) };
    }
}

impl Frame for Picture {
    fn pts(&self) -> i64 {
        self.fields().pts
    }

    fn size(&self) -> Size {
        let frame = self.fields();
        Size { width: frame.width.unsigned_abs(), height: frame.height.unsigned_abs() }
    }
}
