//! FLV files as lists of tags (Adobe Flash Video File Format 10.1, annex E). Bodies are not looked into, except to
//! tell codec headers from frames.

use bytes::{Buf, Bytes};

const FILE_HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
const BACK_POINTER_BYTES: usize = 4;

/// Codec numbers of FLV video and audio tags.
const AVC: u8 = 7;
const AAC: u8 = 10;

/// Ten seconds of a moving test picture: 720p30, keyframes 2 s apart, H.264 with B-frames and AAC.
const DEMO: &[u8] = include_bytes!("../assets/demo.flv");

/// The bytes are no FLV file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// The file does not begin as FLV does.
    #[error("no flv header")]
    Header,
    /// A tag goes on after the end of the file.
    #[error("flv tag {index} cut short")]
    CutShort {
        /// The tag's number, from 0.
        index: usize,
    },
    /// A tag of a type that FLV does not have.
    #[error("flv tag {index} of type {kind}")]
    Kind {
        /// The tag's number, from 0.
        index: usize,
        /// Its type.
        kind: u8,
    },
}

/// What a tag carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// Video frame or codec header.
    Video,
    /// Audio frame or codec header.
    Audio,
    /// AMF0, usually `onMetaData`.
    Metadata,
}

/// One tag of a file, or one message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What the body is.
    pub kind: TagKind,
    /// Milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
    /// The tag's body.
    pub body: Bytes,
}

impl Tag {
    /// Whether the body is AVC's or AAC's codec header, or metadata, and not a frame.
    pub fn is_header(&self) -> bool {
        match (self.kind, &self.body[..]) {
            (TagKind::Metadata, _) => true,
            (TagKind::Video, [first, 0, ..]) => first & 0x0F == AVC,
            (TagKind::Audio, [first, 0, ..]) => first >> 4 == AAC,
            _ => false,
        }
    }

    fn is_end_of_sequence(&self) -> bool {
        self.kind == TagKind::Video
            && matches!(self.body[..], [first, 2, ..] if first & 0x0F == AVC)
    }
}

/// A whole file in memory.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Its tags, in file order.
    pub tags: Vec<Tag>,
}

impl Clip {
    /// Reads a file's bytes, all but AVC's end of sequence, which would end every repetition; a file without tags is a clip without tags.
    pub fn parse(file: Bytes) -> Result<Self, ClipError> {
        if !file.starts_with(b"FLV") || file.len() < FILE_HEADER_BYTES {
            return Err(ClipError::Header);
        }
        let mut rest = file.slice(5..);
        let header_bytes = rest.get_u32() as usize;
        if header_bytes < FILE_HEADER_BYTES || header_bytes > file.len() {
            return Err(ClipError::Header);
        }
        rest = file.slice((header_bytes + BACK_POINTER_BYTES).min(file.len())..);
        let mut tags = Vec::new();
        while !rest.is_empty() {
            tags.push(read_tag(&mut rest, tags.len())?);
        }
        tags.retain(|tag| !tag.is_end_of_sequence());
        Ok(Self { tags })
    }

    /// The clip that comes with the program.
    pub fn demo() -> Self {
        Self::parse(Bytes::from_static(DEMO)).expect("invariant: the built-in clip is an FLV file")
    }

    /// From the first frame to one frame after the last, in milliseconds: the distance at which a repetition of
    /// the clip goes on without a gap. Measured on the video, or on the audio of a clip without.
    pub fn period_ms(&self) -> u32 {
        let stamps = |kind| {
            let frames = self.tags.iter().filter(move |tag| tag.kind == kind && !tag.is_header());
            frames.map(|tag| tag.timestamp_ms).collect::<Vec<_>>()
        };
        let video = stamps(TagKind::Video);
        let frames = if video.len() > 1 { video } else { stamps(TagKind::Audio) };
        let (Some(&first), Some(&last)) = (frames.first(), frames.last()) else { return 0 };
        let span = f64::from(last.wrapping_sub(first));
        let count = frames.len() as f64;
        (span * count / (count - 1.0).max(1.0)).round() as u32
    }
}

fn read_tag(rest: &mut Bytes, index: usize) -> Result<Tag, ClipError> {
    if rest.len() < TAG_HEADER_BYTES {
        return Err(ClipError::CutShort { index });
    }
    let kind = match rest.get_u8() {
        8 => TagKind::Audio,
        9 => TagKind::Video,
        18 => TagKind::Metadata,
        kind => return Err(ClipError::Kind { index, kind }),
    };
    let length = rest.get_uint(3) as usize;
    let stamp_low = rest.get_uint(3) as u32;
    let timestamp_ms = stamp_low | u32::from(rest.get_u8()) << 24;
    rest.advance(3);
    if rest.len() < length {
        return Err(ClipError::CutShort { index });
    }
    let body = rest.split_to(length);
    rest.advance(BACK_POINTER_BYTES.min(rest.len()));
    Ok(Tag { kind, timestamp_ms, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_clip_is_ten_seconds_of_thirty_frames() {
        let clip = Clip::demo();
        let frames = |kind| clip.tags.iter().filter(|t| t.kind == kind && !t.is_header()).count();
        assert_eq!(clip.period_ms(), 10_000);
        assert_eq!(frames(TagKind::Video), 300);
        assert!((467..=472).contains(&frames(TagKind::Audio)), "{}", frames(TagKind::Audio));
    }

    #[test]
    fn a_cut_file_names_the_tag_and_other_files_are_told_apart() {
        let cut = Bytes::from_static(&DEMO[..DEMO.len() - 100]);
        let last = Clip::demo().tags.len() - 1;
        assert_eq!(Clip::parse(cut).unwrap_err(), ClipError::CutShort { index: last });
        let other = Bytes::from_static(b"RIFF....WAVE");
        assert_eq!(Clip::parse(other).unwrap_err(), ClipError::Header);
        let huge_header = Bytes::from_static(b"FLV\x01\x05\xFF\xFF\xFF\xFF");
        assert_eq!(Clip::parse(huge_header).unwrap_err(), ClipError::Header);
    }
}
