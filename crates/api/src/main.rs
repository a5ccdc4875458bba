//! `millrace-api`: arguments, configuration, logs, run until a signal, stop.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use millrace_api::Config;
use millrace_registry::Registry;
use millrace_telemetry::{LogFormat, Metrics, init_logs, version_line};
use tokio::signal::unix::{SignalKind, signal};

/// Shows what is live, keeps channels and stream keys, serves the console.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    /// Settings; without it the defaults hold.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where the API and the console are.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_api: Option<SocketAddr>,
    /// Where metrics and health are.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_admin: Option<SocketAddr>,
    /// What to log, such as `info` or `millrace_api=debug,info`.
    #[arg(long, default_value = "info")]
    log: String,
}

impl Arguments {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config: Config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                toml::from_str(&text).with_context(|| path.display().to_string())?
            }
        };
        config.listen_api = self.listen_api.unwrap_or(config.listen_api);
        config.listen_admin = self.listen_admin.unwrap_or(config.listen_admin);
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = arguments.config()?;
    init_logs(&arguments.log, LogFormat::Auto)?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let api = millrace_api::start(config, Registry::in_memory(), Metrics::new()).await?;
    tracing::info!(api = %api.addresses.api, admin = %api.addresses.admin, "api started");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("api stops");
    api.stop().await;
    Ok(())
}
