//! A source that is hard to encode: fractal zoom, game of life, temporal noise over a moving test picture, a turning
//! one; 1080p30 with B-frames and sound, as a good streamer's encoder sends it. Made once and kept in the build folder.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millrace_media::{Input, Item, SourceHints, SourceLimits, Timeline, TimelineStart};
use millrace_publisher::{Clip, TagKind};
use millrace_testkit::cache_dir;
use millrace_types::{Mono, Wall};

/// Frames per second.
pub const FPS: u32 = 30;
/// When the source is published: 2026-11-21.
const UTC: Wall = Wall(1_795_222_923_000_000);

/// The source, as a file and as what it says.
#[derive(Clone, Debug)]
pub struct HardSource {
    /// Its length.
    pub seconds: u32,
    /// FLV.
    pub file: PathBuf,
}

impl HardSource {
    /// Finds or makes the source of that length.
    ///
    /// # Errors
    /// `ffmpeg` is missing or cannot make it.
    pub fn of(seconds: u32) -> anyhow::Result<Self> {
        Self::at(seconds, 8_000)
    }

    /// The same with another bitrate of the pictures, kilobits per second.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn at(seconds: u32, kbps: u32) -> anyhow::Result<Self> {
        let file = cache_dir()?.join(format!("hard-1080p30-{seconds}s-{kbps}k.flv"));
        if !file.exists() {
            let draft = file.with_extension(format!("{}.flv", std::process::id()));
            make(seconds, kbps, &draft)?;
            fs::rename(draft, &file)?;
        }
        Ok(Self { seconds, file })
    }

    /// What a publisher would send.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn clip(&self) -> anyhow::Result<Clip> {
        Ok(Clip::parse(Bytes::from(fs::read(&self.file)?))?)
    }

    /// What a worker is fed: the source on the stream's clock, stamped by the real timeline.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn items(&self) -> anyhow::Result<Vec<Item>> {
        let mut timeline = Timeline::new(TimelineStart {
            utc: UTC,
            resume: None,
            low_latency: false,
            limits: SourceLimits::default(),
        });
        let frame_rate = Some(f64::from(FPS));
        let hints = SourceHints { frame_rate, has_audio: Some(true), has_video: Some(true) };
        let now = Mono::default();
        timeline.handle(now, Input::Metadata(hints))?;
        for tag in self.clip()?.tags {
            let (timestamp_ms, body) = (tag.timestamp_ms, tag.body);
            match tag.kind {
                TagKind::Video => timeline.handle(now, Input::Video { timestamp_ms, body })?,
                TagKind::Audio => timeline.handle(now, Input::Audio { timestamp_ms, body })?,
                TagKind::Metadata => {}
            }
        }
        timeline.handle(now, Input::PublisherLeft)?;
        Ok(std::iter::from_fn(|| timeline.poll()).collect())
    }
}

fn make(seconds: u32, kbps: u32, file: &std::path::Path) -> anyhow::Result<()> {
    let pictures = [
        "mandelbrot=size=960x540:rate=30:maxiter=400:end_scale=0.0005:end_pts=600".to_owned(),
        "life=size=240x135:rate=30:mold=10:ratio=0.3:death_color=#204060:life_color=#ffffff\
         :mold_color=#804020:seed=7,scale=960:540:flags=neighbor"
            .to_owned(),
        "testsrc2=size=960x540:rate=30,noise=alls=12:allf=t:all_seed=7".to_owned(),
        "testsrc2=size=960x540:rate=30,rotate=t/3:fillcolor=gray".to_owned(),
    ];
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    for picture in &pictures {
        command.args(["-f", "lavfi", "-i", picture]);
    }
    command.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    let quarters = "[0][1][2][3]xstack=inputs=4:layout=0_0|960_0|0_540|960_540,format=yuv420p[v]";
    command.args(["-filter_complex", quarters, "-map", "[v]", "-map", "4"]);
    command.args(["-t", &seconds.to_string(), "-c:v", "libx264", "-preset", "veryfast"]);
    let rate = format!("{kbps}k");
    command.args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate, "-x264-params"]);
    command.args(["keyint=60:min-keyint=60:scenecut=0:bframes=2", "-c:a", "aac", "-b:a", "128k"]);
    command.args(["-f", "flv", "-flvflags", "no_duration_filesize"]).arg(file);
    let output = command.stdin(Stdio::null()).output().context("ffmpeg")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
