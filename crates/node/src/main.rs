//! `millrace-node`: arguments, configuration, logs, run until a signal, hand the streams over, stop. Its workers stay.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use millrace_node::{Config, end_workers};
use millrace_registry::{OwnSettings, ProgramSettings, Registry};
use millrace_sandbox::Hierarchy;
use millrace_telemetry::{
    Metrics, Program, ProgramArguments, RelayThreads, SettingsError, SettingsFile,
    give_back_spare_memory, reloaded, version_line,
};
use serde_json::json;

/// From one look at the sockets to the next, at least. What a router sends comes in its own beats: a short one of ours keeps their
/// streams together and delays them little, there and back.
const BEAT: Duration = Duration::from_millis(5);
/// How long routers may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the registry may take to be seen, before the node works without it.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Runs one host's workers, one process for each stream.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Where routers connect.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_link: Option<SocketAddr>,
    /// Where metrics and health are.
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    listen_admin: Option<SocketAddr>,
    /// Gives each worker a cgroup of its own below this program's, which a systemd unit with `Delegate=` may divide.
    #[arg(long)]
    divide_cgroup: bool,
    /// Does nothing but make such a cgroup fit to start the next daemon in, beside workers that live: for `ExecStopPost=`.
    #[arg(long)]
    give_cgroup_back: bool,
}

impl Arguments {
    fn settings(&self) -> Result<ProgramSettings<Config>, SettingsError> {
        let file = SettingsFile::read(self.program.config.as_deref(), "node")?;
        let mut settings = ProgramSettings::<Config>::read(file)?;
        let config = &mut settings.own;
        config.listen_link = self.listen_link.unwrap_or(config.listen_link);
        config.listen_admin = self.listen_admin.unwrap_or(config.listen_admin);
        config.divide_cgroup |= self.divide_cgroup;
        Ok(settings)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    eprintln!("millrace-node: {error:#}");
    // 2: a person must change something first, so a supervisor does not start it again.
    if error.is::<SettingsError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.give_cgroup_back {
        return Hierarchy::give_back().context("the cgroup stays divided");
    }
    let settings = arguments.settings()?;
    let in_force = settings.in_force();
    let ProgramSettings { log, registry, own: config } = settings;
    let mut program = Program::begin(&arguments.program, &log)?;
    config.warn_of_doubts();
    give_back_spare_memory();
    let registry = Registry::connect(&registry).map_err(SettingsError::of)?;
    let metrics = Metrics::new();
    registry.show(&metrics);
    let (name, run_dir) = (config.name.clone(), config.run_dir.clone());
    let threads = RelayThreads::start(BEAT).context("relay threads")?;
    // Workers of the daemon before, and their routers, wait for nothing but this one.
    let starting = async {
        let node = millrace_node::start(config, registry.clone(), metrics, threads).await;
        registry.synced(SYNC_PATIENCE).await;
        node
    };
    let Some(node) = program.start(starting).await else {
        end_workers(&run_dir);
        return Ok(());
    };
    let node = node.map_err(|error| match error.is_of_settings() {
        true => SettingsError::of(error).into(),
        false => anyhow::Error::new(error).context("node"),
    })?;
    let at = node.addresses;
    program.ready(&json!({ "name": name, "link": at.link, "admin": at.admin }))?;
    let reload = async || {
        let read = arguments.settings().map(|read| (read.log.clone(), read));
        reloaded(&arguments.program, &in_force, read, async |_| node.reload()).await;
    };
    program.run(reload).await;
    program.drain(PATIENCE, node.hand_over()).await;
    Ok(())
}
