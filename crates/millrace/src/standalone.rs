//! `millrace standalone`: router, node, origin and api in this process, over the same sockets as the separate programs.
//!
//! Starts from the players' end, so that everyone finds whom it needs; stops from the publishers' end. Nobody could watch
//! the rest of a stream once the origin is gone, so stopping waits for no stream and leaves no worker behind.

use std::{net::TcpListener, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use millrace_api::{Api, reachable};
use millrace_node::{Node, NodeError, end_left_behind, end_workers};
use millrace_origin::Running as Origin;
use millrace_registry::OriginRecord;
use millrace_router::Router;
use millrace_telemetry::{
    InForce, LogFormat, LogThread, Metrics, RelayThreads, Signals, Supervisor, Told, init_logs,
    raise_open_files, why_not,
};
use millrace_types::StreamKey;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    arguments::StandaloneArguments,
    channels_file::stored_registry,
    demo,
    prerequisite::Prerequisite,
    ready_file::{self, MetricsUrls, Ready},
    reload::in_force,
    settings::{Listener, Settings, of_section},
    state_dir::StateDir,
    urls::http,
    welcome::welcome,
};

/// How long stopping may take in all.
const STOP: Duration = Duration::from_secs(4);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// A [`Prerequisite`], or a program that could not start.
pub async fn run(arguments: &StandaloneArguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    raise_open_files();
    let (settings, dirs, _logs) = prepare(arguments)?;
    let run_dir = settings.sections.node.run_dir.clone();
    let left = end_left_behind(&run_dir);
    if left > 0 {
        warn!(left, "workers of an earlier farm ended: the router of their streams died with it");
    }
    let supervisor = Supervisor::of_environment();
    let _watch = supervisor.watch();
    let farm = tokio::select! {
        farm = Farm::start(settings, &dirs.state) => farm,
        () = signals.stop() => Err(anyhow::anyhow!("stopped by a signal while starting")),
    };
    let farm = farm.inspect_err(|_| {
        end_workers(&run_dir);
    })?;
    let ready = farm.ready();
    if let Some(path) = &arguments.ready_json {
        ready.write(path).with_context(|| path.display().to_string())?;
    }
    let everywhere = farm.router.addresses.rtmp.ip().is_unspecified();
    crate::output::say(format_args!("{}", welcome(&ready, arguments.demo, everywhere)));
    supervisor.ready();
    let picture = arguments.demo.then(|| tokio::spawn(demo::publish(ready.rtmp, farm.key.clone())));

    while signals.next().await == Told::Reload {
        farm.reload(arguments).await;
    }
    supervisor.stopping();
    info!("standalone stops");
    if let Some(picture) = picture {
        picture.abort();
    }
    tokio::select! {
        stopped = timeout(STOP, farm.stop()) => {
            if stopped.is_err() {
                warn!(seconds = STOP.as_secs(), "not everything stopped in time");
            }
        }
        () = signals.stop() => warn!("stopped at once by a second signal"),
    }
    let workers = end_workers(&run_dir);
    info!(workers, "standalone stopped");
    Ok(ExitCode::SUCCESS)
}

/// Makes the directories, and finds out what is wrong before anything is started.
fn prepare(arguments: &StandaloneArguments) -> anyhow::Result<(Settings, StateDir, LogThread)> {
    let (settings, dirs) = settings(arguments)?;
    let logs = init_logs(&settings.sections.log, LogFormat::Auto)
        .map_err(|error| Prerequisite(error.to_string()))?;
    dirs.create().map_err(|error| Prerequisite(format!("{error:#}")))?;
    settings.check().map_err(|error| Prerequisite(error.to_string()))?;
    settings.listeners().iter().try_for_each(check_free)?;
    if let Some(path) = &arguments.ready_json {
        ready_file::prepare(path)?;
    }
    Ok((settings, dirs, logs))
}

/// The file, and what the command line says otherwise.
pub fn settings(arguments: &StandaloneArguments) -> Result<(Settings, StateDir), Prerequisite> {
    let mut settings = Settings::load(arguments.config.as_deref())?;
    settings.listen(&arguments.listen);
    settings.log(arguments.log.as_ref());
    let dirs = StateDir::of_user(arguments.state_dir.as_deref());
    settings.place(&dirs);
    if let Some(dir) = &arguments.worker_dir {
        settings.sections.node.worker_dir = Some(dir.clone());
    }
    Ok((settings, dirs))
}

