//! What `onMetaData` says that helps: whether there is sound, whether there are pictures, how many a second, and that they are in
//! a codec we do not take.

use bytes::Bytes;
use millrace_media::{CodecName, FlvError, announced_audio, announced_video};

use super::amf0::{self, Value};

/// A track of a gigabit per second is none.
const MAX_KBPS: f64 = 1e6;

/// The useful part of a publisher's metadata. Never trusted for more than a first guess.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamMetadata {
    /// `framerate`, frames per second.
    pub frame_rate: Option<f64>,
    /// `videodatarate`, kilobits per second.
    pub video_kbps: Option<u32>,
    /// `audiodatarate`, kilobits per second.
    pub audio_kbps: Option<u32>,
    /// Whether an audio codec is named; `None` when neither codec is.
    pub has_audio: Option<bool>,
    /// Whether a video codec is named; `None` when neither codec is.
    pub has_video: Option<bool>,
    /// A codec is named that is not H.264 or AAC: no frame need be waited for to refuse the publisher.
    pub foreign: Option<FlvError>,
}

impl StreamMetadata {
    /// Reads the body of a metadata message, `None` if it is something else or cannot be read.
    pub fn parse(body: &Bytes) -> Option<Self> {
        let values = amf0::decode(body).ok()?;
        let mut values = values.iter().skip_while(|value| value.as_text() == Some("@setDataFrame"));
        if values.next()?.as_text() != Some("onMetaData") {
            return None;
        }
        let object = values.next()?;
        let named = |name| object.get(name).is_some_and(|value| *value != Value::Null);
        let (audio, video) = (named("audiocodecid"), named("videocodecid"));
        let known = audio || video;
        let number = |name| object.get(name).and_then(Value::as_number);
        Some(Self {
            frame_rate: number("framerate").filter(|&fps| fps > 0.0),
            video_kbps: number("videodatarate").and_then(believed),
            audio_kbps: number("audiodatarate").and_then(believed),
            has_audio: known.then_some(audio),
            has_video: known.then_some(video),
            foreign: object
                .get("videocodecid")
                .and_then(codec)
                .and_then(announced_video)
                .or_else(|| announced_audio(object.get("audiocodecid").and_then(codec)?)),
        })
    }
}

fn codec(value: &Value) -> Option<CodecName<'_>> {
    let number = value.as_number().map(CodecName::Number);
    number.or_else(|| value.as_text().map(CodecName::Text))
}

/// What is no number, or out of all proportion, says nothing.
fn believed(kbps: f64) -> Option<u32> {
    (1.0..MAX_KBPS).contains(&kbps).then_some(kbps as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(properties: &[(&str, Value)]) -> Bytes {
        let object = properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut out = Vec::new();
        for value in [
            Value::text("@setDataFrame"),
            Value::text("onMetaData"),
            Value::Object(object.collect()),
        ] {
            value.encode(&mut out);
        }
        out.into()
    }

    #[test]
    fn a_named_codec_means_a_track_and_silence_means_nothing() {
        let video = [
            ("videocodecid", Value::Number(7.0)),
            ("framerate", Value::Number(30.0)),
            ("videodatarate", Value::Number(900.5)),
            ("audiodatarate", Value::Number(1e7)),
        ];
        let metadata = StreamMetadata::parse(&body(&video)).unwrap();
        assert_eq!((metadata.has_video, metadata.has_audio), (Some(true), Some(false)));
        assert_eq!((metadata.frame_rate, metadata.video_kbps), (Some(30.0), Some(900)));
        assert_eq!((metadata.audio_kbps, metadata.foreign), (None, None));
        let mp3 = [("videocodecid", Value::text("avc1")), ("audiocodecid", Value::Number(2.0))];
        let foreign = StreamMetadata::parse(&body(&mp3)).unwrap().foreign.unwrap();
        assert_eq!(foreign.to_string(), "audio codec 2 (mp3) is not aac");
        let nonsense = [("videodatarate", Value::Number(f64::NAN))];
        assert_eq!(StreamMetadata::parse(&body(&nonsense)).unwrap().video_kbps, None);
        assert_eq!(StreamMetadata::parse(&body(&[])), Some(StreamMetadata::default()));
        assert_eq!(StreamMetadata::parse(&Bytes::from_static(b"\x02\0\x01x")), None);
    }
}
