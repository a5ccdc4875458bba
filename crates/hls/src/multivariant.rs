//! The text of the multivariant playlist: a pure function of the announced rungs and their newest init sections.

use std::fmt::Write as _;

use crate::{InitRecord, RenditionKind, Window};

/// `GROUP-ID` of the one audio group.
const AUDIO_GROUP: &str = "audio";

impl Window {
    /// The multivariant playlist; `None` until every announced rung has its init section.
    ///
    /// Every video rung goes with the audio rung, which is also offered alone, last.
    pub fn multivariant_playlist(&self) -> Option<String> {
        let rungs = &self.announced().rungs;
        let inits: Vec<&InitRecord> =
            rungs.iter().map(|rung| self.rung(rung)?.current_init()).collect::<Option<_>>()?;
        if inits.is_empty() {
            return None;
        }
        let is_audio = |init: &&&InitRecord| matches!(init.kind, RenditionKind::Audio { .. });
        let audio = inits.iter().find(is_audio).copied();
        let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n".to_owned();
        if let Some(InitRecord { rung, kind: RenditionKind::Audio { channels }, .. }) = audio {
            let _ = writeln!(
                text,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{rung}\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{rung}/index.m3u8\""
            );
        }
        inits
            .iter()
            .filter(|init| !is_audio(init))
            .for_each(|video| write_variant(&mut text, video, audio));
        if let Some(audio) = audio {
            write_variant(&mut text, audio, Some(audio));
        }
        Some(text)
    }
}

fn write_variant(text: &mut String, init: &InitRecord, audio: Option<&InitRecord>) {
    let with = audio.filter(|audio| audio.rung != init.rung);
    let bandwidth = init.bandwidth_bps + with.map_or(0, |audio| audio.bandwidth_bps);
    let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{}", init.codecs);
    if let Some(audio) = with {
        let _ = write!(text, ",{}", audio.codecs);
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
