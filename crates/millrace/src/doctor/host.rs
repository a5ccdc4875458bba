//! The machine: ports, cores, memory, network, descriptors, GPU.

use std::{fs, net::TcpListener, path::Path};

use millrace_node::Egress;
use nix::sys::resource::{Resource, getrlimit};

use super::{
    finding::Finding,
    holder::{Holder, holder},
};
use crate::settings::Listener;

/// Descriptors a farm of one needs for a thousand players.
const DESCRIPTORS: u64 = 4_096;
/// Memory for one full ladder and the window of a few streams.
const MEMORY_MIB: u64 = 1_024;
/// Cores below which a 1080p ladder does not fit.
const CORES: usize = 2;

/// Whether standalone could listen where it would, or does already.
pub fn ports(listeners: &[Listener]) -> Vec<Finding> {
    let (mut free, mut ours, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for Listener { flag, address, .. } in listeners {
        let port = address.port().to_string();
        let Err(error) = TcpListener::bind(address) else {
            free.push(port);
            continue;
        };
        match holder(*address) {
            Some(Holder { pid, name, .. }) if name.starts_with("millrace") => {
                ours.push(format!("{port} by {name} ({pid})"));
            }
            _ => {
                let what_to_do = format!("stop what listens there, or give {flag} ADDR:PORT");
                taken.push(Finding::missing("ports", format!("{address}: {error}"), &what_to_do));
            }
        }
    }
    let said = [("free", free), ("in use", ours)];
    let content = said.into_iter().filter(|(_, ports)| !ports.is_empty());
    let content =
        content.map(|(what, ports)| Finding::ok("ports", format!("{what}: {}", ports.join(", "))));
    content.chain(taken).collect()
}

/// Cores, memory, network, descriptors, GPU.
pub fn machine() -> Vec<Finding> {
    vec![cores(), memory(), network(&Egress::to(&[])), descriptors(), gpu()]
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

/// What a node of a farm of many hosts would go by; a farm of one sends nothing to other hosts' origins.
fn network(egress: &Egress) -> Finding {
    let found = egress.to_string();
    Finding::ok(
        "network",
        match egress.bits_per_second() {
            Some(_) => found,
            None => {
                format!("{found}: a node's egress has no limit but capacity.egress_bits_per_second")
            }
        },
    )
}

fn descriptors() -> Finding {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let found = format!("{soft} open files; programs take {hard}");
    match hard >= DESCRIPTORS {
        true => Finding::ok("ulimit -n", found),
        false => Finding::warn(
            "ulimit -n",
            found,
            "ulimit -H -n 32768 as root before the start: one per player, who have half",
        ),
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
