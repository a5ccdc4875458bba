//! libx264 through FFmpeg: no B-frames, an IDR exactly where told, coded pictures handed on without a copy.

use std::{
    ffi::{CString, c_int},
    ptr::{NonNull, null_mut},
};

use bytes::Bytes;
use ffmpeg_next::ffi;
use millrace_transcode::{Encoded, Encoder, EncoderSettings, TranscodeError};

use crate::{
    Picture, Tuning,
    avcc::avcc,
    failure::{AGAIN, encoding},
};

/// An open libx264.
#[derive(Debug)]
pub struct SoftwareEncoder {
    context: NonNull<ffi::AVCodecContext>,
    avcc: Bytes,
    /// Reference to the picture that is being pushed: its time and kind are set here, never on a picture others share.
    input: Picture,
}

// SAFETY: a codec context may be used from any one thread at a time, and this owns its own.
unsafe impl Send for SoftwareEncoder {}

impl SoftwareEncoder {
    /// Opens an encoder for pictures coloured like `first`.
    ///
    /// # Errors
    /// [`TranscodeError::NoEncoder`] when libx264 is missing or refuses the settings.
    pub fn open(
        settings: &EncoderSettings,
        tuning: Tuning,
        first: &Picture,
    ) -> Result<Self, TranscodeError> {
        let missing = || TranscodeError::NoEncoder("FFmpeg has no libx264".to_owned());
        // SAFETY: plain allocation and plain fields; the encoder owns the context from here on and frees it.
        unsafe {
            let codec =
                NonNull::new(ffi::avcodec_find_encoder_by_name(c"libx264".as_ptr()).cast_mut())
                    .ok_or_else(missing)?;
            let context =
                NonNull::new(ffi::avcodec_alloc_context3(codec.as_ptr())).ok_or_else(missing)?;
            let mut encoder = Self { context, avcc: Bytes::new(), input: Picture::empty() };
            configure(&mut *context.as_ptr(), settings, first.fields());
            let mut options = null_mut();
            let params = tuning.x264_params(settings);
            for (key, value) in
                [("preset", tuning.preset), ("forced-idr", "1"), ("x264-params", &params)]
            {
                set(&mut options, key, value);
            }
            let opened = ffi::avcodec_open2(context.as_ptr(), codec.as_ptr(), &mut options);
            ffi::av_dict_free(&mut options);
            if opened < 0 {
                return Err(encoding("libx264", opened));
            }
            let fields = context.as_ref();
            let headers = std::slice::from_raw_parts(
                fields.extradata,
                usize::try_from(fields.extradata_size).unwrap_or(0),
            );
            encoder.avcc = avcc(headers).ok_or_else(|| {
                TranscodeError::NoEncoder("libx264 gave no parameter sets".into())
            })?;
            Ok(encoder)
        }
    }

    fn send(&mut self, frame: *const ffi::AVFrame) -> Result<(), TranscodeError> {
        // SAFETY: context and frame are valid; null ends the stream.
        match unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame) } {
            0.. | ffi::AVERROR_EOF => Ok(()),
            code => Err(encoding("encode", code)),
        }
    }
}

/// Sets what FFmpeg itself asks for.
fn configure(fields: &mut ffi::AVCodecContext, settings: &EncoderSettings, like: &ffi::AVFrame) {
    let rate = settings.frame_rate;
    let bits = i64::from(settings.bitrate_kbps) * 1_000;
    fields.width = settings.size.width as c_int;
    fields.height = settings.size.height as c_int;
    fields.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;
    fields.time_base = ffi::AVRational { num: 1, den: 90_000 };
    fields.framerate = ffi::AVRational { num: rate.num as c_int, den: rate.den as c_int };
    fields.sample_aspect_ratio = like.sample_aspect_ratio;
    fields.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
    fields.color_primaries = like.color_primaries;
    fields.color_trc = like.color_trc;
    fields.colorspace = like.colorspace;
    fields.bit_rate = bits;
    fields.rc_max_rate = bits;
    fields.rc_buffer_size = bits as c_int;
    fields.thread_count = 1;
    fields.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
}

fn set(options: &mut *mut ffi::AVDictionary, key: &str, value: &str) {
    let text = |text: &str| CString::new(text).expect("invariant: an option holds no zero byte");
    // SAFETY: FFmpeg copies both texts.
    unsafe { ffi::av_dict_set(options, text(key).as_ptr(), text(value).as_ptr(), 0) };
}

impl Encoder for SoftwareEncoder {
    type Frame = Picture;

    fn avcc(&self) -> Bytes {
        self.avcc.clone()
    }

    fn push(&mut self, frame: &Picture, pts: i64, idr: bool) -> Result<(), TranscodeError> {
        // SAFETY: the input holds nothing here, and becomes a second reference to the picture.
        match unsafe { ffi::av_frame_ref(self.input.as_ptr(), frame.as_ptr()) } {
            0.. => {}
            code => return Err(encoding("picture", code)),
        }
        let fields = self.input.fields_mut();
        fields.pts = pts;
        fields.pict_type = if idr {
            ffi::AVPictureType::AV_PICTURE_TYPE_I
        } else {
            ffi::AVPictureType::AV_PICTURE_TYPE_NONE
        };
        let sent = self.send(self.input.as_ptr());
        // SAFETY: gives our reference back; libx264 has copied what it keeps.
        unsafe { ffi::av_frame_unref(self.input.as_ptr()) };
        sent
    }

    fn finish(&mut self) -> Result<(), TranscodeError> {
        self.send(std::ptr::null())
    }

    fn poll(&mut self) -> Result<Option<Encoded>, TranscodeError> {
        let packet = Packet::empty();
        // SAFETY: context and packet are valid; the packet becomes the owner of the coded picture.
        match unsafe { ffi::avcodec_receive_packet(self.context.as_ptr(), packet.0.as_ptr()) } {
            0.. => {}
            AGAIN | ffi::AVERROR_EOF => return Ok(None),
            code => return Err(encoding("encode", code)),
        }
        // SAFETY: the packet was just filled.
        let fields = unsafe { packet.0.as_ref() };
        let (pts, idr) = (fields.pts, fields.flags & ffi::AV_PKT_FLAG_KEY as c_int != 0);
        Ok(Some(Encoded { pts, idr, bytes: Bytes::from_owner(packet) }))
    }
}

impl Drop for SoftwareEncoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is ours, and never used again.
        unsafe { ffi::avcodec_free_context(&mut context) };
    }
}

/// A coded picture in FFmpeg's memory.
struct Packet(NonNull<ffi::AVPacket>);

// SAFETY: the packet is owned alone, and its buffer is counted atomically.
unsafe impl Send for Packet {}

impl Packet {
    fn empty() -> Self {
        // SAFETY: it only allocates.
        let packet = unsafe { ffi::av_packet_alloc() };
        Self(NonNull::new(packet).expect("invariant: memory for a packet's header"))
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: data and size describe the packet's buffer, which lives as long as the packet and is never written again.
        unsafe {
            let fields = self.0.as_ref();
            std::slice::from_raw_parts(fields.data, usize::try_from(fields.size).unwrap_or(0))
        }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.0.as_ptr();
        // SAFETY: the packet is ours, and never used again.
        unsafe { ffi::av_packet_free(&mut packet) };
    }
}
