//! A viewer: a Chromium on one page, and all that its video element has shown so far. Judges nothing.

use std::time::Duration;

use anyhow::bail;
use millrace_testkit::browser::{Browser, FrameWatch, Seen};
use tokio::time::{Instant, sleep};

use crate::{PlayerPage, WebPlayer};

/// How often the page is asked what it has shown: often enough for an answer of a few megabytes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A viewer who watches.
#[derive(Debug)]
pub struct Viewer {
    browser: Browser,
    watch: FrameWatch,
    seen: Seen,
    /// Served as long as it is watched.
    _page: Option<PlayerPage>,
}

impl Viewer {
    /// Opens a page of our own with that player and plays the multivariant playlist at `playback_url`.
    ///
    /// # Errors
    /// When Chromium does not start, or the page does not load.
    pub async fn play(player: WebPlayer, playback_url: &str) -> anyhow::Result<Self> {
        let page = PlayerPage::serve(player, playback_url).await?;
        Self::open(page.url().to_owned(), Some(page)).await
    }

    /// Opens somebody's page with one video element.
    ///
    /// # Errors
    /// As [`Self::play`].
    pub async fn visit(url: &str) -> anyhow::Result<Self> {
        Self::open(url.to_owned(), None).await
    }

    async fn open(url: String, page: Option<PlayerPage>) -> anyhow::Result<Self> {
        let mut browser = Browser::launch().await?;
        browser.open(&url).await?;
        let watch = browser.watch_frames("video").await?;
        let seen = watch.take(&mut browser).await?;
        Ok(Self { browser, watch, seen, _page: page })
    }

    /// The browser, for scripts and screenshots.
    pub fn browser(&mut self) -> &mut Browser {
        &mut self.browser
    }

    /// Watches until `count` frames were shown in all.
    ///
    /// # Errors
    /// When there are fewer after `within`; what happened instead is in the error.
    pub async fn watch_frames(&mut self, count: usize, within: Duration) -> anyhow::Result<&Seen> {
        let deadline = Instant::now() + within;
        while self.look().await?.frames.len() < count {
            if Instant::now() > deadline {
                let (shown, events) = (self.seen.frames.len(), &self.seen.events);
                let console = self.browser.console();
                bail!("{shown} of {count} frames after {within:?}: {events:?} {console:?}");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(&self.seen)
    }

    /// Everything shown until now.
    ///
    /// # Errors
    /// When the page is gone.
    pub async fn look(&mut self) -> anyhow::Result<&Seen> {
        let Self { seen, watch, browser, .. } = self;
        let (frames, events) = (std::mem::take(&mut seen.frames), std::mem::take(&mut seen.events));
        let new = watch.take(browser).await?;
        *seen = Seen {
            frames: frames.into_iter().chain(new.frames.iter().cloned()).collect(),
            events: events.into_iter().chain(new.events.iter().cloned()).collect(),
            ..new
        };
        Ok(seen)
    }

    /// What the page's script keeps in `problems`, empty when all went well.
    ///
    /// # Errors
    /// When the page is gone or has no such list.
    pub async fn problems(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(serde_json::from_value(self.browser.evaluate("problems").await?)?)
    }

    /// Unix time at zero of the page's clock, milliseconds.
    ///
    /// # Errors
    /// When the page is gone.
    pub async fn clock_zero_ms(&mut self) -> anyhow::Result<f64> {
        let zero = "Date.now() - performance.now()";
        Ok(serde_json::from_value(self.browser.evaluate(zero).await?)?)
    }
}
