//! `millrace-api`: arguments, configuration, logs, run until a signal, stop.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use millrace_api::Config;
use millrace_registry::{ProgramSettings, Registry};
use millrace_telemetry::{
    Metrics, Program, ProgramArguments, SettingsError, SettingsFile, reloaded, version_line,
};
use serde_json::json;

/// How long running answers may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the registry may take to be seen, before the API answers without it.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Shows what is live, keeps channels and stream keys, serves the console.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Where the API and the console are.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_api: Option<SocketAddr>,
    /// Where metrics and health are.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_admin: Option<SocketAddr>,
}

impl Arguments {
    fn settings(&self) -> Result<ProgramSettings<Config>, SettingsError> {
        let file = SettingsFile::read(self.program.config.as_deref(), "api")?;
        let mut settings = ProgramSettings::<Config>::read(file)?;
        let config = &mut settings.own;
        config.listen_api = self.listen_api.unwrap_or(config.listen_api);
        config.listen_admin = self.listen_admin.unwrap_or(config.listen_admin);
        Ok(settings)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    eprintln!("millrace-api: {error:#}");
    // 2: a person must change something first, so a supervisor does not start it again.
    if error.is::<SettingsError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = arguments.settings()?;
    let in_force = settings.in_force();
    let ProgramSettings { log, registry, own: config } = settings;
    let mut program = Program::begin(&arguments.program, &log)?;
    let registry = Registry::connect(&registry).map_err(SettingsError::of)?;
    let metrics = Metrics::new();
    registry.show(&metrics);
    let starting = async {
        registry.synced(SYNC_PATIENCE).await;
        millrace_api::start(config, registry.clone(), metrics).await
    };
    let Some(api) = program.start(starting).await else { return Ok(()) };
    let api = api.map_err(SettingsError::of)?;
    let at = api.addresses;
    program.ready(&json!({ "api": at.api, "admin": at.admin }))?;
    let reload = async || {
        let read = arguments.settings().map(|read| (read.log.clone(), read));
        reloaded(&arguments.program, &in_force, read, async |_| api.reload()).await;
    };
    program.run(reload).await;
    program.drain(PATIENCE, api.stop()).await;
    Ok(())
}
