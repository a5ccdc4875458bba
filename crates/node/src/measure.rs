//! What this host can do, measured at start: the transcoding worker runs its own short measurement on one core. Cores are those
//! that this program may use, by its affinity and its cgroup.
//!
//! Measured in encoded and decoded pixels per second, with the same codec settings that streams get. Where the
//! measurement fails the node says so and promises nothing that needs an encoder.

use std::{path::Path, process::Stdio, time::Duration};

use millrace_sched::Capacity;
use serde::Deserialize;
use tokio::{process::Command, time::timeout};
use tracing::{error, info, warn};

use crate::{Config, egress::Egress, spares::WorkerPlan, worker_process::WorkerKind};

/// What was measured, in the run directory.
const MEASURED: &str = "capacity.json";

/// How long a measurement may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Workers that a host may have, per core: those that only repackage cost next to nothing else.
const WORKERS_PER_CORE: u64 = 64;

/// The speed of one core.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Speed {
    /// Pixels per second.
    decode_pixels_per_second: u64,
    /// Pixels per second.
    encode_pixels_per_second: u64,
}

/// What the host can do: what is set, and the rest as it is found. `is_busy`: workers of an earlier daemon run.
pub async fn capacity(
    config: &Config,
    plan: &WorkerPlan,
    egress: &Egress,
    is_busy: bool,
) -> Capacity {
    let found = |speed| Found {
        speed,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes().unwrap_or(4 << 30),
        egress_bits_per_second: egress.bits_per_second(),
    };
    if config.capacity.says_pixels() {
        return config.capacity.or(promised(found(Speed::default()), config.usable_share));
    }
    let path = plan.run_dir.path().join(MEASURED);
    let before = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let before: Option<Capacity> = before.filter(|_| is_busy);
    config.capacity.or(match before {
        // That daemon's measurement holds, but for what is found out at any moment: one beside the workers would find less.
        Some(before) => {
            let now = promised(found(Speed::default()), config.usable_share);
            Capacity {
                host_cpu_millicores: now.host_cpu_millicores,
                egress_bits_per_second: now.egress_bits_per_second,
                ..before
            }
        }
        None => {
            let measured = promised(found(one_core(&plan.worker_dir).await), config.usable_share);
            keep(&path, &measured);
            measured
        }
    })
}

/// Keeps a measurement for a later daemon, in the words that one of the build before reads too.
fn keep(path: &Path, measured: &Capacity) {
    let kept = Capacity { host_cpu_millicores: None, egress_bits_per_second: None, ..*measured };
    let text = serde_json::to_vec(&kept).unwrap_or_default();
    if let Err(error) = std::fs::write(path, text) {
        warn!(path = %path.display(), %error, "measurement not kept for a later daemon");
    }
}

/// Runs `millrace-worker-av measure`, which prints a [`Speed`] as JSON.
async fn one_core(worker_dir: &Path) -> Speed {
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

/// A host as it was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// Of one core.
    speed: Speed,
    /// Cores that this program may use.
    cores: usize,
    /// Of the host.
    memory_bytes: u64,
    /// Speed of its network, bits per second; `None`: nobody knows, or nothing leaves by it.
    egress_bits_per_second: Option<u64>,
}

/// What may be promised to streams: the speed of one core times the cores, and the rest, less what is kept free.
fn promised(found: Found, usable_share: f64) -> Capacity {
    let Found { speed, cores, memory_bytes, egress_bits_per_second } = found;
    let usable = |amount: u64| (amount as f64 * usable_share) as u64;
    let of_all_cores = |speed: u64| (speed as f64 * cores as f64 * usable_share) as u64;
    Capacity {
        host_cpu_millicores: Some(of_all_cores(1_000)),
        egress_bits_per_second: egress_bits_per_second.map(usable),
        decode_pixels_per_second: of_all_cores(speed.decode_pixels_per_second),
        encode_pixels_per_second: of_all_cores(speed.encode_pixels_per_second),
        workers: WORKERS_PER_CORE * cores as u64,
        memory_bytes: usable(memory_bytes),
    }
}

/// Memory of the host, bytes (`MemTotal` of proc(5)).
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_85_per_cent_of_what_was_measured_is_promised_to_streams() {
        let speed =
            Speed { decode_pixels_per_second: 500_000_000, encode_pixels_per_second: 100_000_000 };
        let found = Found {
            speed,
            cores: 4,
            memory_bytes: 32_000_000_000,
            egress_bits_per_second: Some(1_000_000_000),
        };
        let share = Config::default().usable_share;
        let expected = Capacity {
            host_cpu_millicores: Some(3_400),
            egress_bits_per_second: Some(850_000_000),
            decode_pixels_per_second: 1_700_000_000,
            encode_pixels_per_second: 340_000_000,
            workers: 256,
            memory_bytes: 27_200_000_000,
        };
        assert_eq!(promised(found, share), expected);
        let unknown = Found { egress_bits_per_second: None, ..found };
        assert_eq!(promised(unknown, share).egress_bits_per_second, None, "not limited");
    }
}
