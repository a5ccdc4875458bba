//! A real clip made by ffmpeg (H.264, AAC), read from FLV, put on the stream's clock and stamped by the timeline.

use std::{ops::Range, process::Command};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use millrace_media::{Input, Item, SourceHints, SourceLimits, Timeline, TimelineStart};
use millrace_types::{Mono, Wall};

/// When the publishers of all tests connect: 2026-11-21.
pub const UTC: Wall = Wall(1_795_222_923_000_000);

/// What ffmpeg is to make.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub seconds: u32,
    pub gop_seconds: f64,
    pub x264: &'static str,
}

/// 720p30, the base of others.
pub const SMALL: Clip =
    Clip { width: 1280, height: 720, fps: 30, seconds: 6, gop_seconds: 2.0, x264: "bframes=2" };

impl Clip {
    /// How many pictures it has.
    pub const fn frames(&self) -> usize {
        (self.fps * self.seconds) as usize
    }

    /// Picture and sound of the clip, from the publisher's first message to its leaving.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut timeline = timeline();
        self.publish(&mut timeline)?;
        Ok(std::iter::from_fn(|| timeline.poll()).collect())
    }

    /// Publishes the clip, as one connection.
    pub fn publish(&self, timeline: &mut Timeline) -> Result<()> {
        self.publish_without_pictures(timeline, 0..0)
    }

    /// The same, but nothing comes for a while before the connection ends.
    pub fn publish_and_stall(&self, timeline: &mut Timeline) -> Result<()> {
        self.send(timeline, 0..0)?;
        while let Some(deadline) = timeline.deadline() {
            timeline.handle(deadline, Input::Elapsed)?;
        }
        Ok(timeline.handle(Mono::default(), Input::PublisherLeft)?)
    }

    /// The same without the pictures of some of its milliseconds.
    pub fn publish_without_pictures(
        &self,
        timeline: &mut Timeline,
        lost_ms: Range<u32>,
    ) -> Result<()> {
        self.send(timeline, lost_ms)?;
        Ok(timeline.handle(Mono::default(), Input::PublisherLeft)?)
    }

    fn send(&self, timeline: &mut Timeline, lost_ms: Range<u32>) -> Result<()> {
        let frame_rate = Some(f64::from(self.fps));
        let hints = SourceHints { frame_rate, has_audio: Some(true), has_video: Some(true) };
        timeline.handle(Mono::default(), Input::Metadata(hints))?;
        let flv = Bytes::from(self.flv()?);
        let mut at = 13;
        while at + 11 < flv.len() {
            let head = &flv[at..at + 11];
            let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            let timestamp_ms = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
            let body = flv.slice(at + 11..at + 11 + size);
            match head[0] {
                8 => timeline.handle(Mono::default(), Input::Audio { timestamp_ms, body })?,
                9 if lost_ms.contains(&timestamp_ms) => {}
                9 => timeline.handle(Mono::default(), Input::Video { timestamp_ms, body })?,
                _ => {}
            }
            at += 11 + size + 4;
        }
        Ok(())
    }

    fn flv(&self) -> Result<Vec<u8>> {
        let Self { width, height, fps, seconds, .. } = self;
        let keyint = (f64::from(*fps) * self.gop_seconds) as u32;
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=size={width}x{height}:rate={fps}:duration={seconds}"))
            .args(["-f", "lavfi", "-i"])
            .arg(format!("sine=frequency=440:sample_rate=48000:duration={seconds}"))
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
            .arg("-x264-params")
            .arg(format!("keyint={keyint}:min-keyint={keyint}:scenecut=0:{}", self.x264))
            .args(["-c:a", "aac", "-b:a", "96k", "-f", "flv"])
            .args(["-flvflags", "no_duration_filesize", "-"])
            .output()
            .context("ffmpeg")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}

/// The clock of a new stream.
pub fn timeline() -> Timeline {
    Timeline::new(TimelineStart {
        utc: UTC,
        resume: None,
        low_latency: false,
        limits: SourceLimits::default(),
    })
}
