//! `millrace standalone` as a process of its own, with a state folder and ports of its own.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use millrace_publisher::{Playout, Publisher};
use millrace_testkit::Scratch;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use crate::{Scrape, Usage, sibling_program};

const START: Duration = Duration::from_secs(20);

/// What a benchmark needs of the ready file.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// Where to publish, with the key as the path's last element or without it.
    pub rtmp: String,
    /// A key that is accepted.
    pub stream_key: String,
    /// The stream's multivariant playlist.
    pub playback: String,
    metrics: MetricsUrls,
}

#[derive(Clone, Debug, Deserialize)]
struct MetricsUrls {
    node: String,
}

/// A running farm; asked to stop when dropped, so that it ends its workers.
#[derive(Debug)]
pub struct Standalone {
    child: Child,
    /// How to use it.
    pub ready: Ready,
    _scratch: Scratch,
}

impl Standalone {
    /// Starts the standalone of this build.
    ///
    /// # Errors
    /// It is not ready after some seconds.
    pub fn start() -> anyhow::Result<Self> {
        let scratch = Scratch::new("standalone")?;
        let (state, file) = (scratch.path().join("state"), scratch.path().join("ready.json"));
        let mut command = Command::new(sibling_program("millrace")?);
        command.arg("standalone").arg("--state-dir").arg(&state).arg("--ready-json").arg(&file);
        for listener in [
            "rtmp",
            "playback",
            "api",
            "link",
            "intake",
            "router-admin",
            "node-admin",
            "origin-admin",
            "api-admin",
        ] {
            command.args([&format!("--listen-{listener}"), "127.0.0.1:0"]);
        }
        let log = fs::File::create(scratch.path().join("log"))?;
        command.args(["--log", "info"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let deadline = Instant::now() + START;
        while !file.exists() {
            if Instant::now() > deadline || child.try_wait()?.is_some() {
                let _ = child.kill();
                let said = fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
                bail!("standalone is not ready: {said}");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let ready = serde_json::from_slice(&fs::read(&file)?).context("ready file")?;
        Ok(Self { child, ready, _scratch: scratch })
    }

    /// What router, node, origin and api use together; the workers are processes of their own.
    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// The node's metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub fn node_metrics(&self) -> anyhow::Result<Scrape> {
        let url = &self.ready.metrics.node;
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        Scrape::of(address.with_context(|| url.clone())?.parse()?)
    }

    /// Publishes `tags` in real time to the farm's own stream, and says goodbye.
    ///
    /// # Errors
    /// The farm refused them, or the connection broke.
    pub async fn publish(&self, tags: Playout) -> anyhow::Result<()> {
        let Ready { rtmp, stream_key, .. } = &self.ready;
        let url = rtmp.trim_end_matches(stream_key).trim_end_matches('/');
        let mut publisher = Publisher::connect(url, stream_key).await?;
        publisher.play(tags).await?;
        Ok(publisher.finish().await?)
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("invariant: a pid is an i32");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
