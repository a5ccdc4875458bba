//! One `millrace standalone` of its own: free ports, a folder of its own, gone with its owner.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use millrace_testkit::{HttpClient, Scratch, until_some};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;

/// How long a farm may take until it takes publishers; it measures the host first.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long one question may take.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// How a farm is set up.
#[derive(Clone, Debug)]
pub struct FarmOptions {
    /// Encoded rungs: name, short side, kbit/s.
    pub rungs: Vec<(&'static str, u32, u32)>,
    /// Further lines of the configuration file.
    pub toml: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Default for FarmOptions {
    /// Two small rungs, so that a test costs little.
    fn default() -> Self {
        Self {
            rungs: vec![("240p", 240, 400), ("144p", 144, 200)],
            toml: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// What the farm wrote into its ready file.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    rtmp: String,
    rtmps: Option<String>,
    stream_key: String,
    stream: String,
    playback: String,
    playback_tls: Option<String>,
    watch: String,
    api: String,
}

/// A channel one can publish to.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Where to publish, key included.
    pub rtmp_url: String,
    /// Multivariant playlist.
    pub playback_url: String,
    /// The stream's public name.
    pub stream: String,
}

/// What the API says of a stream.
#[derive(Clone, Debug, Deserialize)]
pub struct StreamView {
    /// `waiting`, `placing`, `live` or `finishing`.
    pub state: String,
    /// The worker's process id.
    pub worker_pid: Option<i32>,
    /// Workers lost so far.
    pub restarts: u64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// A running farm; dropped, it is told to stop and waited for.
#[derive(Debug)]
pub struct Farm {
    process: Child,
    ready: Ready,
    scratch: Scratch,
    http: HttpClient,
}

impl Farm {
    /// Starts one and waits until it takes publishers.
    ///
    /// # Errors
    /// When it does not start in time; its log is in the error.
    pub async fn start(options: FarmOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::new("farm")?;
        let (config, ready_file) =
            (scratch.path().join("standalone.toml"), scratch.path().join("ready.json"));
        std::fs::write(&config, toml_of(&options))?;
        let process = spawn(&scratch, &config, &ready_file, &options)?;
        let mut farm = Self {
            process,
            ready: Ready {
                rtmp: String::new(),
                rtmps: None,
                stream_key: String::new(),
                stream: String::new(),
                playback: String::new(),
                playback_tls: None,
                watch: String::new(),
                api: String::new(),
            },
            scratch,
            http: HttpClient::default(),
        };
        let ready = until_some("the farm takes publishers", START_PATIENCE, async || {
            let text = std::fs::read_to_string(&ready_file).ok()?;
            serde_json::from_str(&text).ok()
        });
        farm.ready = ready.await.with_context(|| farm.log())?;
        Ok(farm)
    }

    /// The channel the farm made at its start.
    pub fn channel(&self) -> Channel {
        let Ready { rtmp, stream_key, playback, stream, .. } = &self.ready;
        Channel {
            rtmp_url: format!("{rtmp}/{stream_key}"),
            playback_url: playback.clone(),
            stream: stream.clone(),
        }
    }

    /// Makes another channel.
    ///
    /// # Errors
    /// When the API refuses it.
    pub async fn new_channel(&self, name: &str) -> anyhow::Result<Channel> {
        self.add_channel(name, false).await
    }

    /// Makes another channel, whose viewers accept stalls for less delay.
    ///
    /// # Errors
    /// When the API refuses it.
    pub async fn new_low_latency_channel(&self, name: &str) -> anyhow::Result<Channel> {
        self.add_channel(name, true).await
    }

    async fn add_channel(&self, name: &str, low_latency: bool) -> anyhow::Result<Channel> {
        let body = serde_json::json!({ "channel": name, "low_latency": low_latency });
        let made = self.api(Method::POST, "/v1/channels", body.to_string()).await?;
        let key = made["stream_key"].as_str().with_context(|| format!("no key in {made}"))?;
        let playback_url =
            self.ready.playback.replace(&format!("/{}/", self.ready.stream), &format!("/{name}/"));
        let rtmp_url = format!("{}/{key}", self.ready.rtmp);
        Ok(Channel { rtmp_url, playback_url, stream: name.to_owned() })
    }

    /// RTMP application URL, without a key.
    pub fn rtmp_url(&self) -> &str {
        &self.ready.rtmp
    }

    /// RTMPS URL of [`Self::channel`], key included, when there is a certificate.
    pub fn rtmps_url(&self) -> Option<String> {
        let Ready { rtmps, stream_key, .. } = &self.ready;
        rtmps.as_ref().map(|rtmps| format!("{rtmps}/{stream_key}"))
    }

    /// Playlist of [`Self::channel`] over HTTPS, when there is a certificate.
    pub fn playback_tls_url(&self) -> Option<&str> {
        self.ready.playback_tls.as_deref()
    }

    /// Rewrites the configuration file and has the farm read it again.
    ///
    /// # Errors
    /// When the file cannot be written or the farm is gone.
    pub fn reload(&self, options: &FarmOptions) -> anyhow::Result<()> {
        std::fs::write(self.scratch.path().join("standalone.toml"), toml_of(options))?;
        Ok(kill(Pid::from_raw(self.pid()), Signal::SIGHUP)?)
    }

    /// The watch page of [`Self::channel`].
    pub fn watch_url(&self) -> &str {
        &self.ready.watch
    }

    /// Where the API is.
    pub fn api_url(&self) -> &str {
        &self.ready.api
    }

    /// Process id of the farm.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap_or_default()
    }

    /// Asks the API.
    ///
    /// # Errors
    /// When it does not answer in time, or not with success and JSON.
    pub async fn api(&self, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.ready.api.trim_end_matches('/'));
        let answer = self.http.send(method, &url, Bytes::from(body), ASK_PATIENCE).await?;
        ensure!(answer.status.is_success(), "{url}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_str(&answer.text())?)
    }

    /// What the API says of a stream.
    ///
    /// # Errors
    /// As [`Self::api`].
    pub async fn stream(&self, stream: &str) -> anyhow::Result<StreamView> {
        let view = self.api(Method::GET, &format!("/v1/streams/{stream}"), String::new()).await?;
        Ok(serde_json::from_value(view)?)
    }

    /// The process that makes a stream, once there is one that is not `old`.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn worker(&self, stream: &str, old: Option<i32>) -> anyhow::Result<i32> {
        let asked = until_some("a worker", Duration::from_secs(10), async || {
            let view = self.stream(stream).await.ok()?;
            view.worker_pid.filter(|&pid| view.state == "live" && Some(pid) != old)
        });
        asked.await.with_context(|| self.log())
    }

    /// What the farm wrote to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("farm.log")
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while matches!(self.process.try_wait(), Ok(None)) {
            if std::time::Instant::now() > deadline {
                let _ = self.process.kill();
            }
            std::thread::yield_now();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("--- the farm's last words ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn toml_of(options: &FarmOptions) -> String {
    format!("{}\n{}", options.toml, ladder_toml(&options.rungs))
}

/// The `[ladder]` of a configuration file: name, short side, kbit/s of each rung.
pub(crate) fn ladder_toml(rungs: &[(&str, u32, u32)]) -> String {
    let each = rungs.iter().map(|(name, short_side, kbps)| {
        format!(
            "[[ladder.rung]]\nname = \"{name}\"\nshort_side = {short_side}\nbitrate_kbps = {kbps}\n"
        )
    });
    match rungs.is_empty() {
        true => "[ladder]\nrung = []\n".to_owned(),
        false => each.collect(),
    }
}

fn spawn(
    scratch: &Scratch,
    config: &Path,
    ready_file: &Path,
    options: &FarmOptions,
) -> anyhow::Result<Child> {
    const LISTENERS: [&str; 11] = [
        "rtmp",
        "rtmps",
        "playback",
        "playback-tls",
        "api",
        "link",
        "intake",
        "router-admin",
        "node-admin",
        "origin-admin",
        "api-admin",
    ];
    let program = program("millrace")?;
    let log = File::create(scratch.path().join("farm.log"))?;
    let mut command = Command::new(&program);
    command.arg("standalone").arg("--config").arg(config).arg("--ready-json").arg(ready_file);
    command.arg("--state-dir").arg(scratch.path().join("state"));
    for listener in LISTENERS {
        command.arg(format!("--listen-{listener}")).arg("127.0.0.1:0");
    }
    command.args(&options.arguments).envs(options.environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| program.display().to_string())
}

/// A program of the same build as this test.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let dir =
        test.parent().and_then(Path::parent).context("a test lies in target/<profile>/deps")?;
    let program = dir.join(name);
    ensure!(
        program.is_file(),
        "{} is missing: build it with `cargo build --workspace --bins`",
        program.display()
    );
    Ok(program)
}
