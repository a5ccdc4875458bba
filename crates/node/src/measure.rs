//! What this host can do, measured at start: the transcoding worker runs its own short measurement on one core.
//!
//! Measured in encoded and decoded pixels per second, with the same codec settings that streams get. Where the
//! measurement fails the node says so and promises nothing that needs an encoder.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{process::Command, time::timeout};
use tracing::{error, info};

use crate::worker_process::WorkerKind;

/// How long a measurement may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The speed of one core.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Speed {
    /// Pixels per second.
    pub decode_pixels_per_second: u64,
    /// Pixels per second.
    pub encode_pixels_per_second: u64,
}

/// Runs `millrace-worker-av measure`, which prints a [`Speed`] as JSON.
pub async fn one_core(worker_dir: &Path) -> Speed {
    let program = worker_dir.join(WorkerKind::Transcode.program());
    let mut command = Command::new(&program);
    command.arg("measure").stdin(Stdio::null()).env_clear().kill_on_drop(true);
    let why = match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => match serde_json::from_slice(&output.stdout) {
            Ok(speed) => {
                info!(?speed, "one core measured");
                return speed;
            }
            Err(error) => error.to_string(),
        },
        Ok(Ok(output)) => {
            format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no result within {PATIENCE:?}"),
    };
    error!(why, "measurement failed: this node takes passthrough streams only");
    Speed::default()
}

/// Memory of the host, bytes (`MemTotal` of proc(5)).
pub fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
