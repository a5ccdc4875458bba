//! FFmpeg's H.264 decoder on one thread, holding back only as many pictures as the stream reorders.

use std::ptr::NonNull;

use ffmpeg_next::ffi;
use millrace_transcode::{Decoder, DecoderSettings, TranscodeError};

use crate::{
    Picture,
    failure::{AGAIN, decoding},
};

/// An open H.264 decoder.
#[derive(Debug)]
pub struct SoftwareDecoder {
    context: NonNull<ffi::AVCodecContext>,
    packet: NonNull<ffi::AVPacket>,
}

// SAFETY: a codec context may be used from any one thread at a time, and this owns its own.
unsafe impl Send for SoftwareDecoder {}

impl SoftwareDecoder {
    /// Opens a decoder.
    ///
    /// # Errors
    /// [`TranscodeError::BadInput`] when the parameter sets cannot be read.
    pub fn open(settings: &DecoderSettings) -> Result<Self, TranscodeError> {
        let missing = || TranscodeError::BadInput("FFmpeg has no H.264 decoder".to_owned());
        // SAFETY: plain allocation; the extradata is allocated by FFmpeg's allocator, which frees it with the context.
        unsafe {
            let codec = ffi::avcodec_find_decoder(ffi::AVCodecID::AV_CODEC_ID_H264);
            let context = NonNull::new(ffi::avcodec_alloc_context3(codec)).ok_or_else(missing)?;
            let packet = NonNull::new(ffi::av_packet_alloc())
                .expect("invariant: memory for a packet's header");
            let decoder = Self { context, packet };
            let fields = &mut *context.as_ptr();
            let length = settings.avcc.len();
            let extradata =
                ffi::av_mallocz(length + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize).cast::<u8>();
            extradata.copy_from_nonoverlapping(settings.avcc.as_ptr(), length);
            fields.extradata = extradata;
            fields.extradata_size = length as i32;
            fields.has_b_frames = i32::from(settings.reorder);
            fields.thread_count = 1;
            // Nothing is predicted from these pictures, and every rung scales them down: a fiftieth of a stream's cost
            // for a tenth of a point of VMAF (benches/src/bin/worker_cost.rs).
            fields.skip_loop_filter = ffi::AVDiscard::AVDISCARD_NONREF;
            fields.pkt_timebase = ffi::AVRational { num: 1, den: 90_000 };
            match ffi::avcodec_open2(context.as_ptr(), codec, std::ptr::null_mut()) {
                0.. => Ok(decoder),
                code => Err(decoding("parameter sets", code)),
            }
        }
    }

    /// Hands over the packet, or null at the end.
    fn send(&mut self, packet: *const ffi::AVPacket) -> Result<bool, TranscodeError> {
        // SAFETY: context and packet are valid, and ours alone.
        match unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) } {
            0.. => Ok(true),
            ffi::AVERROR_INVALIDDATA | ffi::AVERROR_EOF => Ok(false),
            code if code == ffi::AVERROR(ffi::ENOMEM) => Err(decoding("decode", code)),
            _ => Ok(false),
        }
    }
}

impl Decoder for SoftwareDecoder {
    type Frame = Picture;

    fn push(&mut self, pts: i64, picture: &[u8]) -> Result<bool, TranscodeError> {
        let size = i32::try_from(picture.len())
            .map_err(|_| TranscodeError::BadInput(format!("picture of {} bytes", picture.len())))?;
        // SAFETY: `av_new_packet` allocates `size` bytes and the padding that the decoder may read beyond them.
        unsafe {
            let packet = self.packet.as_ptr();
            match ffi::av_new_packet(packet, size) {
                0.. => {}
                code => return Err(decoding("packet", code)),
            }
            (*packet).data.copy_from_nonoverlapping(picture.as_ptr(), picture.len());
            (*packet).pts = pts;
            let taken = self.send(packet);
            ffi::av_packet_unref(packet);
            taken
        }
    }

    fn finish(&mut self) -> Result<(), TranscodeError> {
        self.send(std::ptr::null()).map(|_| ())
    }

    fn poll(&mut self) -> Result<Option<Picture>, TranscodeError> {
        let picture = Picture::empty();
        // SAFETY: context and frame are valid; the frame becomes a reference to the decoder's picture.
        match unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), picture.as_ptr()) } {
            0.. => Ok(Some(picture)),
            code if code == ffi::AVERROR(ffi::ENOMEM) => Err(decoding("decode", code)),
            AGAIN | ffi::AVERROR_EOF => Ok(None),
            _ => Ok(None),
        }
    }
}

impl Drop for SoftwareDecoder {
    fn drop(&mut self) {
        let (mut context, mut packet) = (self.context.as_ptr(), self.packet.as_ptr());
        // SAFETY: both are ours, and never used again.
        unsafe {
            ffi::av_packet_free(&mut packet);
            ffi::avcodec_free_context(&mut context);
        }
    }
}
