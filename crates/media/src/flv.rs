//! FLV video and audio tag bodies as RTMP carries them (Adobe FLV 10.1, Annex E; Enhanced RTMP v2).
//!
//! Splits header from payload and refuses foreign codecs. Reads nothing inside the payload and never trusts the
//! tag's own idea of a keyframe.

use bytes::{Buf, Bytes};
use millrace_types::RefusalReason;

use crate::codec_name::{SOUND_FORMATS, VIDEO_CODECS, named};

/// What a video tag carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoTag {
    /// An `AVCDecoderConfigurationRecord`.
    Header(Bytes),
    /// One access unit: NAL units with length prefixes.
    Frame {
        /// Presentation minus decoding time, milliseconds.
        composition_ms: i32,
        /// The NAL units.
        data: Bytes,
    },
    /// Nothing that is decoded: an end of sequence, a seek command, metadata.
    Nothing,
}

/// What an audio tag carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    Header(Bytes),
    /// One raw AAC frame.
    Frame(Bytes),
    /// Nothing that is decoded: an end of sequence, a channel map.
    Nothing,
}

/// A tag body that is no H.264 or AAC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// Video of another codec: the FLV codec id, or the FourCC.
    #[error("video codec {0} is not h.264")]
    VideoCodec(String),
    /// Audio of another codec: the FLV sound format, or the FourCC.
    #[error("audio codec {0} is not aac")]
    AudioCodec(String),
    /// The body ends inside its header.
    #[error("flv tag of {0} bytes ends inside its header")]
    Short(usize),
}

impl FlvError {
    /// The reason that the publisher is told.
    pub const fn refusal(&self) -> RefusalReason {
        match self {
            Self::VideoCodec(_) => RefusalReason::VideoCodec,
            Self::AudioCodec(_) => RefusalReason::AudioCodec,
            Self::Short(_) => RefusalReason::Undecodable,
        }
    }
}

const CODEC_AVC: u8 = 7;
const SOUND_EX_HEADER: u8 = 9;
const SOUND_AAC: u8 = 10;
const FRAME_COMMAND: u8 = 5;
/// Enhanced RTMP packet types, shared by video and audio unless said otherwise.
const PACKET_START: u8 = 0;
const PACKET_FRAMES: u8 = 1;
const PACKET_FRAMES_X: u8 = 3;
const PACKET_MULTITRACK_VIDEO: u8 = 6;
const PACKET_MULTITRACK_AUDIO: u8 = 5;
const PACKET_MOD_EX: u8 = 7;

/// Splits the body of an RTMP video message. An empty body is [`VideoTag::Nothing`].
///
/// # Errors
/// Another codec than H.264, or a body that ends inside its header.
pub fn parse_video(mut body: Bytes) -> Result<VideoTag, FlvError> {
    let size = body.len();
    if size == 0 {
        return Ok(VideoTag::Nothing);
    }
    let first = body.get_u8();
    if first & 0x80 != 0 {
        return parse_enhanced_video(first, body, size);
    }
    if first >> 4 == FRAME_COMMAND {
        return Ok(VideoTag::Nothing);
    }
    if first & 0x0f != CODEC_AVC {
        return Err(FlvError::VideoCodec(named(first & 0x0f, &VIDEO_CODECS)));
    }
    if body.len() < 4 {
        return Err(FlvError::Short(size));
    }
    let packet = body.get_u8();
    let composition_ms = read_i24(&mut body);
    Ok(match packet {
        0 => VideoTag::Header(body),
        1 if !body.is_empty() => VideoTag::Frame { composition_ms, data: body },
        _ => VideoTag::Nothing,
    })
}

fn parse_enhanced_video(first: u8, mut body: Bytes, size: usize) -> Result<VideoTag, FlvError> {
    let packet = skip_extensions(first & 0x0f, &mut body, size)?;
    if packet == PACKET_MULTITRACK_VIDEO {
        return Err(FlvError::VideoCodec("multitrack".to_owned()));
    }
    if first >> 4 & 0x07 == FRAME_COMMAND {
        return Ok(VideoTag::Nothing);
    }
    let fourcc = read_fourcc(&mut body, size)?;
    if &fourcc != b"avc1" {
        return Err(FlvError::VideoCodec(printable(fourcc)));
    }
    match packet {
        PACKET_START => Ok(VideoTag::Header(body)),
        PACKET_FRAMES if body.len() < 3 => Err(FlvError::Short(size)),
        PACKET_FRAMES => Ok(VideoTag::Frame { composition_ms: read_i24(&mut body), data: body }),
        PACKET_FRAMES_X => Ok(VideoTag::Frame { composition_ms: 0, data: body }),
        _ => Ok(VideoTag::Nothing),
    }
}

