//! Owns the sampling of a page's video element: what `stamps.js` collects, read into Rust.
//!
//! Deliberately does not know how a frame number is drawn: a [`Frame`] is a small picture that the
//! `stamp` module reads.

use anyhow::{Context, Result};
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};

use super::Browser;
use crate::stamp;

const SAMPLER: &str = include_str!("stamps.js");
/// Size of a sampled frame in pixels: small enough for 60 frames a second, large enough for the
/// stamp's cells.
const COLUMNS: usize = 160;
const ROWS: usize = 90;

/// One frame that reached the screen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Its presentation time on the element's timeline, in seconds.
    #[serde(rename = "mediaTime")]
    pub media_time_s: f64,
    /// Frames shown since the element was made, this one included: a step above 1 means frames
    /// shown but not sampled.
    pub presented_frames: u64,
    /// The page's clock when it was shown, in milliseconds.
    #[serde(rename = "now")]
    pub now_ms: f64,
    /// Luma of the whole picture scaled to 160 × 90, full range, row by row.
    #[serde(deserialize_with = "from_base64")]
    pub luma: Vec<u8>,
}

impl Frame {
    /// The frame number drawn into it, `None` when it cannot be read.
    pub fn number(&self) -> Option<u32> {
        stamp::read(&self.luma, COLUMNS, ROWS, COLUMNS)
    }
}

/// Something the video element said of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayerEvent {
    /// `waiting`, `stalled`, `playing`, `seeking`, `ended` or `error`.
    pub name: String,
    /// The page's clock, in milliseconds.
    #[serde(rename = "now")]
    pub now_ms: f64,
    /// Where playback was, in seconds.
    #[serde(rename = "currentTime")]
    pub current_time_s: f64,
    /// Code and message of an `error`, else empty.
    pub detail: String,
}

/// What was seen since the previous look.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Sampled frames, oldest first.
    pub frames: Vec<Frame>,
    /// Events, oldest first.
    pub events: Vec<PlayerEvent>,
    /// Width of the video in pixels; 0 when nothing was decoded.
    pub video_width: u32,
    /// Height of the video in pixels; 0 when nothing was decoded.
    pub video_height: u32,
    /// Where playback is, in seconds.
    #[serde(rename = "currentTime")]
    pub current_time_s: f64,
    /// Frames decoded since the element was made, dropped ones included.
    pub decoded_frames: u64,
    /// Frames decoded but not shown.
    pub dropped_frames: u64,
}

impl Seen {
    /// Times the element ran dry (`waiting`) after its first frame, with the page's clock in
    /// milliseconds.
    pub fn stalls_ms(&self) -> Vec<f64> {
        let first = self.frames.first().map_or(f64::INFINITY, |frame| frame.now_ms);
        let stalled = |event: &&PlayerEvent| event.name == "waiting" && event.now_ms > first;
        self.events.iter().filter(stalled).map(|event| event.now_ms).collect()
    }

    /// The longest time without a new frame, in milliseconds.
    pub fn longest_freeze_ms(&self) -> f64 {
        self.frames.windows(2).map(|pair| pair[1].now_ms - pair[0].now_ms).fold(0.0, f64::max)
    }
}

/// A running watch of one video element. It lives in the page: a later `open` ends it.
#[derive(Debug)]
pub struct FrameWatch {
    variable: String,
}

impl FrameWatch {
    pub(super) async fn start(browser: &mut Browser, selector: &str) -> Result<Self> {
        let element = serde_json::to_string(selector)?;
        let script = format!(
            "(() => {{ const video = document.querySelector({element}); \
             if (!video) throw new Error('no element ' + {element}); \
             const watches = window.frameWatches ??= []; \
             return watches.push(({SAMPLER})(video, {COLUMNS}, {ROWS})) - 1; }})()"
        );
        let index = browser.evaluate(&script).await?;
        Ok(Self { variable: format!("window.frameWatches[{index}]") })
    }

    /// What was seen since the last call; the watch goes on.
    ///
    /// # Errors
    /// When the page is gone.
    pub async fn take(&self, browser: &mut Browser) -> Result<Seen> {
        self.read(browser, false).await
    }

    /// What was seen since the last call; the watch ends.
    ///
    /// # Errors
    /// When the page is gone.
    pub async fn finish(self, browser: &mut Browser) -> Result<Seen> {
        self.read(browser, true).await
    }

    async fn read(&self, browser: &mut Browser, last: bool) -> Result<Seen> {
        let seen = browser.evaluate(&format!("{}.take({last})", self.variable)).await?;
        serde_json::from_value(seen).context("what the page's sampler returned")
    }
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}
