//! The stamps of what ffmpeg decodes, and of raw grey pictures of one small size. Judges nothing.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use millrace_testkit::stamp;
use tokio::process::Command;

/// Size to which pictures are scaled before their stamp is read.
pub const SMALL_PICTURE: (usize, usize) = (320, 180);

/// What ffmpeg made of a file or URL.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// One entry per picture; `None` where it cannot be read.
    pub stamps: Vec<Option<u32>>,
    /// What ffmpeg complained about.
    pub said: String,
}

/// Decodes `input` through a video `filter` (`null` for none), with further output options.
///
/// # Errors
/// When ffmpeg does not end within `within`, or not with success.
pub async fn decode(
    input: &str,
    filter: &str,
    options: &[&str],
    within: Duration,
) -> anyhow::Result<Decoded> {
    let (width, height) = SMALL_PICTURE;
    let filter = format!("{filter},scale={width}:{height},format=gray");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i", input, "-map", "0:v:0", "-vf", &filter]);
    ffmpeg.args(["-fps_mode", "passthrough"]).args(options).args(["-f", "rawvideo", "pipe:1"]);
    ffmpeg.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(within, ffmpeg.output()).await;
    let output = output.with_context(|| format!("ffmpeg still decodes {input}"))??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(Decoded { stamps: read_stamps(&output.stdout), said })
}

/// The stamps of grey pictures of [`SMALL_PICTURE`] one after the other; a last one that is cut short is left out.
pub fn read_stamps(pictures: &[u8]) -> Vec<Option<u32>> {
    let (width, height) = SMALL_PICTURE;
    let pictures = pictures.chunks_exact(width * height);
    pictures.map(|luma| stamp::read(luma, width, height, width)).collect()
}
