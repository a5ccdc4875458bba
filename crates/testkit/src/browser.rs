//! Owns one headless Chromium with one page: starts it in an empty profile, drives it, and takes it
//! down with all its children.
//!
//! Every player test asserts what a viewer would see, so the page's frames are sampled
//! ([`FrameWatch`]), not only its properties read. Deliberately knows nothing of HLS and of
//! players.
//!
//! ```text
//! launch → open(url) → evaluate(js) / watch_frames(selector) → close (or drop: killed)
//! ```

mod devtools;
mod frame_watch;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, mkdtemp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub use devtools::ConsoleLine;
use devtools::Devtools;
pub use frame_watch::{Frame, FrameWatch, PlayerEvent, Seen};

const CHROMIUM: &str = "/usr/bin/chromium";
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--window-size=1280,960",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
];

/// How long a start, a page load or a script may take unless the caller says otherwise: generous,
/// for busy machines.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settles when the page has fired `load`.
const LOADED: &str = "new Promise(done =>
    document.readyState === 'complete' ? done() : addEventListener('load', () => done()))";

/// A running headless Chromium and its one page. Dropping it kills the process group and removes
/// the profile.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    profile: PathBuf,
    page: Devtools,
}

impl Browser {
    /// Starts Chromium in a new, empty profile and attaches to a blank page.
    ///
    /// # Errors
    /// When Chromium is not installed or does not answer within a minute.
    pub async fn launch() -> Result<Self> {
        let profile = mkdtemp(&std::env::temp_dir().join("millrace-browser-XXXXXX"))
            .context("profile directory")?;
        let mut process = spawn(&profile)?;
        match attach(&mut process, &profile).await {
            Ok(page) => Ok(Self { process, profile, page }),
            Err(error) => {
                kill(&mut process, &profile);
                Err(error)
            }
        }
    }

    /// Navigates to `url` and waits until the page has fired `load`.
    ///
    /// # Errors
    /// When the page cannot be reached, or has not loaded within a minute.
    pub async fn open(&mut self, url: &str) -> Result<()> {
        let answer = self.page.call("Page.navigate", json!({ "url": url }), PATIENCE).await?;
        if let Some(reason) = answer["errorText"].as_str() {
            bail!("page {url}: {reason}");
        }
        self.evaluate(LOADED).await.with_context(|| format!("page {url} loading"))?;
        Ok(())
    }

    /// The value of a script; a promise is awaited for up to a minute. The value must be
    /// expressible in JSON.
    ///
    /// # Errors
    /// When the script throws, its promise rejects (the text says why), or no value came in time.
    pub async fn evaluate(&mut self, script: &str) -> Result<Value> {
        self.evaluate_within(script, PATIENCE).await
    }

    /// As [`evaluate`](Self::evaluate), waiting up to `patience`.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub async fn evaluate_within(&mut self, script: &str, patience: Duration) -> Result<Value> {
        let parameters = json!({
            "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let mut answer = self.page.call("Runtime.evaluate", parameters, patience).await?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            let text = thrown["exception"]["description"].as_str().or(thrown["text"].as_str());
            bail!("script threw {}", text.map_or_else(|| thrown.to_string(), str::to_owned));
        }
        Ok(answer["result"]["value"].take())
    }

    /// What the page looks like now, as the bytes of a PNG file.
    ///
    /// # Errors
    /// When the browser is gone or answers with something else.
    pub async fn screenshot(&mut self) -> Result<Vec<u8>> {
        let answer =
            self.page.call("Page.captureScreenshot", json!({ "format": "png" }), PATIENCE).await?;
        let text = answer["data"].as_str().context("screenshot without data")?;
        Ok(BASE64.decode(text.as_bytes())?)
    }

    /// What the page has written to its console so far, uncaught exceptions and failed requests
    /// included, oldest first.
    pub fn console(&mut self) -> &[ConsoleLine] {
        self.page.console()
    }

    /// Starts to sample the frames of the video element that `selector` names. The watch ends with
    /// the page; [`FrameWatch::take`] reads it.
    ///
    /// # Errors
    /// When nothing matches `selector`.
    pub async fn watch_frames(&mut self, selector: &str) -> Result<FrameWatch> {
        FrameWatch::start(self, selector).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill(&mut self.process, &self.profile);
    }
}

fn spawn(profile: &Path) -> Result<Child> {
    use std::os::unix::process::CommandExt as _;
    Command::new(CHROMIUM)
        .args(ARGUMENTS)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("about:blank")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("{CHROMIUM} starting"))
}

/// Chromium writes its port and path to a file of the profile once it listens.
async fn attach(process: &mut Child, profile: &Path) -> Result<Devtools> {
    let deadline = Instant::now() + PATIENCE;
    let file = profile.join("DevToolsActivePort");
    let (port, path) = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((port, path)) = text.trim_end().split_once('\n') {
            break (port.to_owned(), path.to_owned());
        }
        if let Some(status) = process.try_wait()? {
            bail!("chromium ended before it listened: {status}");
        }
        ensure!(Instant::now() < deadline, "chromium not listening after {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    };
    Devtools::attach(&format!("ws://127.0.0.1:{port}{path}"), PATIENCE).await
}

/// Kills the whole process group, reaps the browser and removes its profile; a few renderers may
/// outlive the browser for a moment.
fn kill(process: &mut Child, profile: &Path) {
    if let Ok(group) = i32::try_from(process.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = process.wait();
    for _ in 0..100 {
        if std::fs::remove_dir_all(profile).is_ok() || !profile.exists() {
            break;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests;
