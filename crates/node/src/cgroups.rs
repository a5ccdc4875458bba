//! A cgroup for each worker, below that of the node's unit, where the host gives the node one to divide.

use std::sync::Arc;

use millrace_sandbox::{Cgroup, CgroupLimits, Hierarchy, Limits};
use tokio::sync::watch;
use tracing::{info, warn};

/// Threads that a worker may have; those we build have one for each rung and a few more.
const THREADS: u32 = 256;
/// What every cgroup has.
const CPU_WEIGHT: u16 = 100;

/// Gives workers their cgroups; clones share them.
#[derive(Clone, Debug)]
pub struct Cgroups(Arc<Result<(Hierarchy, CgroupLimits), String>>);

impl Cgroups {
    /// Divides the node's own cgroup if that is `wanted`. Where it cannot be, workers have none, and their reports say why.
    pub fn of_this_node(wanted: bool, limits: &Limits) -> Self {
        if !wanted {
            return Self(Arc::new(Err("divide_cgroup is not set".to_owned())));
        }
        let (memory_bytes, threads) = (limits.memory_bytes, THREADS);
        let limits = CgroupLimits { memory_bytes, threads, cpu_weight: CPU_WEIGHT };
        let divided = Hierarchy::delegated();
        match &divided {
            Ok(_) => info!(memory_bytes, threads, "each worker has a cgroup of its own"),
            Err(error) => warn!(%error, "workers have no cgroups of their own"),
        }
        let divided = divided.map(|hierarchy| (hierarchy, limits));
        Self(Arc::new(divided.map_err(|error| error.to_string())))
    }

    /// The cgroup of a worker and what to report of it. One that an earlier daemon placed gets its limits anew.
    pub fn place(&self, pid: u32) -> (Option<Cgroup>, String) {
        let placed = match &*self.0 {
            Ok((hierarchy, limits)) => {
                let placed = hierarchy.place(&pid.to_string(), pid, *limits);
                placed.map_err(|error| {
                    warn!(pid, %error, "worker has no cgroup of its own");
                    error.to_string()
                })
            }
            Err(why) => Err(why.clone()),
        };
        match placed {
            Ok(cgroup) => (Some(cgroup), "applied".to_owned()),
            Err(why) => (None, format!("unavailable: {why}")),
        }
    }
}

/// Whether a worker died for want of memory.
#[derive(Debug)]
pub struct OutOfMemory {
    /// Whether its last words were that no memory was left.
    pub said: watch::Receiver<bool>,
    /// The kernel counts whom it kills in it.
    pub cgroup: Option<Cgroup>,
}

impl OutOfMemory {
    /// By what is known now.
    pub fn is_so(&self) -> bool {
        let killed = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
        *self.said.borrow() || killed.is_some_and(|count| count > 0)
    }

    /// Its worker is gone.
    pub fn remove_cgroup(&mut self) {
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.remove()
        {
            // The next daemon sweeps.
            warn!(%error, "a worker's cgroup stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_a_cgroup_says_why_and_its_last_words_count() {
        let limits = Limits { memory_bytes: 1 << 30, threads: None, user: None };
        let (cgroup, state) = Cgroups::of_this_node(false, &limits).place(std::process::id());
        assert_eq!(state, "unavailable: divide_cgroup is not set");
        let (says, said) = watch::channel(false);
        let mut out_of_memory = OutOfMemory { said, cgroup };
        assert!(!out_of_memory.is_so());
        says.send_replace(true);
        assert!(out_of_memory.is_so());
        out_of_memory.remove_cgroup();
    }
}