/// The running programs.
pub struct Farm {
    /// Goes by these.
    pub in_force: InForce,
    pub router: Router,
    node: Node,
    pub origin: Origin,
    pub api: Api,
    key: StreamKey,
}

impl Farm {
    async fn start(settings: Settings, state_dir: &Path) -> anyhow::Result<Self> {
        let mut sections = settings.sections;
        let in_force = in_force(&sections);
        let (registry, is_first) = stored_registry(state_dir)?;
        let key = demo::open_channel(&registry, state_dir, is_first).await?;

        let name = sections.origin.name.clone();
        let speaks = sections.origin.newest_version.versions();
        let starting = millrace_origin::start(sections.origin, registry.clone(), Metrics::new());
        let origin = starting.await.map_err(|error| of_section("origin", error))?;
        let at = origin.addresses;
        let (intake, playback, admin) = (at.intake, at.playback, at.admin);
        // With one node there is no other for a second encoder, however many watch.
        let viewers = Default::default();
        registry
            .put(&OriginRecord { origin: name, intake, playback, admin, viewers, speaks })
            .await?;

        sections.node.origin_intake = Some(reachable(intake));
        let here = RelayThreads::default;
        let node = millrace_node::start(sections.node, registry.clone(), Metrics::new(), here());
        let node = node.await.map_err(explained)?;
        let router =
            millrace_router::start(sections.router, registry.clone(), Metrics::new(), here());
        let router = router.await.map_err(|error| of_section("router", error))?;
        let api = millrace_api::start(sections.api, registry, Metrics::new()).await;
        let api = api.map_err(|error| of_section("api", error))?;
        Ok(Self { in_force, router, node, origin, api, key })
    }

    fn ready(&self) -> Ready {
        let stream = self.key.channel().to_string();
        let playback = http(self.origin.addresses.playback);
        let metrics = |address| format!("{}/metrics", http(address));
        Ready {
            rtmp: format!("rtmp://{}/live", reachable(self.router.addresses.rtmp)),
            rtmps: (self.router.addresses.rtmps)
                .map(|address| format!("rtmps://{}/live", reachable(address))),
            stream_key: self.key.reveal(),
            playback: format!("{playback}/live/{stream}/index.m3u8"),
            playback_tls: (self.origin.addresses.playback_tls)
                .map(|address| format!("https://{}/live/{stream}/index.m3u8", reachable(address))),
            watch: format!("{playback}/watch/{stream}"),
            stream,
            api: http(self.api.addresses.api),
            metrics: MetricsUrls {
                router: metrics(self.router.addresses.admin),
                node: metrics(self.node.addresses.admin),
                origin: metrics(self.origin.addresses.admin),
                api: metrics(self.api.addresses.admin),
            },
        }
    }

    /// Tells publishers first, so that their encoders say why the stream ended.
    async fn stop(self) {
        self.router.stop().await;
        self.node.stop().await;
        self.origin.stop().await;
        self.api.stop().await;
    }
}

fn explained(error: NodeError) -> anyhow::Error {
    match error.is_of_settings() {
        true => of_section("node", error).into(),
        false => anyhow::Error::new(error).context("node"),
    }
}

/// Tries an address before anything is started, so that the error can name the flag.
fn check_free(listener: &Listener) -> Result<(), Prerequisite> {
    TcpListener::bind(listener.address).map(drop).map_err(|error| {
        let why = why_not(&error);
        let Listener { flag, key, address } = listener;
        Prerequisite(format!(
            "cannot listen on {address}: {why}; choose another with {flag} ADDR:PORT (or {key} in the file; port 0 takes a free one)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_that_names_the_flag_to_change() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listener = Listener { flag: "--listen-rtmp", key: "router.listen_rtmp", address };
        let error = check_free(&listener).unwrap_err().to_string();
        assert!(error.contains("--listen-rtmp") && error.contains(&address.to_string()), "{error}");
        drop(taken);
        assert_eq!(check_free(&listener), Ok(()));
    }
}
