//! Decodes a file with the real `ffmpeg`: the stamp and time of every picture, the clicks and holes of its sound, and what
//! ffmpeg complained about. Judges nothing.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, ensure};

use crate::{Scratch, share::Share, stamp};

/// Pictures are scaled down to this before their stamp is read: cheap, and large enough for every cell.
const WIDTH: usize = 320;
const HEIGHT: usize = 180;
/// A click follows at least this much quiet, in seconds.
const QUIET_S: f64 = 0.3;
/// A click begins where the sound passes this share of the loudest sample.
const ONSET: f64 = 0.3;
/// Softer than this (of 32,767) there is no click at all.
const SILENT: i16 = 1_000;

/// A decoded picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Picture {
    /// Presentation time in seconds.
    pub(crate) pts_s: f64,
    /// Its number, `None` when it cannot be read.
    pub(crate) stamp: Option<u32>,
}

/// A hole (positive) or an overlap (negative) in the sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hole {
    pub(crate) at_s: f64,
    pub(crate) seconds: f64,
}

/// A decoded sound track.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sound {
    /// Where clicks begin, in seconds of presentation time.
    pub(crate) clicks_s: Vec<f64>,
    /// Where a block does not begin at the end of the one before.
    pub(crate) holes: Vec<Hole>,
    /// Presentation time of the first sample.
    pub(crate) start_s: f64,
    /// Presentation time after the last sample.
    pub(crate) end_s: f64,
}

/// What ffmpeg made of a track, and what it wrote to standard error.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    pub(crate) track: T,
    pub(crate) errors: Vec<String>,
}

/// All pictures of `media` in the order in which a player would show them.
pub(crate) fn pictures(media: &Path, share: Share) -> anyhow::Result<Decoded<Vec<Picture>>> {
    let scale = format!("scale={WIDTH}:{HEIGHT}:flags=neighbor,format=gray");
    let options =
        ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "-1", "-vf", &scale];
    let mut stamps = Vec::new();
    let (times, errors) = decode(media, &options, "rawvideo", share, |mut raw| {
        let mut picture = vec![0; WIDTH * HEIGHT];
        while read_whole(&mut raw, &mut picture)? {
            stamps.push(stamp::read(&picture, WIDTH, HEIGHT, WIDTH));
        }
        Ok(())
    })?;
    ensure!(
        times.blocks.len() == stamps.len(),
        "{} times, {} pictures",
        times.blocks.len(),
        stamps.len()
    );
    let pts = times.blocks.iter().map(|(pts, _)| *pts as f64 * times.tick_s);
    let track = pts.zip(stamps).map(|(pts_s, stamp)| Picture { pts_s, stamp }).collect();
    Ok(Decoded { track, errors })
}

/// The sound of `media`, all channels mixed.
pub(crate) fn sound(media: &Path, share: Share) -> anyhow::Result<Decoded<Sound>> {
    let mut samples = Vec::new();
    let (times, errors) =
        decode(media, &["-map", "0:a:0", "-ac", "1"], "s16le", share, |mut raw| {
            let mut bytes = Vec::new();
            raw.read_to_end(&mut bytes)?;
            samples =
                bytes.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
            Ok(())
        })?;
    Ok(Decoded { track: listen(&samples, &times), errors })
}

/// Times of ffmpeg's output blocks: pictures, or runs of samples.
struct Times {
    tick_s: f64,
    /// Presentation time and duration, in ticks.
    blocks: Vec<(i64, i64)>,
}

/// Runs ffmpeg over `media`: raw output goes to `take`, its times come back with its complaints.
fn decode(
    media: &Path,
    options: &[&str],
    format: &str,
    share: Share,
    take: impl FnOnce(BufReader<std::process::ChildStdout>) -> anyhow::Result<()>,
) -> anyhow::Result<(Times, Vec<String>)> {
    let scratch = Scratch::new("decode")?;
    let (times, log) = (scratch.path().join("times"), scratch.path().join("log"));
    let mut ffmpeg = share.command("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-copyts", "-i"]).arg(media);
    ffmpeg.args(options).args(["-f", format, "pipe:1"]);
    ffmpeg.args(options).args(["-f", "framecrc"]).arg(&times);
    ffmpeg.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
    let mut child = ffmpeg.spawn().context("ffmpeg does not start")?;
    let raw = child.stdout.take().expect("invariant: stdout is piped");
    let taken = take(BufReader::with_capacity(1 << 20, raw));
    let status = child.wait()?;
    taken?;
    let mut errors: Vec<String> = fs::read_to_string(&log)?.lines().map(str::to_owned).collect();
    if !status.success() {
        errors.push(format!("ffmpeg ended with {status}"));
    }
    let times = parse_times(&fs::read_to_string(&times).unwrap_or_default())?;
    Ok((times, errors))
}

