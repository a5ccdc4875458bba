//! A clip published in real time that notes when each frame was sent: the glass at the camera's end. Watches nobody.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use millrace_publisher::{Clip, Playout, Publisher, TagKind};
use millrace_testkit::{ClipSpec, Scratch};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Unix time of each frame's sending in milliseconds, by its stamp.
type Sent = Arc<Mutex<BTreeMap<u32, f64>>>;

/// A clip on its way; it ends with this value.
#[derive(Debug)]
pub struct LiveClip {
    sent: Sent,
    publishing: JoinHandle<anyhow::Result<()>>,
}

impl LiveClip {
    /// Begins to publish a clip without B-frames, with its key at the end of the URL.
    ///
    /// # Errors
    /// When the clip cannot be made, or the farm lets nobody in.
    pub async fn publish(clip: &ClipSpec, rtmp_url: &str) -> anyhow::Result<Self> {
        ensure!(clip.bframes == 0, "frames are sent in the order of their stamps");
        let made = clip.clone();
        // Players of the same test go on meanwhile.
        let flv = tokio::task::spawn_blocking(move || flv_of(&made)).await??;
        let (application, key) = rtmp_url.rsplit_once('/').context("a key in the URL")?;
        let publisher = Publisher::connect(application, key).await?;
        let sent = Sent::default();
        let publishing = tokio::spawn(send(publisher, flv, clip.first_frame, Arc::clone(&sent)));
        Ok(Self { sent, publishing })
    }

    /// Unix time in milliseconds at which a frame was sent, if it was.
    pub fn sent_ms(&self, stamp: u32) -> Option<f64> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp).copied()
    }
}

impl Drop for LiveClip {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

/// Unix time now, milliseconds.
pub fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1_000.0
}

fn flv_of(clip: &ClipSpec) -> anyhow::Result<Clip> {
    let scratch = Scratch::new("flv")?;
    let flv = scratch.path().join("clip.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i"]).arg(clip.file()?).args(["-c", "copy"]).arg(&flv);
    ensure!(ffmpeg.status()?.success(), "ffmpeg makes no FLV of {clip:?}");
    Ok(Clip::parse(std::fs::read(flv)?.into())?)
}

async fn send(mut publisher: Publisher, clip: Clip, first: u32, sent: Sent) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stamp = first;
    for due in Playout::rounds(&clip, 1) {
        sleep_until(begun + due.after).await;
        if due.tag.kind == TagKind::Video && !due.tag.is_header() {
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert(stamp, unix_ms());
            stamp += 1;
        }
        publisher.send(&due.tag).await?;
    }
    Ok(publisher.finish().await?)
}
