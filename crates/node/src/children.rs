//! The worker processes of this process: found in `/proc`, ended when the node ends. A worker outlives a daemon that dies, on
//! purpose, for the next one to adopt; one that stops has no next.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracing::debug;

/// Begins the name of every worker's program; the kernel keeps 15 characters.
const WORKER: &str = "millrace-worker";

/// SIGKILLs every worker that is a child of this process; how many there were.
pub fn end_workers() -> usize {
    let workers = workers();
    for pid in &workers {
        if let Err(errno) = kill(*pid, Signal::SIGKILL) {
            debug!(%pid, %errno, "worker not killed");
        }
    }
    workers.len()
}

fn workers() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let children = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = children.flat_map(|line| {
        line.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).collect::<Vec<_>>()
    });
    pids.filter(|pid| is_worker(Path::new(&format!("/proc/{pid}/comm"))))
        .map(Pid::from_raw)
        .collect()
}

fn is_worker(comm: &Path) -> bool {
    fs::read_to_string(comm).is_ok_and(|name| name.starts_with(WORKER))
}
