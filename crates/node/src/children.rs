//! The worker processes of this process: found in `/proc`, ended when the node ends for good. A worker outlives a daemon that
//! is restarted or dies, on purpose, for the next one to adopt; one that stops has no next.

use std::{fs, path::Path, time::Duration};

use millrace_sandbox::Child;
use nix::unistd::Pid;
use tracing::debug;

use crate::run_dir;

/// Begins the name of every worker's program; the kernel keeps 15 characters.
const WORKER: &str = "millrace-worker";
/// How long a killed worker may take to be gone.
const DEATH: Duration = Duration::from_millis(500);

/// SIGKILLs every worker that is a child of this process, and removes their files from the node's run directory; how many
/// there were.
pub fn end_workers(run_dir: &Path) -> usize {
    let workers: Vec<Child> = workers()
        .into_iter()
        .filter_map(|pid| Child::adopt(pid.as_raw().unsigned_abs()).ok())
        .collect();
    let count = workers.len();
    end(workers);
    // Finds those that live, and removes the files of the others.
    run_dir::living(run_dir);
    count
}

/// SIGKILLs the workers that an earlier daemon has left in its run directory, and removes their files: for a farm whose router
/// died with its node, so that nobody comes for them. How many there were;
/// none where a daemon still works.
pub fn end_left_behind(run_dir: &Path) -> usize {
    let Ok(_lock) = run_dir::lock(run_dir) else { return 0 };
    let workers: Vec<Child> =
        run_dir::living(run_dir).into_iter().map(|(_, child)| child).collect();
    let count = workers.len();
    end(workers);
    run_dir::living(run_dir);
    count
}

fn end(workers: Vec<Child>) {
    for worker in &workers {
        if let Err(error) = worker.kill() {
            debug!(pid = worker.pid(), %error, "worker not killed");
        }
    }
    for mut worker in workers {
        let _ = worker.wait_for(DEATH);
    }
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
