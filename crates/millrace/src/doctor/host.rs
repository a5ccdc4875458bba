//! The machine: ports, cores, memory, descriptors, GPU.

use std::{fs, net::TcpListener, path::Path};

use nix::sys::resource::{Resource, getrlimit};

use super::finding::Finding;
use crate::settings::Listener;

/// Descriptors a farm of one needs for a thousand players.
const DESCRIPTORS: u64 = 4_096;
/// Memory for one full ladder and the window of a few streams.
const MEMORY_MIB: u64 = 1_024;
/// Cores below which a 1080p ladder does not fit.
const CORES: usize = 2;

/// Whether standalone could listen where it would.
pub fn ports(listeners: &[Listener]) -> Vec<Finding> {
    let taken = listeners.iter().filter_map(|listener| {
        let error = TcpListener::bind(listener.address).err()?;
        let found = format!("{}: {error}", listener.address);
        let what_to_do = format!("stop what listens there, or give {} ADDR:PORT", listener.flag);
        Some(Finding::missing("ports", found, &what_to_do))
    });
    let taken: Vec<_> = taken.collect();
    match taken.is_empty() {
        true => {
            let all: Vec<_> =
                listeners.iter().map(|listener| listener.address.port().to_string()).collect();
            vec![Finding::ok("ports", format!("free: {}", all.join(", ")))]
        }
        false => taken,
    }
}

/// Cores, memory, descriptors, GPU.
pub fn machine() -> Vec<Finding> {
    vec![cores(), memory(), descriptors(), gpu()]
}

fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match cores >= CORES {
        true => Finding::ok("cores", cores.to_string()),
        false => Finding::warn("cores", cores.to_string(), "two or more for a 1080p ladder"),
    }
}

fn memory() -> Finding {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let found = format!("{} MiB available", kib / 1024);
    match kib / 1024 >= MEMORY_MIB {
        true => Finding::ok("memory", found),
        false => Finding::warn("memory", found, "1 GiB or more for a 1080p ladder"),
    }
}

fn descriptors() -> Finding {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let found = format!("{soft} open files, at most {hard}");
    match soft >= DESCRIPTORS {
        true => Finding::ok("ulimit -n", found),
        false => {
            Finding::warn("ulimit -n", found, "ulimit -n 16384 before the start: one per player")
        }
    }
}

fn gpu() -> Finding {
    match fs::read_to_string("/proc/driver/nvidia/version") {
        Ok(version) => {
            let first = version.lines().next().unwrap_or_default();
            Finding::ok("gpu", first.trim_start_matches("NVRM version:").trim())
        }
        Err(_) if Path::new("/dev/nvidiactl").exists() => {
            let what_to_do = "load the module nvidia, or give the container the driver";
            Finding::warn("gpu", "a device without its driver: software encoding", what_to_do)
        }
        Err(_) => Finding::ok("gpu", "no GPU: software encoding"),
    }
}
