//! Frame-stamped clips: pictures that carry their number, a click at each full second, encoded once by `ffmpeg` and kept.
//!
//! The frame clock: frame `n` stands for the moment `n / fps`. Audio starts with the first frame, and each click begins
//! at exactly the sample nearest to a full second of the frame clock. Does not publish: see `publisher`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{cache_dir, stamp};

/// How long a click's tone lasts, in milliseconds.
const CLICK_MS: u32 = 40;
/// Its pitch, in hertz.
const CLICK_HZ: f64 = 1_000.0;
/// Its loudness, of 32,767.
const CLICK_PEAK: f64 = 16_000.0;

/// Frames per second as a fraction, such as 30000/1001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fps {
    /// Frames in [`Self::per_seconds`].
    pub frames: u32,
    /// Seconds in which [`Self::frames`] are shown.
    pub per_seconds: u32,
}

impl Fps {
    /// A whole number of frames per second.
    pub const fn whole(frames: u32) -> Self {
        Self { frames, per_seconds: 1 }
    }

    /// Frames per second as a number.
    pub fn rate(self) -> f64 {
        f64::from(self.frames) / f64::from(self.per_seconds)
    }

    /// The frame clock at frame `number`, in seconds.
    pub fn seconds_at(self, number: u32) -> f64 {
        f64::from(number) / self.rate()
    }
}

/// How the clip's audio is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipAudio {
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2; all channels are alike.
    pub channels: u32,
    /// AAC bitrate in kbit/s.
    pub kbps: u32,
}

/// A fault put into a clip on purpose. Frames are named by their stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flaw {
    /// The frame is left out; those after it move up.
    Removed(u32),
    /// The frame comes twice in a row.
    Repeated(u32),
    /// The frame and the one after it change places.
    Swapped(u32),
    /// The frame's stamp is grey.
    Unreadable(u32),
    /// All clicks come later by so many milliseconds, or earlier if negative.
    AudioLateMs(i32),
}

/// What a clip is made of; equal values give the same cached file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipSpec {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frame rate.
    pub fps: Fps,
    /// Length in seconds of wall clock; the number of frames is rounded down.
    pub seconds: u32,
    /// Frames from keyframe to keyframe without scene cuts; `None` leaves the encoder's default (250, scene cuts allowed).
    pub gop: Option<u32>,
    /// B-frames in a row.
    pub bframes: u32,
    /// Video bitrate in kbit/s.
    pub kbps: u32,
    /// x264's preset.
    pub preset: String,
    /// Audio, or none.
    pub audio: Option<ClipAudio>,
    /// Number on the first frame's stamp.
    pub first_frame: u32,
    /// Faults, for tests of the checker and of the farm's health report.
    pub flaws: Vec<Flaw>,
}

impl Default for ClipSpec {
    /// 640x360 at 30 fps, 10 s, keyframes each 2 s, no B-frames, 600 kbit/s, stereo AAC at 48 kHz.
    fn default() -> Self {
        Self {
            width: 640,
            height: 360,
            fps: Fps::whole(30),
            seconds: 10,
            gop: Some(60),
            bframes: 0,
            kbps: 600,
            preset: "superfast".to_owned(),
            audio: Some(ClipAudio { sample_rate: 48_000, channels: 2, kbps: 96 }),
            first_frame: 0,
            flaws: Vec::new(),
        }
    }
}

impl ClipSpec {
    /// Stamps of the first and the last frame.
    pub fn frames(&self) -> std::ops::RangeInclusive<u32> {
        let count =
            u64::from(self.seconds) * u64::from(self.fps.frames) / u64::from(self.fps.per_seconds);
        self.first_frame..=self.first_frame + u32::try_from(count.max(1) - 1).unwrap_or(u32::MAX)
    }

    /// The encoded clip (MP4, H.264 and AAC): made now, or found in the cache.
    ///
    /// # Errors
    ///
    /// When `ffmpeg` cannot be run or refuses, or the cache cannot be written.
    pub fn file(&self) -> anyhow::Result<PathBuf> {
        let path = cache_dir()?.join(format!("{}.mp4", self.name()));
        let lock = File::create(path.with_extension("lock"))?;
        lock.lock()?;
        if !path.exists() {
            let unfinished = path.with_extension("part.mp4");
            self.encode(&unfinished).with_context(|| format!("clip {}", path.display()))?;
            fs::rename(&unfinished, &path)?;
        }
        Ok(path)
    }

    /// Readable, and followed by a hash of everything that shapes the clip.
    fn name(&self) -> String {
        let all = format!("{self:?} {CLICK_MS} {CLICK_PEAK} version 1");
        let hash = all.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let Self { width, height, seconds, .. } = self;
        format!("{width}x{height}-{:.2}fps-{seconds}s-{hash:016x}", self.fps.rate())
    }

