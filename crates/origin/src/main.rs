//! `millrace-origin`: arguments, configuration, logs, run until a signal, stop.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use millrace_origin::Config;
use millrace_registry::{OriginRecord, OwnSettings, ProgramSettings, Registry};
use millrace_telemetry::{
    Metrics, Program, ProgramArguments, SettingsError, SettingsFile, reached_at, reloaded,
    version_line,
};
use serde_json::json;

/// How long running answers may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the registry may take to be seen, before the origin works without it.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Serves live streams as Low-Latency HLS.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Where players connect.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_playback: Option<SocketAddr>,
    /// Where players connect with HTTPS.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_playback_tls: Option<SocketAddr>,
    /// Where nodes push media.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_intake: Option<SocketAddr>,
    /// Where metrics and health are.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_admin: Option<SocketAddr>,
}

impl Arguments {
    fn settings(&self) -> Result<ProgramSettings<Config>, SettingsError> {
        let file = SettingsFile::read(self.program.config.as_deref(), "origin")?;
        let mut settings = ProgramSettings::<Config>::read(file)?;
        let config = &mut settings.own;
        let listeners = [
            (&mut config.listen_playback, self.listen_playback),
            (&mut config.listen_playback_tls, self.listen_playback_tls),
            (&mut config.listen_intake, self.listen_intake),
            (&mut config.listen_admin, self.listen_admin),
        ];
        for (address, given) in listeners {
            *address = given.unwrap_or(*address);
        }
        Ok(settings)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    eprintln!("millrace-origin: {error:#}");
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
    let registry = Registry::connect(&registry).map_err(SettingsError::of)?;
    let (name, advertise) = (config.name.clone(), config.advertise);
    let speaks = config.newest_version.versions();
    let metrics = Metrics::new();
    registry.show(&metrics);
    let starting = async {
        registry.synced(SYNC_PATIENCE).await;
        millrace_origin::start(config, registry.clone(), metrics).await
    };
    let Some(origin) = program.start(starting).await else { return Ok(()) };
    let origin = origin.map_err(SettingsError::of)?;
    let at = origin.addresses;
    let record = OriginRecord {
        origin: name.clone(),
        intake: reached_at(at.intake, advertise),
        playback: reached_at(at.playback, advertise),
        admin: reached_at(at.admin, advertise),
        viewers: Default::default(),
        speaks,
    };
    let kept = registry.keep(&record);
    program.ready(&json!({
        "name": name, "playback": at.playback, "playback_tls": at.playback_tls,
        "intake": at.intake, "admin": at.admin,
    }))?;
    let reload = async || {
        let read = arguments.settings().map(|read| (read.log.clone(), read));
        reloaded(&arguments.program, &in_force, read, async |read| origin.reload(&read.own)).await;
    };
    let mut viewers = origin.viewers();
    let telling = async {
        while viewers.changed().await.is_ok() {
            let viewers = viewers.borrow_and_update().clone();
            kept.set(OriginRecord { viewers, ..record.clone() });
        }
        std::future::pending().await
    };
    tokio::select! {
        () = program.run(reload) => {}
        () = telling => {}
    }
    let stopping = async {
        kept.withdraw().await;
        origin.stop().await;
    };
    program.drain(PATIENCE, stopping).await;
    Ok(())
}