/// Splits the body of an RTMP audio message. An empty body is [`AudioTag::Nothing`].
///
/// # Errors
/// Another codec than AAC, or a body that ends inside its header.
pub fn parse_audio(mut body: Bytes) -> Result<AudioTag, FlvError> {
    let size = body.len();
    if size == 0 {
        return Ok(AudioTag::Nothing);
    }
    let first = body.get_u8();
    match first >> 4 {
        SOUND_AAC if body.is_empty() => Err(FlvError::Short(size)),
        SOUND_AAC => Ok(match body.get_u8() {
            0 => AudioTag::Header(body),
            1 if !body.is_empty() => AudioTag::Frame(body),
            _ => AudioTag::Nothing,
        }),
        SOUND_EX_HEADER => {
            let packet = skip_extensions(first & 0x0f, &mut body, size)?;
            if packet == PACKET_MULTITRACK_AUDIO {
                return Err(FlvError::AudioCodec("multitrack".to_owned()));
            }
            let fourcc = read_fourcc(&mut body, size)?;
            if &fourcc != b"mp4a" {
                return Err(FlvError::AudioCodec(printable(fourcc)));
            }
            Ok(match packet {
                PACKET_START => AudioTag::Header(body),
                PACKET_FRAMES if !body.is_empty() => AudioTag::Frame(body),
                _ => AudioTag::Nothing,
            })
        }
        other => Err(FlvError::AudioCodec(named(other, &SOUND_FORMATS))),
    }
}

/// Skips `ModEx` prefixes (Enhanced RTMP v2) and returns the packet type behind them.
fn skip_extensions(mut packet: u8, body: &mut Bytes, size: usize) -> Result<u8, FlvError> {
    let short = FlvError::Short(size);
    while packet == PACKET_MOD_EX {
        let mut length = usize::from(body.try_get_u8().map_err(|_| short.clone())?) + 1;
        if length == 256 {
            length = usize::from(body.try_get_u16().map_err(|_| short.clone())?) + 1;
        }
        if body.len() <= length {
            return Err(short);
        }
        body.advance(length);
        packet = body.get_u8() & 0x0f;
    }
    Ok(packet)
}

fn read_fourcc(body: &mut Bytes, size: usize) -> Result<[u8; 4], FlvError> {
    body.try_get_u32().map(u32::to_be_bytes).map_err(|_| FlvError::Short(size))
}

fn read_i24(body: &mut Bytes) -> i32 {
    (i32::from(body.get_u8()) << 24
        | i32::from(body.get_u8()) << 16
        | i32::from(body.get_u8()) << 8)
        >> 8
}

fn printable(fourcc: [u8; 4]) -> String {
    fourcc.iter().flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(bytes: &'static [u8]) -> Result<VideoTag, FlvError> {
        parse_video(Bytes::from_static(bytes))
    }

    #[test]
    fn a_frame_keeps_its_signed_composition_time_in_both_syntaxes() {
        let frame = |composition_ms| {
            Ok(VideoTag::Frame { composition_ms, data: Bytes::from_static(b"nal") })
        };
        assert_eq!(video(b"\x17\x01\x00\x00\x42nal"), frame(66));
        assert_eq!(video(b"\x27\x01\xff\xff\xffnal"), frame(-1));
        assert_eq!(video(b"\x91avc1\x00\x00\x42nal"), frame(66));
        assert_eq!(video(b"\x93avc1nal"), frame(0));
        assert_eq!(video(b"\x97\x02\x00\x00\x00\x01avc1\x00\x00\x42nal"), frame(66));
    }

    #[test]
    fn foreign_codecs_are_named_and_mapped_to_their_refusal() {
        let hevc = video(b"\x90hvc1").unwrap_err();
        assert_eq!(hevc, FlvError::VideoCodec("hvc1".into()));
        assert_eq!(hevc.refusal(), RefusalReason::VideoCodec);
        assert_eq!(video(b"\x12\x00\x00").unwrap_err(), FlvError::VideoCodec("2 (h.263)".into()));
        let mp3 = parse_audio(Bytes::from_static(b"\x2f\x00")).unwrap_err();
        assert_eq!(mp3.refusal(), RefusalReason::AudioCodec);
        assert_eq!(mp3.to_string(), "audio codec 2 (mp3) is not aac");
        let opus = parse_audio(Bytes::from_static(b"\x90Opus")).unwrap_err();
        assert_eq!(opus, FlvError::AudioCodec("Opus".into()));
    }

    #[test]
    fn no_truncation_panics() {
        let whole = [
            &b"\x17\x01\x00\x00\x42nal"[..],
            b"\x97\x02\x00\x00\x00\x01avc1\x00\x00\x42nal",
            b"\x97\xff\x00\x04aaaaa\x01avc1\x00\x00\x42nal",
            b"\x97mp4a",
        ];
        for body in whole {
            for end in 0..=body.len() {
                let _ = parse_video(Bytes::copy_from_slice(&body[..end]));
                let _ = parse_audio(Bytes::copy_from_slice(&body[..end]));
            }
        }
    }
}
