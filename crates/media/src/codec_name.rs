//! What codecs are called: by number in FLV tags (Adobe FLV 10.1, Annex E), by FourCC in Enhanced RTMP v2, and by either, or a name,
//! in `onMetaData`. Knows which are surely not ours.

use crate::FlvError;

/// Foreign values of `VideoTagHeader.CodecID`. 12 is in no table of Adobe's, but widely used.
pub(crate) const VIDEO_CODECS: [(u8, &str); 6] =
    [(2, "h.263"), (3, "screen"), (4, "vp6"), (5, "vp6"), (6, "screen"), (12, "hevc")];
/// Foreign values of `AudioTagHeader.SoundFormat`. 0, 1 and 3, uncompressed, are left out: metadata says 0 also for no sound.
pub(crate) const SOUND_FORMATS: [(u8, &str); 8] = [
    (2, "mp3"),
    (4, "nellymoser"),
    (5, "nellymoser"),
    (6, "nellymoser"),
    (7, "g.711"),
    (8, "g.711"),
    (11, "speex"),
    (14, "mp3"),
];

/// What `onMetaData` calls a codec.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CodecName<'a> {
    /// A number of FLV's tables, or a FourCC as a number (Enhanced RTMP).
    Number(f64),
    /// A FourCC, or a name.
    Text(&'a str),
}

/// The error of a publisher whose metadata names a `videocodecid` that is surely not H.264. Encoders write many things
/// there: what is not known to be another codec says nothing.
pub fn announced_video(name: CodecName<'_>) -> Option<FlvError> {
    foreign(name, &VIDEO_CODECS, &["hvc1", "hev1", "vp08", "vp09", "av01", "vvc1"])
        .map(FlvError::VideoCodec)
}

/// The same of an `audiocodecid` that is surely not AAC.
pub fn announced_audio(name: CodecName<'_>) -> Option<FlvError> {
    foreign(name, &SOUND_FORMATS, &[".mp3", "Opus", "fLaC", "ac-3", "ec-3"])
        .map(FlvError::AudioCodec)
}

fn foreign(name: CodecName<'_>, numbers: &[(u8, &str)], fourccs: &[&str]) -> Option<String> {
    let known = |text: &str| fourccs.iter().find(|known| known.eq_ignore_ascii_case(text));
    match name {
        CodecName::Text(text) => known(text).map(|&text| text.to_owned()),
        CodecName::Number(number) => {
            let listed = numbers.iter().find(|(id, _)| f64::from(*id) == number);
            listed.map(|(id, _)| named(*id, numbers)).or_else(|| {
                // Anything but a whole number of 32 bits becomes one that no FourCC has.
                let fourcc = (number as u32).to_be_bytes();
                known(std::str::from_utf8(&fourcc).ok()?).map(|&text| text.to_owned())
            })
        }
    }
}

/// As people know it: `2 (mp3)`.
pub(crate) fn named(id: u8, table: &[(u8, &str)]) -> String {
    match table.iter().find(|(known, _)| *known == id) {
        Some((_, name)) => format!("{id} ({name})"),
        None => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::RefusalReason;

    use super::*;

    #[test]
    fn metadata_that_names_another_codec_is_believed_and_what_may_be_ours_is_not_refused() {
        use CodecName::{Number, Text};
        let fourcc = |text: &[u8; 4]| Number(u32::from_be_bytes(*text).into());
        let names = [Number(2.0), Number(11.0), fourcc(b"Opus"), Text(".mp3"), Text("opus")];
        let said = names.map(|name| announced_audio(name).unwrap().to_string());
        assert_eq!(said[0], "audio codec 2 (mp3) is not aac");
        assert_eq!(said[2], said[4]);
        let ours = [Number(10.0), fourcc(b"mp4a"), Text("mp4a"), Text("AAC"), Number(0.0)];
        let strange = [Number(f64::NAN), Number(-2.0), Number(2.5), Number(1e300), Text("")];
        assert_eq!([ours, strange].concat().into_iter().find_map(announced_audio), None);
        let hevc = announced_video(fourcc(b"hvc1")).unwrap();
        assert_eq!(hevc, FlvError::VideoCodec("hvc1".into()));
        assert_eq!(announced_video(Number(12.0)).unwrap().refusal(), RefusalReason::VideoCodec);
        assert_eq!(
            [Number(7.0), fourcc(b"avc1"), Text("H264")].into_iter().find_map(announced_video),
            None
        );
    }
}
