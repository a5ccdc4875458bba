//! Judges a recording: decodes every rendition with `ffmpeg` and compares stamps, clicks, parts and numbers with what
//! was published. Downloads nothing.
//!
//! ```text
//! recording → runs (one init section, no discontinuity inside) → ffmpeg → pictures, sound → findings → report
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    ops::Range,
};

use anyhow::Context as _;
use millrace_types::Msn;

use crate::{
    Chunk, Recording, RenditionRecording, Scratch,
    decode::{self, Picture, Sound},
    fragment::{self, Track},
    frames::{Expected, count, timing_ms},
    report::{AudioFindings, AvOffset, RenditionFindings, Report},
    share::Share,
};

/// Times of the same moment in two renditions differ by rounding only.
const SAME_MOMENT_S: f64 = 0.001;
/// Rounding of declared durations, per part.
const ROUNDING_S: f64 = 0.001;
/// A click may lie so far behind the last picture before it and still be compared.
const CLICK_NEAR_S: f64 = 0.5;

/// What a rendition's media held.
struct Content {
    has_video: bool,
    has_audio: bool,
    /// Per run.
    pictures: Vec<Vec<Picture>>,
    /// Per run.
    sounds: Vec<Sound>,
    errors: Vec<String>,
    /// Presentation time at which each video segment starts.
    starts_s: BTreeMap<Msn, f64>,
    /// Parts whose samples differ from what was declared, in words.
    misdeclared: Vec<String>,
}

/// Checks all renditions of `recording`. Blocks while ffmpeg decodes.
///
/// # Errors
///
/// When ffmpeg or the scratch folder is not to be had, or an init section cannot be read; faults of the stream are in the report.
pub fn check(recording: &Recording, expected: &Expected) -> anyhow::Result<Report> {
    judge(recording, expected, Share::Ordinary)
}

/// The same, with the time of processors that nobody else wants: for a recording that is judged while others are made.
///
/// # Errors
///
/// As [`check`].
pub fn check_aside(recording: &Recording, expected: &Expected) -> anyhow::Result<Report> {
    judge(recording, expected, Share::LeftOver)
}

fn judge(recording: &Recording, expected: &Expected, share: Share) -> anyhow::Result<Report> {
    let mut contents = Vec::new();
    for rendition in &recording.renditions {
        let content = content(rendition, share);
        contents.push(content.with_context(|| format!("rendition {}", rendition.name))?);
    }
    let mut report = Report::default();
    for (rendition, content) in recording.renditions.iter().zip(&contents) {
        let mut found = bookkeeping(rendition, expected);
        found.decode_errors = content.errors.clone();
        found.bad_parts.extend(content.misdeclared.iter().cloned());
        if content.has_video {
            found.video = Some(judge_video(rendition, content, expected));
        }
        if content.has_audio {
            found.audio = Some(judge_audio(content, expected));
        }
        report.renditions.push(found);
    }
    compare_sound(recording, &contents, expected, &mut report);
    report.unequal_starts = compare_starts(recording, &contents);
    Ok(report)
}

/// Decodes a rendition, run by run.
fn content(rendition: &RenditionRecording, share: Share) -> anyhow::Result<Content> {
    let mut content = Content {
        has_video: false,
        has_audio: false,
        pictures: Vec::new(),
        sounds: Vec::new(),
        errors: Vec::new(),
        starts_s: BTreeMap::new(),
        misdeclared: Vec::new(),
    };
    let scratch = Scratch::new("check")?;
    for (number, run) in runs(&rendition.chunks).into_iter().enumerate() {
        let chunks = &rendition.chunks[run];
        let init = chunks.first().and_then(|chunk| chunk.init);
        let init = init.and_then(|init| rendition.inits.get(init)?.bytes.clone());
        let Some(init) = init else {
            content.errors.push(format!("segment {} has no init section", chunks[0].msn));
            continue;
        };
        let tracks = fragment::tracks(&init).context("init section")?;
        let path = scratch.path().join(format!("run-{number}.mp4"));
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&init)?;
        for bytes in chunks.iter().filter_map(|chunk| chunk.bytes.as_ref()) {
            file.write_all(bytes)?;
        }
        read_samples(chunks, &tracks, &mut content);
        if tracks.iter().any(|track| track.is_video) {
            content.has_video = true;
            let decoded = decode::pictures(&path, share)?;
            content.pictures.push(decoded.track);
            content.errors.extend(decoded.errors);
        }
        if tracks.iter().any(|track| !track.is_video) {
            content.has_audio = true;
            let decoded = decode::sound(&path, share)?;
            content.sounds.push(decoded.track);
            content.errors.extend(decoded.errors);
        }
        std::fs::remove_file(&path)?;
    }
    Ok(content)
}

