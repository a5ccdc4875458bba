//! `millrace-router`: arguments, configuration, logs, run until a signal, tell publishers to connect again, stop.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use millrace_registry::{OwnSettings, ProgramSettings, Registry};
use millrace_router::Config;
use millrace_telemetry::{
    Metrics, Program, ProgramArguments, RelayThreads, SettingsError, SettingsFile,
    give_back_spare_memory, reloaded, version_line,
};
use serde_json::json;

/// From one look at the sockets to the next, at least: the longest that a batch waits here.
const BEAT: Duration = Duration::from_millis(10);
/// How long publishers may take to leave.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the registry may take to be seen, before the router works without it.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Takes publishers in and places their streams on nodes.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Where publishers connect.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_rtmp: Option<SocketAddr>,
    /// Where publishers connect with TLS.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_rtmps: Option<SocketAddr>,
    /// Where metrics, health and reports on streams are.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_admin: Option<SocketAddr>,
}

impl Arguments {
    fn settings(&self) -> Result<ProgramSettings<Config>, SettingsError> {
        let file = SettingsFile::read(self.program.config.as_deref(), "router")?;
        let mut settings = ProgramSettings::<Config>::read(file)?;
        let config = &mut settings.own;
        config.listen_rtmps = self.listen_rtmps.unwrap_or(config.listen_rtmps);
        config.listen_rtmp = self.listen_rtmp.unwrap_or(config.listen_rtmp);
        config.listen_admin = self.listen_admin.unwrap_or(config.listen_admin);
        Ok(settings)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    eprintln!("millrace-router: {error:#}");
    // 2: a person must change something first, so a supervisor does not start it again.
    if error.is::<SettingsError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = arguments.settings()?;
    let in_force = settings.in_force();
    let ProgramSettings { log, registry, own: config } = settings;
    let mut program = Program::begin(&arguments.program, &log)?;
    config.warn_of_doubts();
    give_back_spare_memory();
    let registry = Registry::connect(&registry).map_err(SettingsError::of)?;
    let name = config.name.clone();
    let metrics = Metrics::new();
    registry.show(&metrics);
    let threads = RelayThreads::start(BEAT).context("relay threads")?;
    let starting = async {
        registry.synced(SYNC_PATIENCE).await;
        millrace_router::start(config, registry.clone(), metrics, threads).await
    };
    let Some(router) = program.start(starting).await else { return Ok(()) };
    let router = router.map_err(SettingsError::of)?;
    let at = router.addresses;
    program.ready(&json!({
        "name": name, "rtmp": at.rtmp, "rtmps": at.rtmps, "admin": at.admin,
    }))?;
    let reload = async || {
        let read = arguments.settings().map(|read| (read.log.clone(), read));
        reloaded(&arguments.program, &in_force, read, async |read| router.reload(&read.own).await)
            .await;
    };
    program.run(reload).await;
    program.drain(PATIENCE, router.stop()).await;
    Ok(())
}
