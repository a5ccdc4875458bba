//! What this host can do, measured at start: the transcoding worker runs its own short measurement on one core.
//!
//! Measured in encoded and decoded pixels per second, with the same codec settings that streams get. Where the
//! measurement fails the node says so and promises nothing that needs an encoder.

use std::{path::Path, process::Stdio, time::Duration};

use millrace_sched::Capacity;
use serde::Deserialize;
use tokio::{process::Command, time::timeout};
use tracing::{error, info};

use crate::worker_process::WorkerKind;

/// How long a measurement may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Workers that a host may have, per core: those that only repackage cost next to nothing else.
const WORKERS_PER_CORE: u64 = 64;

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
                let Speed { decode_pixels_per_second, encode_pixels_per_second } = speed;
                info!(decode_pixels_per_second, encode_pixels_per_second, "one core measured");
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

/// What may be promised to streams: the speed of one core times the cores, and the memory in bytes, less what is kept free.
pub fn promised(speed: Speed, cores: usize, memory_bytes: u64, usable_share: f64) -> Capacity {
    let of_all_cores = |speed: u64| (speed as f64 * cores as f64 * usable_share) as u64;
    Capacity {
        decode_pixels_per_second: of_all_cores(speed.decode_pixels_per_second),
        encode_pixels_per_second: of_all_cores(speed.encode_pixels_per_second),
        workers: WORKERS_PER_CORE * cores as u64,
        memory_bytes: (memory_bytes as f64 * usable_share) as u64,
    }
}

/// Memory of the host, bytes (`MemTotal` of proc(5)).
pub fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn no_more_than_85_per_cent_of_what_was_measured_is_promised_to_streams() {
        let speed =
            Speed { decode_pixels_per_second: 500_000_000, encode_pixels_per_second: 100_000_000 };
        let promised = promised(speed, 4, 32_000_000_000, Config::default().usable_share);
        let expected = Capacity {
            decode_pixels_per_second: 1_700_000_000,
            encode_pixels_per_second: 340_000_000,
            workers: 256,
            memory_bytes: 27_200_000_000,
        };
        assert_eq!(promised, expected);
    }
}