/// Chunks that can be decoded in one go: they share an init section, and no discontinuity lies between them. What cannot
/// be decoded because a keyframe lies before the recording's first part is left out.
fn runs(chunks: &[Chunk]) -> Vec<Range<usize>> {
    let begin = chunks.iter().position(|chunk| chunk.independent).unwrap_or(0);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in begin..chunks.len() {
        let chunk = &chunks[at];
        let new = at == begin
            || chunk.init != chunks[at - 1].init
            || (chunk.discontinuity && chunk.msn != chunks[at - 1].msn);
        match runs.last_mut() {
            Some(run) if !new => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Where segments start, and whether parts last as long as the playlist says.
fn read_samples(chunks: &[Chunk], tracks: &[Track], content: &mut Content) {
    let track = tracks.iter().find(|track| track.is_video).or(tracks.first());
    let Some(track) = track else { return };
    for chunk in chunks {
        let Some(bytes) = &chunk.bytes else { continue };
        let span = match fragment::span(bytes, *track) {
            Ok(Some(span)) => span,
            Ok(None) => {
                content.misdeclared.push(format!("{} holds no sample", name(chunk)));
                continue;
            }
            Err(error) => {
                content.errors.push(format!("{}: {error:#}", name(chunk)));
                continue;
            }
        };
        if track.is_video && chunk.part.is_none_or(|part| part.0 == 0) {
            content.starts_s.insert(chunk.msn, span.start_s);
        }
        let one_sample_s = span.duration_s / span.samples as f64;
        if (span.duration_s - chunk.declared_s).abs() > one_sample_s / 2.0 + ROUNDING_S {
            let (real, declared) = (span.duration_s, chunk.declared_s);
            content.misdeclared.push(format!(
                "{} is declared as {declared:.4} s and has {real:.4} s",
                name(chunk)
            ));
        }
    }
}

fn name(chunk: &Chunk) -> String {
    chunk.part.map_or_else(
        || format!("segment {}", chunk.msn),
        |part| format!("part {}.{part}", chunk.msn),
    )
}

/// Numbers, arrivals and declared durations.
fn bookkeeping(rendition: &RenditionRecording, expected: &Expected) -> RenditionFindings {
    let chunks = &rendition.chunks;
    let mut found = RenditionFindings {
        name: rendition.name.clone(),
        segments: chunks.iter().map(|chunk| chunk.msn).collect::<BTreeSet<_>>().len(),
        parts: chunks.len(),
        violations: rendition.violations.clone(),
        longest_arrival_gap_ms: rendition.longest_gap().as_millis() as u64,
        ..Default::default()
    };
    for pair in chunks.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if after.msn == before.msn {
            continue;
        }
        if after.msn != before.msn.next() {
            found.msn_holes.push(format!("{} follows {}", after.msn, before.msn));
        }
    }
    for pair in chunks.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let inside = before.part.zip(after.part).filter(|_| before.msn == after.msn);
        let follows = match inside {
            Some((a, b)) => b.0 == a.0 + 1 && !before.ends_segment,
            None => before.ends_segment && after.part.is_none_or(|part| part.0 == 0),
        };
        if !follows {
            found.missing_parts.push(format!("{} follows {}", name(after), name(before)));
        }
    }
    for chunk in chunks {
        if chunk.gap {
            found.missing_parts.push(format!("{} is a gap", name(chunk)));
        } else if chunk.bytes.is_none() {
            found.missing_parts.push(format!("{} never came", name(chunk)));
        }
    }
    if let Some(target_s) = rendition.part_target_s {
        found.bad_parts = outside_target(chunks, target_s, expected.min_part_share);
    }
    found
}

/// Parts longer than the target, or shorter than their share of it though they do not end a segment.
fn outside_target(chunks: &[Chunk], target_s: f64, min_share: f64) -> Vec<String> {
    let parts = chunks.iter().filter(|chunk| chunk.part.is_some() && !chunk.gap);
    parts
        .filter(|chunk| {
            let too_long = chunk.declared_s > target_s + ROUNDING_S;
            let too_short = chunk.declared_s < target_s * min_share - ROUNDING_S;
            too_long || (too_short && !chunk.ends_segment)
        })
        .map(|chunk| {
            let share = chunk.declared_s / target_s * 100.0;
            format!("{} has {share:.1} % of the target of {target_s} s", name(chunk))
        })
        .collect()
}

fn judge_video(
    rendition: &RenditionRecording,
    content: &Content,
    expected: &Expected,
) -> crate::VideoFindings {
    let step = expected.step(&rendition.name, rendition.frame_rate);
    let starts: BTreeSet<u32> =
        starts(content).into_values().filter_map(|start| start.stamp).collect();
    let pictures: Vec<Picture> = content.pictures.concat();
    let mut found = count(&pictures, step, &starts, expected);
    let timings = content.pictures.iter().map(|run| timing_ms(run, expected.fps));
    found.worst_timing_ms = timings.fold(0.0, f64::max);
    found.allowed_timing_ms = expected.max_timing_ms.unwrap_or(1_000.0 / expected.fps.rate());
    found
}

fn judge_audio(content: &Content, expected: &Expected) -> AudioFindings {
    let too_large =
        |hole: &&decode::Hole| hole.seconds.abs() * 1_000.0 > expected.max_sound_hole_ms;
    let in_words = |hole: &decode::Hole| {
        let what = if hole.seconds > 0.0 { "hole" } else { "overlap" };
        format!("{what} of {:.1} ms at {:.3} s", hole.seconds.abs() * 1_000.0, hole.at_s)
    };
    let holes = content.sounds.iter().flat_map(|sound| &sound.holes);
    AudioFindings {
        seconds: content.sounds.iter().map(|sound| sound.end_s - sound.start_s).sum(),
        clicks: content.sounds.iter().map(|sound| sound.clicks_s.len()).sum(),
        holes: holes.filter(too_large).map(in_words).collect(),
    }
}

/// Every video rendition against every sound: its own, or all others' where it has none.
fn compare_sound(
    recording: &Recording,
    contents: &[Content],
    expected: &Expected,
    report: &mut Report,
) {
    if !expected.clicks {
        return;
    }
    for (at, findings) in report.renditions.iter_mut().enumerate() {
        let Some(video) = &mut findings.video else { continue };
        let mut pictures: Vec<Picture> = contents[at].pictures.concat();
        pictures.retain(|picture| picture.stamp.is_some());
        pictures.sort_by(|a, b| a.pts_s.total_cmp(&b.pts_s));
        for (other, content) in contents.iter().enumerate() {
            let own = contents[at].has_audio;
            if content.has_audio && (own == (other == at)) {
                let mut av = av_offset(&pictures, content, expected);
                av.audio = recording.renditions[other].name.clone();
                video.av.push(av);
            }
        }
        if video.av.is_empty() {
            let audio = "no rendition".to_owned();
            video.av.push(AvOffset { audio, expected_clicks: 1, ..Default::default() });
        }
    }
}

/// Each click lies at a full second of the frame clock; how far is it from there by the pictures' clock?
fn av_offset(pictures: &[Picture], content: &Content, expected: &Expected) -> AvOffset {
    let mut av = AvOffset { allowed_ms: expected.max_av_offset_ms, ..Default::default() };
    for click in content.sounds.iter().flat_map(|sound| &sound.clicks_s) {
        let after = pictures.partition_point(|picture| picture.pts_s <= *click);
        let Some(picture) = after.checked_sub(1).map(|before| pictures[before]) else { continue };
        let Some(stamp) = picture.stamp.filter(|_| click - picture.pts_s < CLICK_NEAR_S) else {
            continue;
        };
        let late_s = expected.sound_late_ms / 1_000.0;
        let clock_s = expected.fps.seconds_at(stamp) + (click - picture.pts_s) - late_s;
        let offset_ms = (clock_s - clock_s.round()) * 1_000.0;
        av.clicks += 1;
        if offset_ms.abs() > av.worst_ms.abs() {
            av.worst_ms = offset_ms;
        }
    }
    // Where both last; a click at either end may be cut.
    let ends = |sound: &Sound| {
        let first = pictures.first().map_or(f64::INFINITY, |picture| picture.pts_s);
        let last = pictures.last().map_or(f64::NEG_INFINITY, |picture| picture.pts_s);
        (sound.end_s.min(last) - sound.start_s.max(first)).max(0.0)
    };
    let common = content.sounds.iter().map(ends);
    av.expected_clicks = common.map(|seconds| (seconds as usize).saturating_sub(1)).sum();
    av
}

/// The picture each segment starts with.
fn starts(content: &Content) -> BTreeMap<Msn, Picture> {
    let pictures = || content.pictures.iter().flatten();
    let at = |start_s: f64| {
        pictures().find(|picture| (picture.pts_s - start_s).abs() < SAME_MOMENT_S).copied()
    };
    content.starts_s.iter().filter_map(|(msn, start)| Some((*msn, at(*start)?))).collect()
}

/// All video renditions start each segment with the same picture at the same time.
fn compare_starts(recording: &Recording, contents: &[Content]) -> Vec<String> {
    let mut first: BTreeMap<Msn, (&str, Picture)> = BTreeMap::new();
    let mut unequal = Vec::new();
    for (rendition, content) in recording.renditions.iter().zip(contents) {
        for (msn, start) in starts(content) {
            let (name, before) = first.entry(msn).or_insert((&rendition.name, start));
            if before.stamp != start.stamp || (before.pts_s - start.pts_s).abs() > SAME_MOMENT_S {
                unequal.push(format!(
                    "segment {msn} starts with frame {:?} at {:.4} s on {name}, with {:?} at {:.4} s on {}",
                    before.stamp, before.pts_s, start.stamp, start.pts_s, rendition.name
                ));
            }
        }
    }
    unequal
}
