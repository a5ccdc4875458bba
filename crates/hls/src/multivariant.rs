//! The text of the multivariant playlist: a pure function of the announced rungs, their newest init sections, and what
//! their full segments weigh.

use std::fmt::Write as _;

use millrace_types::RungId;

use crate::{InitRecord, RenditionKind, Window, rung::RungWindow, window::bitrate_bps};

/// `GROUP-ID` of the one audio group.
const AUDIO_GROUP: &str = "audio";

impl Window {
    /// The multivariant playlist; `None` until every announced rung has its init section. Of a stream that has ended it names
    /// those that have a segment: no other will ever come.
    ///
    /// Every video rung goes with the audio rung, which is also offered alone, last.
    pub fn multivariant_playlist(&self) -> Option<String> {
        let exists = |rung: &&RungId| {
            !self.is_ended() || self.rung(rung).is_some_and(|rung| rung.listed().next().is_some())
        };
        let rungs = self.announced().rungs.iter().filter(exists);
        let streams: Vec<Stream<'_>> =
            rungs.map(|rung| Stream::of(self.rung(rung)?)).collect::<Option<_>>()?;
        if streams.is_empty() {
            return None;
        }
        let is_audio =
            |stream: &&Stream<'_>| matches!(stream.init.kind, RenditionKind::Audio { .. });
        let audio = streams.iter().find(is_audio);
        let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n".to_owned();
        if let Some(InitRecord { rung, kind: RenditionKind::Audio { channels }, .. }) =
            audio.map(|audio| audio.init)
        {
            let _ = writeln!(
                text,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{rung}\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{rung}/index.m3u8\""
            );
        }
        streams
            .iter()
            .filter(|stream| !is_audio(stream))
            .for_each(|video| write_variant(&mut text, video, audio));
        // One rung of sound is the rule; whatever else a writer calls sound is offered alone, too.
        let alone = streams.iter().filter(is_audio);
        alone.for_each(|audio| write_variant(&mut text, audio, Some(audio)));
        Some(text)
    }
}

/// A rung as a variant stream is made of.
struct Stream<'a> {
    init: &'a InitRecord,
    bandwidth_bps: u64,
    /// None before it has a full segment.
    average_bps: Option<u64>,
}

impl<'a> Stream<'a> {
    fn of(rung: &'a RungWindow) -> Option<Self> {
        let (init, bandwidth_bps) = (rung.current_init()?, rung.bandwidth_bps()?);
        Some(Self { init, bandwidth_bps, average_bps: bitrate_bps(rung) })
    }
}

fn write_variant(text: &mut String, stream: &Stream<'_>, audio: Option<&Stream<'_>>) {
    let init = stream.init;
    let with = audio.filter(|audio| audio.init.rung != init.rung);
    let bandwidth =
        stream.bandwidth_bps.saturating_add(with.map_or(0, |audio| audio.bandwidth_bps));
    let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}");
    let average_of_audio = with.map_or(Some(0), |audio| audio.average_bps);
    if let Some((average, of_audio)) = stream.average_bps.zip(average_of_audio) {
        // Segments too short to tell a peak may be heavier than any peak.
        let average = average.saturating_add(of_audio).min(bandwidth);
        let _ = write!(text, ",AVERAGE-BANDWIDTH={average}");
    }
    let _ = write!(text, ",CODECS=\"{}", init.codecs);
    if let Some(audio) = with {
        let _ = write!(text, ",{}", audio.init.codecs);
    }
    text.push('"');
    if let RenditionKind::Video { width, height, frame_rate, .. } = init.kind {
        let _ = write!(text, ",RESOLUTION={width}x{height},FRAME-RATE={frame_rate}");
    }
    if audio.is_some() {
        let _ = write!(text, ",AUDIO=\"{AUDIO_GROUP}\"");
    }
    let _ = writeln!(text, ",CLOSED-CAPTIONS=NONE\n{}/index.m3u8", init.rung);
}