/// ffmpeg's framecrc: `#tb 0: 1/90000`, then lines of `stream, dts, pts, duration, size, crc`.
fn parse_times(text: &str) -> anyhow::Result<Times> {
    let mut times = Times { tick_s: 0.0, blocks: Vec::new() };
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb 0:") {
            let (numerator, denominator) = base.trim().split_once('/').context("time base")?;
            times.tick_s = numerator.parse::<f64>()? / denominator.parse::<f64>()?;
        } else if !line.starts_with('#') {
            let mut fields = line.split(',').skip(2).map(|field| field.trim().parse::<i64>());
            let pts = fields.next().with_context(|| line.to_owned())??;
            let duration = fields.next().with_context(|| line.to_owned())??;
            times.blocks.push((pts, duration));
        }
    }
    Ok(times)
}

/// Sample blocks are as long as their duration says: ffmpeg writes raw audio in ticks of one sample.
fn listen(samples: &[i16], times: &Times) -> Sound {
    let mut sound = Sound::default();
    let Some((first, _)) = times.blocks.first() else { return sound };
    let seconds = |ticks: i64| ticks as f64 * times.tick_s;
    sound.start_s = seconds(*first);
    let peak = samples.iter().map(|sample| sample.saturating_abs()).max().unwrap_or(0);
    let threshold = if peak < SILENT { i16::MAX } else { (f64::from(peak) * ONSET) as i16 };
    let quiet_samples = (QUIET_S / times.tick_s) as usize;
    let (mut taken, mut quiet, mut end) = (0, quiet_samples, *first);
    for (pts, duration) in &times.blocks {
        if *pts != end {
            sound.holes.push(Hole { at_s: seconds(end), seconds: seconds(pts - end) });
        }
        let block = samples.get(taken..).unwrap_or_default();
        for (at, sample) in (0_i64..*duration).zip(block) {
            if sample.saturating_abs() < threshold {
                quiet += 1;
            } else {
                if quiet >= quiet_samples {
                    sound.clicks_s.push(seconds(pts + at));
                }
                quiet = 0;
            }
        }
        taken += usize::try_from(*duration).unwrap_or(0);
        end = pts + duration;
    }
    sound.end_s = seconds(end);
    sound
}

/// Fills `buffer`, or says that the stream ended before its first byte.
fn read_whole(from: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => anyhow::bail!("ffmpeg ended inside a picture"),
            more => filled += more,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClipSpec, Fps};

    #[test]
    fn every_stamp_of_a_starved_encode_is_read_after_scaling() {
        let spec = ClipSpec {
            fps: Fps { frames: 30_000, per_seconds: 1_001 },
            seconds: 4,
            kbps: 150,
            width: 426,
            height: 240,
            bframes: 2,
            first_frame: 90_000,
            ..Default::default()
        };
        let decoded = pictures(&spec.file().expect("clip"), Share::LeftOver).expect("decoded");
        assert_eq!(decoded.errors, Vec::<String>::new());
        let stamps: Vec<_> = decoded.track.iter().filter_map(|picture| picture.stamp).collect();
        assert_eq!(stamps, spec.frames().collect::<Vec<_>>());
        let at = decoded.track[30].pts_s - decoded.track[0].pts_s;
        assert!((at - 1.001).abs() < 0.001, "30 frames take {at} s");
    }

    #[test]
    fn clicks_lie_at_full_seconds_of_the_frame_clock() {
        let spec = ClipSpec { seconds: 4, first_frame: 15, ..Default::default() };
        let sound = sound(&spec.file().expect("clip"), Share::Ordinary).expect("decoded");
        assert_eq!(sound.errors, Vec::<String>::new());
        assert_eq!(sound.track.clicks_s.len(), 4, "{:?}", sound.track.clicks_s);
        for (click, second) in sound.track.clicks_s.iter().zip(1..) {
            let expected = f64::from(second) - 0.5;
            assert!((click - expected).abs() < 0.003, "click at {click}, expected {expected}");
        }
    }
}
