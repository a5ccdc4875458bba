//! How fast one core decodes and encodes: a hard second of video, through the same decoder, scaler and encoder as streams.
//!
//! Measured in CPU time, so that a busy host does not look slow. Scaling counts as encoding: every rung is scaled first.

use std::time::Duration;

use bytes::{Buf, Bytes};
use millrace_media::{AvcRecord, VideoTag, parse_video};
use millrace_software::Software;
use millrace_transcode::{
    Backend, Decoder, DecoderSettings, Encoder, EncoderSettings, Frame, Scaler, Size,
    TranscodeError,
};
use millrace_types::FrameRate;
use nix::sys::resource::{UsageWho, getrusage};

/// See `assets/README.md`.
const CLIP: &[u8] = include_bytes!("../assets/measure.flv");
/// What the clip is scaled to and encoded in.
const RUNG: EncoderSettings = EncoderSettings {
    size: Size { width: 854, height: 480 },
    frame_rate: FrameRate { num: 30, den: 1 },
    bitrate_kbps: 1_400,
};
/// The clip is repeated until this much CPU time was used for each step.
const LEAST: Duration = Duration::from_millis(400);

/// Pixels per second of CPU time.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    pub decode_pixels_per_second: u64,
    pub encode_pixels_per_second: u64,
}

/// The clip could not be decoded or encoded.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("built-in clip: {0}")]
    Clip(String),
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
}

/// Measures for about a second.
pub fn measure(backend: &Software) -> Result<Speed, MeasureError> {
    let (record, pictures) = read_clip()?;
    let settings = DecoderSettings { avcc: record, reorder: 0 };
    let (mut decoding, mut decoded_pixels, mut frames) = (Duration::ZERO, 0, Vec::new());
    while decoding < LEAST {
        let start = cpu_time();
        frames = decode(backend, &settings, &pictures)?;
        decoding += cpu_time().saturating_sub(start);
        decoded_pixels += frames.iter().map(|frame| area(frame.size())).sum::<u64>();
    }
    let (mut encoding, mut encoded_pixels) = (Duration::ZERO, 0);
    while encoding < LEAST {
        let start = cpu_time();
        encoded_pixels += encode(backend, &frames)? * area(RUNG.size);
        encoding += cpu_time().saturating_sub(start);
    }
    let per_second = |pixels: u64, time: Duration| (pixels as f64 / time.as_secs_f64()) as u64;
    Ok(Speed {
        decode_pixels_per_second: per_second(decoded_pixels, decoding),
        encode_pixels_per_second: per_second(encoded_pixels, encoding),
    })
}

fn decode(
    backend: &Software,
    settings: &DecoderSettings,
    pictures: &[Bytes],
) -> Result<Vec<<Software as Backend>::Frame>, MeasureError> {
    let mut decoder = backend.decoder(settings)?;
    let mut frames = Vec::new();
    for (number, picture) in (0..).zip(pictures) {
        decoder.push(number * 3_000, picture)?;
        while let Some(frame) = decoder.poll()? {
            frames.push(frame);
        }
    }
    decoder.finish()?;
    while let Some(frame) = decoder.poll()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// How many pictures came out.
fn encode(
    backend: &Software,
    frames: &[<Software as Backend>::Frame],
) -> Result<u64, MeasureError> {
    let mut scaler = backend.scaler(RUNG.size)?;
    let first = frames.first().ok_or_else(|| MeasureError::Clip("no picture".to_owned()))?;
    let mut encoder = backend.encoder(&RUNG, &scaler.scale(first)?)?;
    let mut encoded = 0;
    for (number, frame) in frames.iter().enumerate() {
        encoder.push(&scaler.scale(frame)?, frame.pts(), number == 0)?;
        while encoder.poll()?.is_some() {
            encoded += 1;
        }
    }
    encoder.finish()?;
    while encoder.poll()?.is_some() {
        encoded += 1;
    }
    Ok(encoded)
}

fn area(size: Size) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
    };
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// The clip's parameter sets and pictures (Adobe FLV specification, version 10.1, annex E).
fn read_clip() -> Result<(Bytes, Vec<Bytes>), MeasureError> {
    /// Signature, version, flags, header length, and the first back pointer.
    const FILE_HEADER: usize = 13;
    /// Before a tag's body.
    const TAG_HEADER: usize = 11;
    /// After it.
    const BACK_POINTER: usize = 4;
    let mut clip = Bytes::from_static(CLIP);
    clip.advance(FILE_HEADER);
    let (mut record, mut pictures) = (None, Vec::new());
    while clip.len() > TAG_HEADER + BACK_POINTER {
        let kind = clip[0];
        let length = usize::from(clip[1]) << 16 | usize::from(clip[2]) << 8 | usize::from(clip[3]);
        clip.advance(TAG_HEADER);
        let body = clip.split_to(length.min(clip.len()));
        clip.advance(BACK_POINTER.min(clip.len()));
        if kind != 9 {
            continue;
        }
        match parse_video(body).map_err(|error| MeasureError::Clip(error.to_string()))? {
            VideoTag::Header(bytes) => record = Some(bytes),
            VideoTag::Frame { data, .. } => pictures.push(data),
            VideoTag::Nothing => {}
        }
    }
    let record = record.ok_or_else(|| MeasureError::Clip("no parameter sets".to_owned()))?;
    AvcRecord::parse(&record).map_err(|error| MeasureError::Clip(error.to_string()))?;
    Ok((record, pictures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_has_a_speed_and_every_picture_comes_back() {
        let (record, pictures) = read_clip().unwrap();
        let settings = DecoderSettings { avcc: record, reorder: 0 };
        let frames = decode(&Software::default(), &settings, &pictures).unwrap();
        assert_eq!((pictures.len(), frames.len()), (30, 30));
        assert_eq!(encode(&Software::default(), &frames).unwrap(), 30);
        let speed = measure(&Software::default()).unwrap();
        assert!(speed.decode_pixels_per_second > 1_000_000, "{speed:?}");
        assert!(speed.encode_pixels_per_second > 1_000_000, "{speed:?}");
    }
}
