//! Bicubic, into 4:2:0 of 8 bits and limited range: by our own scaler where that can, by swscale in every other case.
//! Pictures come from a small pool that never shrinks or copies.

use ffmpeg_next::ffi;
use millrace_transcode::{Frame, Scaler, Size, TranscodeError};

use crate::{Picture, failure::encoding, picture_scaler::PictureScaler};

/// What libx264 is given.
const FORMAT: ffi::AVPixelFormat = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;

/// A scaler to one size, from whatever comes.
#[derive(Debug)]
pub struct SoftwareScaler {
    size: Size,
    /// Ours, or that it cannot, for pictures of this size and format.
    own: Option<(Size, Option<PictureScaler>)>,
    context: *mut ffi::SwsContext,
    pool: Vec<Picture>,
}

// SAFETY: a scaler's context may be used from any one thread at a time, and this owns its own.
unsafe impl Send for SoftwareScaler {}

impl SoftwareScaler {
    /// A scaler to `size`; it learns its source from the first picture.
    pub const fn new(size: Size) -> Self {
        Self { size, own: None, context: std::ptr::null_mut(), pool: Vec::new() }
    }

    /// A picture nobody else refers to, from the pool.
    fn free_picture(&mut self) -> Result<Picture, TranscodeError> {
        if let Some(picture) = self.pool.iter().find(|picture| picture.is_alone()) {
            return Ok(picture.clone());
        }
        let mut picture = Picture::empty();
        let fields = picture.fields_mut();
        fields.format = FORMAT as i32;
        fields.width = self.size.width as i32;
        fields.height = self.size.height as i32;
        // SAFETY: format and size are set, as `av_frame_get_buffer` asks; 0 lets it choose the alignment.
        match unsafe { ffi::av_frame_get_buffer(picture.as_ptr(), 0) } {
            0.. => {}
            code => return Err(encoding("picture", code)),
        }
        self.pool.push(picture.clone());
        Ok(picture)
    }

    /// Whether our own scaler could.
    fn scale_ourselves(&mut self, frame: &Picture, scaled: &mut Picture) -> bool {
        if frame.fields().format != FORMAT as i32 {
            return false;
        }
        let from = frame.size();
        if self.own.as_ref().is_none_or(|(size, _)| *size != from) {
            self.own = Some((from, PictureScaler::new(from, self.size)));
        }
        match &mut self.own {
            Some((_, Some(own))) => own.scale(frame, scaled),
            _ => false,
        }
    }

    fn scale_with_swscale(
        &mut self,
        frame: &Picture,
        scaled: &Picture,
    ) -> Result<(), TranscodeError> {
        let from = frame.fields();
        let (width, height) = (self.size.width as i32, self.size.height as i32);
        // SAFETY: a frame's format is a value of the enum of the FFmpeg that made it; the cached context is ours.
        self.context = unsafe {
            ffi::sws_getCachedContext(
                self.context,
                from.width,
                from.height,
                std::mem::transmute::<i32, ffi::AVPixelFormat>(from.format),
                width,
                height,
                FORMAT,
                ffi::SWS_BICUBIC,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        };
        if self.context.is_null() {
            return Err(TranscodeError::BadInput(format!("pixel format {}", from.format)));
        }
        // SAFETY: both pictures are as large as the context was told.
        unsafe {
            ffi::sws_scale(
                self.context,
                from.data.as_ptr().cast(),
                from.linesize.as_ptr(),
                0,
                from.height,
                scaled.fields().data.as_ptr(),
                scaled.fields().linesize.as_ptr(),
            );
        }
        Ok(())
    }
}

impl Scaler for SoftwareScaler {
    type Frame = Picture;

    fn scale(&mut self, frame: &Picture) -> Result<Picture, TranscodeError> {
        let from = frame.fields();
        if frame.size() == self.size && from.format == FORMAT as i32 {
            return Ok(frame.clone());
        }
        let mut scaled = self.free_picture()?;
        if !self.scale_ourselves(frame, &mut scaled) {
            self.scale_with_swscale(frame, &scaled)?;
        }
        // SAFETY: both frames are valid; properties go to our reference, not to the pool's.
        unsafe { ffi::av_frame_copy_props(scaled.as_ptr(), frame.as_ptr()) };
        let aspect = scaled_aspect(from, self.size);
        let fields = scaled.fields_mut();
        fields.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
        fields.sample_aspect_ratio = aspect;
        Ok(scaled)
    }
}

/// The shape of a pixel after scaling: square unless the picture would be visibly stretched.
fn scaled_aspect(from: &ffi::AVFrame, to: Size) -> ffi::AVRational {
    let sar = from.sample_aspect_ratio;
    let (num, den) = if sar.num > 0 && sar.den > 0 { (sar.num, sar.den) } else { (1, 1) };
    let num = i64::from(num) * i64::from(from.width) * i64::from(to.height);
    let den = i64::from(den) * i64::from(from.height) * i64::from(to.width);
    let mut aspect = ffi::AVRational { num: 1, den: 1 };
    if (num - den).abs() * 50 > den {
        // SAFETY: writes two integers.
        unsafe { ffi::av_reduce(&mut aspect.num, &mut aspect.den, num, den, 255) };
    }
    aspect
}

impl Drop for SoftwareScaler {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and null is allowed.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}
