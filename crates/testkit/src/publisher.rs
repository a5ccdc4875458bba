//! A real `ffmpeg` that publishes a finished clip in real time without encoding it. Owns the child; makes no media.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// A running publisher; killed when dropped.
#[derive(Debug)]
pub struct Publisher {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Publisher {
    /// Publishes `clip` to an RTMP `url` (or into a file) at the speed of its own clock, as encoded.
    ///
    /// # Errors
    ///
    /// When `ffmpeg` does not start.
    pub fn start(clip: &Path, url: &str) -> anyhow::Result<Self> {
        Self::start_with(clip, &["-c", "copy"], url)
    }

    /// As [`Self::start`], with ffmpeg's output options given, such as an encoder in place of `-c copy`.
    ///
    /// # Errors
    ///
    /// When `ffmpeg` does not start.
    pub fn start_with(clip: &Path, output: &[&str], url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-v", "info", "-nostdin", "-nostats", "-y", "-re", "-i"]);
        command.arg(clip).args(output);
        command.args(["-f", "flv", "-flvflags", "no_duration_filesize", url]);
        Self::spawn(command)
    }

    /// Runs any publishing program; its standard error is kept.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().with_context(|| {
            format!("{} does not start", command.as_std().get_program().to_string_lossy())
        })?;
        let stderr = child.stderr.take().expect("invariant: stderr is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Ok(Self { child, log, reader })
    }

    /// The process id, `None` once it has been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What the program wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself, and for the last of its log.
    ///
    /// # Errors
    ///
    /// When it still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let status = tokio::time::timeout(within, self.child.wait())
            .await
            .with_context(|| format!("publisher still runs after {within:?}: {}", self.log()))??;
        // A grandchild may hold the pipe open: the log is complete enough after a moment.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.reader).await;
        Ok(status)
    }

    /// Asks it to end (SIGINT), as a streamer who stops: ffmpeg then ends its RTMP stream properly.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        let pid = self.pid().context("publisher has ended already")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)
            .context("publisher cannot be signalled")
    }

    /// Kills it at once, as a lost connection would look from the other side.
    ///
    /// # Errors
    ///
    /// When the process cannot be killed or waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("publisher cannot be killed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClipSpec, Scratch, free_port};

    #[tokio::test]
    async fn a_clip_is_published_in_real_time_to_an_rtmp_listener() {
        let clip =
            ClipSpec { seconds: 2, width: 320, height: 180, kbps: 200, ..Default::default() };
        let clip = clip.file().expect("clip");
        let scratch = Scratch::new("publish").expect("folder");
        let got = scratch.path().join("got.flv");
        let url = format!("rtmp://127.0.0.1:{}/live/key", free_port().expect("port"));
        let mut listen = Command::new("ffmpeg");
        listen
            .args(["-v", "error", "-nostdin", "-listen", "1", "-i", &url, "-c", "copy"])
            .arg(&got);
        let mut listener = Publisher::spawn(listen).expect("listener");

        let started = std::time::Instant::now();
        let published = crate::until_some("publishing", Duration::from_secs(20), async || {
            let mut publisher = Publisher::start(&clip, &url).ok()?;
            publisher.wait(Duration::from_secs(10)).await.ok()?.success().then_some(publisher.log())
        });
        let log = published.await.expect("published");
        assert!(started.elapsed() > Duration::from_millis(1_800), "faster than real time");
        assert!(log.contains("Output #0"), "{log}");
        assert!(listener.wait(Duration::from_secs(10)).await.expect("ends").success());
        assert!(got.metadata().expect("file").len() > 20_000);
    }

    #[tokio::test]
    async fn a_killed_publisher_is_gone() {
        let clip =
            ClipSpec { seconds: 2, width: 320, height: 180, kbps: 200, ..Default::default() };
        let scratch = Scratch::new("kill").expect("folder");
        let to = scratch.path().join("out.flv");
        let mut publisher =
            Publisher::start(&clip.file().expect("clip"), to.to_str().expect("utf-8"))
                .expect("start");
        assert!(publisher.is_running());
        publisher.kill().await.expect("killed");
        assert!(!publisher.is_running());
    }

    #[tokio::test]
    async fn an_interrupted_publisher_ends_by_itself_before_its_clip_does() {
        let clip = ClipSpec { width: 320, height: 180, kbps: 200, ..Default::default() };
        let scratch = Scratch::new("interrupt").expect("folder");
        let to = scratch.path().join("out.flv");
        let clip = clip.file().expect("clip");
        let mut publisher = Publisher::start(&clip, to.to_str().expect("utf-8")).expect("start");
        let began = || publisher.log().contains("Output #0");
        crate::until("output", Duration::from_secs(10), began).await.expect("begins");
        publisher.interrupt().expect("runs");
        publisher.wait(Duration::from_secs(5)).await.expect("ends");
    }
}