    fn encode(&self, to: &Path) -> anyhow::Result<()> {
        ensure!(*self.frames().end() < stamp::STAMP_LIMIT, "frame numbers do not fit in a stamp");
        let pcm = to.with_extension("pcm");
        if let Some(audio) = self.audio {
            self.write_clicks(audio, &pcm)?;
        }
        let log = to.with_extension("log");
        let mut ffmpeg = self.command(&pcm, to);
        let mut child = ffmpeg
            .stdin(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("ffmpeg does not start")?;
        let stdin = child.stdin.take().expect("invariant: stdin is piped");
        let written = self.write_pictures(stdin);
        let status = child.wait()?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        ensure!(status.success(), "ffmpeg ended with {status}: {said}");
        written.context("pictures to ffmpeg")?;
        for done in [pcm, log] {
            let _ = fs::remove_file(done);
        }
        Ok(())
    }

    fn command(&self, pcm: &Path, to: &Path) -> Command {
        let Self { width, height, fps, kbps, .. } = self;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-s", &format!("{width}x{height}")]);
        ffmpeg.args(["-r", &format!("{}/{}", fps.frames, fps.per_seconds), "-i", "pipe:0"]);
        if let Some(audio) = self.audio {
            ffmpeg.args(["-f", "s16le", "-ar", &audio.sample_rate.to_string()]);
            ffmpeg.args(["-ac", &audio.channels.to_string(), "-i"]).arg(pcm);
            ffmpeg.args(["-c:a", "aac", "-b:a", &format!("{}k", audio.kbps)]);
        }
        ffmpeg.args(["-c:v", "libx264", "-preset", &self.preset, "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-b:v", &format!("{kbps}k"), "-maxrate", &format!("{kbps}k")]);
        ffmpeg.args(["-bufsize", &format!("{}k", kbps * 2), "-bf", &self.bframes.to_string()]);
        if let Some(gop) = self.gop {
            ffmpeg.args(["-g", &gop.to_string(), "-sc_threshold", "0"]);
        }
        ffmpeg.arg(to);
        ffmpeg
    }

    fn write_pictures(&self, mut to: ChildStdin) -> std::io::Result<()> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut picture = vec![0; stamp::picture_bytes(width, height)];
        for number in self.order() {
            if self.flaws.contains(&Flaw::Unreadable(number)) {
                stamp::draw_unreadable(number, width, height, &mut picture);
            } else {
                stamp::draw(number, width, height, &mut picture);
            }
            to.write_all(&picture)?;
        }
        Ok(())
    }

    /// The stamps in the order in which they are shown, flaws included.
    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = self.frames().collect();
        for flaw in &self.flaws {
            let place = |frame: u32| order.iter().position(|number| *number == frame);
            match *flaw {
                Flaw::Removed(frame) => order.retain(|number| *number != frame),
                Flaw::Repeated(frame) => {
                    if let Some(at) = place(frame) {
                        order.insert(at, frame);
                    }
                }
                Flaw::Swapped(frame) => {
                    if let (Some(a), Some(b)) = (place(frame), place(frame + 1)) {
                        order.swap(a, b);
                    }
                }
                Flaw::Unreadable(_) | Flaw::AudioLateMs(_) => {}
            }
        }
        order
    }

    fn write_clicks(&self, audio: ClipAudio, to: &Path) -> anyhow::Result<()> {
        let late_ms: i32 = (self.flaws.iter())
            .map(|flaw| if let Flaw::AudioLateMs(ms) = flaw { *ms } else { 0 })
            .sum();
        let rate = f64::from(audio.sample_rate);
        let start = self.fps.seconds_at(self.first_frame) - f64::from(late_ms) / 1_000.0;
        let mut file = BufWriter::new(File::create(to)?);
        let click_samples = i64::from(CLICK_MS * audio.sample_rate / 1_000);
        for sample in 0..i64::from(self.seconds * audio.sample_rate) {
            // The click that began last, in samples since this clip's start.
            let second = (start + (sample as f64 + 0.5) / rate).floor();
            let since = sample - ((second - start) * rate).round() as i64;
            let value = if (0..click_samples).contains(&since) {
                let phase = since as f64 / rate * CLICK_HZ * std::f64::consts::TAU;
                (phase.sin() * CLICK_PEAK) as i16
            } else {
                0
            };
            for _ in 0..audio.channels {
                file.write_all(&value.to_le_bytes())?;
            }
        }
        Ok(file.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_frames_follows_the_exact_rate() {
        let ntsc = Fps { frames: 30_000, per_seconds: 1_001 };
        let spec = ClipSpec { fps: ntsc, seconds: 60, first_frame: 100, ..ClipSpec::default() };
        assert_eq!(spec.frames(), 100..=1_897);
    }

    #[test]
    fn flaws_change_the_order_and_nothing_else() {
        let spec =
            |flaws| ClipSpec { fps: Fps::whole(5), seconds: 1, flaws, ..ClipSpec::default() };
        assert_eq!(spec(vec![]).order(), [0, 1, 2, 3, 4]);
        assert_eq!(spec(vec![Flaw::Removed(2)]).order(), [0, 1, 3, 4]);
        assert_eq!(spec(vec![Flaw::Repeated(2)]).order(), [0, 1, 2, 2, 3, 4]);
        assert_eq!(spec(vec![Flaw::Swapped(2)]).order(), [0, 1, 3, 2, 4]);
    }

    #[test]
    fn different_clips_have_different_names() {
        let plain = ClipSpec::default();
        let mono = ClipSpec { audio: None, ..ClipSpec::default() };
        assert_ne!(plain.name(), mono.name());
    }
}
