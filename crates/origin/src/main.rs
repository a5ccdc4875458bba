//! `millrace-origin`: arguments, configuration, logs, run until a signal, stop.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use millrace_origin::Config;
use millrace_telemetry::{LogFormat, Metrics, init_logs, version_line};
use tokio::signal::unix::{SignalKind, signal};

/// Serves live streams as Low-Latency HLS.
#[derive(Debug, Parser)]
#[command(version = version_line())]
struct Arguments {
    /// Settings; without it the defaults hold.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where players connect.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_playback: Option<SocketAddr>,
    /// Where players connect with HTTPS.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_playback_tls: Option<SocketAddr>,
    /// Where nodes push media.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_intake: Option<SocketAddr>,
    /// Where metrics and health are.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_admin: Option<SocketAddr>,
    /// What to log, such as `info` or `millrace_origin=debug,info`.
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
        let listeners = [
            (&mut config.listen_playback, self.listen_playback),
            (&mut config.listen_playback_tls, self.listen_playback_tls),
            (&mut config.listen_intake, self.listen_intake),
            (&mut config.listen_admin, self.listen_admin),
        ];
        for (address, given) in listeners {
            *address = given.unwrap_or(*address);
        }
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
    let origin = millrace_origin::start(config, Metrics::new()).await?;
    let addresses = origin.addresses;
    tracing::info!(
        playback = %addresses.playback, intake = %addresses.intake, admin = %addresses.admin,
        "origin started"
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("origin stops");
    origin.stop().await;
    Ok(())
}
