//! Reads from CMAF boxes what the checker needs: which tracks an init section has, and which time a part really covers.
//!
//! Edit lists are not applied: our tracks have none.

use std::io::Cursor;

use anyhow::{Context as _, ensure};
use mp4_atom::{Any, Decode as _, FourCC, Moof, Moov};

/// A track of an init section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) id: u32,
    pub(crate) is_video: bool,
    /// Ticks per second.
    pub(crate) timescale: u32,
    default_duration: u32,
}

/// The samples of one track in a part or segment, in seconds of the media clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    /// Earliest presentation time.
    pub(crate) start_s: f64,
    /// Sum of the samples' durations.
    pub(crate) duration_s: f64,
    /// How many samples.
    pub(crate) samples: usize,
}

/// The video and audio tracks of an init section.
pub(crate) fn tracks(init: &[u8]) -> anyhow::Result<Vec<Track>> {
    let moov = boxes(init)?.into_iter().find_map(|atom| match atom {
        Any::Moov(moov) => Some(moov),
        _ => None,
    });
    let moov: Moov = moov.context("init section without moov")?;
    let default_duration = |id: u32| {
        let trex = moov.mvex.iter().flat_map(|mvex| &mvex.trex).find(|trex| trex.track_id == id);
        trex.map_or(0, |trex| trex.default_sample_duration)
    };
    let known = moov.trak.iter().filter_map(|trak| {
        let is_video = trak.mdia.hdlr.handler == FourCC::new(b"vide");
        let is_audio = trak.mdia.hdlr.handler == FourCC::new(b"soun");
        let id = trak.tkhd.track_id;
        let timescale = trak.mdia.mdhd.timescale;
        let default_duration = default_duration(id);
        (is_video || is_audio).then_some(Track { id, is_video, timescale, default_duration })
    });
    Ok(known.collect())
}

/// What `chunk` holds of `track`, `None` if nothing.
pub(crate) fn span(chunk: &[u8], track: Track) -> anyhow::Result<Option<Span>> {
    let mut found: Option<Span> = None;
    for atom in boxes(chunk)? {
        if let Any::Moof(moof) = atom {
            for span in moof_spans(&moof, track)? {
                found = Some(found.map_or(span, |before| Span {
                    start_s: before.start_s.min(span.start_s),
                    duration_s: before.duration_s + span.duration_s,
                    samples: before.samples + span.samples,
                }));
            }
        }
    }
    Ok(found)
}

fn moof_spans(moof: &Moof, track: Track) -> anyhow::Result<Vec<Span>> {
    let mut spans = Vec::new();
    for traf in moof.traf.iter().filter(|traf| traf.tfhd.track_id == track.id) {
        let tfdt = traf.tfdt.as_ref().context("fragment without tfdt")?;
        let default = traf.tfhd.default_sample_duration.unwrap_or(track.default_duration);
        let begin = i64::try_from(tfdt.base_media_decode_time)?;
        let mut dts = begin;
        let mut earliest: Option<i64> = None;
        let mut samples = 0;
        for sample in traf.trun.iter().flat_map(|trun| trun.samples.iter()) {
            let pts = dts + sample.cts.unwrap_or(0);
            earliest = Some(earliest.map_or(pts, |before| before.min(pts)));
            dts += i64::from(sample.duration.unwrap_or(default));
            samples += 1;
        }
        let seconds = |ticks: i64| ticks as f64 / f64::from(track.timescale);
        if let Some(earliest) = earliest {
            let duration_s = seconds(dts - begin);
            spans.push(Span { start_s: seconds(earliest), duration_s, samples });
        }
    }
    Ok(spans)
}

fn boxes(bytes: &[u8]) -> anyhow::Result<Vec<Any>> {
    let mut cursor = Cursor::new(bytes);
    let mut found = Vec::new();
    while (cursor.position() as usize) < bytes.len() {
        let at = cursor.position();
        found.push(Any::decode(&mut cursor).with_context(|| format!("box at byte {at}"))?);
        ensure!(cursor.position() > at, "empty box at byte {at}");
    }
    Ok(found)
}
