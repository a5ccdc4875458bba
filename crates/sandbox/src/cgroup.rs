//! Memory, CPU and process limits of a worker by cgroup v2, set by the node, where the host delegates them.
//!
//! The node's own cgroup becomes the root of two kinds of leaves, because a cgroup with controllers for its children may
//! hold no process itself (cgroups(7), "no internal processes"): `daemon` for the node, `worker-<name>` for each
//! worker. Workers keep theirs when the daemon is restarted.
//!
//! For the same reason a supervisor that starts the next daemon in the root of it (systemd before 254) cannot, as long as
//! workers live below: [`Hierarchy::give_back`] takes the controllers off in between. Until the next daemon divides it again
//! and sets them anew, no limit by cgroup holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The leaf in which the node itself lives,
const DAEMON: &str = "daemon";
/// and its share when CPUs are short: workers that use every core must not make it late.
const DAEMON_CPU_WEIGHT: &str = "1000";
/// Where systemd runs what it runs beside a unit's main process, once that has divided its cgroup.
const CONTROL: &str = ".control";
/// Begins the name of a worker's leaf.
const WORKER: &str = "worker-";
/// What a host must delegate.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A limit by cgroup was not set.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup v2, or not ours to divide.
    #[error("{0}")]
    NotDelegated(String),
    /// A file of the cgroup was not read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What became of it.
        why: io::Error,
    },
}

/// Limits of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupLimits {
    /// `memory.max` in bytes, everything included that the kernel holds for the worker; never swapped.
    pub memory_bytes: u64,
    /// `pids.max`: its threads.
    pub threads: u32,
    /// `cpu.weight`: its share when CPUs are short, 1 to 10,000, where 100 is what others have.
    pub cpu_weight: u16,
}

/// The part of the host's cgroup tree that was delegated to the node.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    root: PathBuf,
}

impl Hierarchy {
    /// Finds the node's own cgroup, moves the node into a leaf of it and hands the controllers to its siblings.
    ///
    /// # Errors
    /// The host delegates none, and why; report it as [`crate::Measure::Cgroup`] and go on without.
    pub fn delegated() -> Result<Self, CgroupError> {
        Self::divide(own_root()?)
    }

    /// Undoes what [`Hierarchy::delegated`] did, except that workers stay in their leaves: for a process that systemd runs
    /// between two daemons of a unit, in a leaf of its own beside theirs. Anywhere else, and where nothing was divided,
    /// nothing changes.
    ///
    /// # Errors
    /// A file of the cgroup could not be read or written.
    pub fn give_back() -> Result<(), CgroupError> {
        let own = read(Path::new("/proc/self/cgroup"))?;
        let is_beside_a_daemon = own.lines().any(|line| {
            line.strip_prefix("0::/").is_some_and(|path| path.ends_with(&format!("/{CONTROL}")))
        });
        if is_beside_a_daemon { Self::undivide(&own_root()?) } else { Ok(()) }
    }

    fn undivide(root: &Path) -> Result<(), CgroupError> {
        let divided = root.join("cgroup.subtree_control");
        let given = read(&divided)?;
        let taken: Vec<_> = given.split_whitespace().map(|name| format!("-{name}")).collect();
        if taken.is_empty() { Ok(()) } else { write(&divided, &taken.join(" ")) }
    }

    fn divide(root: PathBuf) -> Result<Self, CgroupError> {
        let offered = read(&root.join("cgroup.controllers"))?;
        let missing: Vec<_> = CONTROLLERS
            .into_iter()
            .filter(|wanted| !offered.split_whitespace().any(|found| found == *wanted))
            .collect();
        if !missing.is_empty() {
            return Err(CgroupError::NotDelegated(format!(
                "{} has no {} controller (a hybrid hierarchy, or not delegated)",
                root.display(),
                missing.join(", ")
            )));
        }
        let daemon = root.join(DAEMON);
        let own = std::process::id().to_string();
        create(&daemon)?;
        let wanted = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
        let divided = write(&daemon.join("cgroup.procs"), &own)
            .and_then(|()| write(&root.join("cgroup.subtree_control"), &wanted));
        if let Err(error) = divided {
            // Others live in it, or it is not ours to divide: leave it as it was found.
            let _ = write(&root.join("cgroup.procs"), &own);
            let _ = fs::remove_dir(&daemon);
            return Err(error);
        }
        // Without it the daemon is one among its workers, and may be late.
        let _ = write(&daemon.join("cpu.weight"), DAEMON_CPU_WEIGHT);
        let hierarchy = Self { root };
        hierarchy.sweep();
        Ok(hierarchy)
    }

    /// Removes the leaves of workers that ended while no daemon was there; the kernel keeps those that live.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let leaves = entries.flatten().map(|entry| entry.path());
        let is_worker = |leaf: &PathBuf| {
            let name = leaf.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(WORKER))
        };
        leaves.filter(is_worker).for_each(|leaf| drop(fs::remove_dir(leaf)));
    }

    /// Creates the leaf of a worker, or takes the one that an earlier daemon gave it, sets its limits and moves the process in,
    /// all its threads with it.
    ///
    /// # Errors
    /// The kernel refused one of them; the leaf is gone again.
    pub fn place(&self, name: &str, pid: u32, limits: CgroupLimits) -> Result<Cgroup, CgroupError> {
        let leaf = self.root.join(format!("{WORKER}{name}"));
        create(&leaf)?;
        let cgroup = Cgroup { path: leaf };
        let set = || {
            write(&cgroup.path.join("memory.max"), &limits.memory_bytes.to_string())?;
            write(&cgroup.path.join("pids.max"), &limits.threads.to_string())?;
            write(&cgroup.path.join("cpu.weight"), &limits.cpu_weight.to_string())?;
            // A kernel without swap has no such file.
            let swap = cgroup.path.join("memory.swap.max");
            if swap.exists() {
                write(&swap, "0")?;
            }
            write(&cgroup.path.join("cgroup.procs"), &pid.to_string())
        };
        if let Err(error) = set() {
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }
}

/// The leaf of one worker.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// How often the kernel killed in it for want of memory (`oom_kill` in `memory.events`).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let events = read(&self.path.join("memory.events"))?;
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
    }

    /// Removes it, once its last process is reaped.
    ///
    /// # Errors
    /// A process is still in it.
    pub fn remove(&self) -> Result<(), CgroupError> {
        fs::remove_dir(&self.path).map_err(|why| file_error(&self.path, why))
    }
}

fn own_root() -> Result<PathBuf, CgroupError> {
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let own = read(Path::new("/proc/self/cgroup"))?;
    own_cgroup(&mounts, &own).map_err(CgroupError::NotDelegated)
}

/// Where the calling process's cgroup v2 is: the mount point of `cgroup2` plus its path in `/proc/self/cgroup`, without
/// the leaf that an earlier call has moved it to, or its supervisor.
fn own_cgroup(mountinfo: &str, own: &str) -> Result<PathBuf, String> {
    let mount = mountinfo
        .lines()
        .find(|line| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup2 ")))
        .and_then(|line| line.split(' ').nth(4))
        .ok_or("no cgroup v2 is mounted")?;
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or("the process is in no cgroup v2")?;
    let in_leaf = [DAEMON, CONTROL].into_iter().find_map(|leaf| path.strip_suffix(leaf));
    let path = in_leaf.unwrap_or(path).trim_end_matches('/');
    Ok(if path.is_empty() { PathBuf::from(mount) } else { Path::new(mount).join(path) })
}

fn create(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file_error(path, error)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|why| file_error(path, why))
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(|why| file_error(path, why))
}

fn file_error(path: &Path, why: io::Error) -> CgroupError {
    CgroupError::File { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 1 0:20 / /proc rw - proc proc rw\n\
        30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn own_cgroup_is_found_with_and_without_the_leaf_of_an_earlier_daemon() {
        let unit = Path::new("/sys/fs/cgroup/system.slice/millrace-node.service");
        for own in [
            "0::/system.slice/millrace-node.service\n",
            "1:cpu:/\n0::/system.slice/millrace-node.service/daemon\n",
            "0::/system.slice/millrace-node.service/.control\n",
        ] {
            assert_eq!(own_cgroup(UNIFIED, own).as_deref(), Ok(unit));
        }
        assert_eq!(own_cgroup(UNIFIED, "0::/").as_deref(), Ok(Path::new("/sys/fs/cgroup")));
        assert_eq!(own_cgroup("", "0::/"), Err("no cgroup v2 is mounted".to_owned()));
    }

    /// A directory laid out like a delegated cgroup shows what is written where; that the kernel obeys, it cannot show.
    #[test]
    fn a_worker_is_placed_below_its_limits_and_the_node_in_its_own_leaf() {
        let root = std::env::temp_dir().join(format!("millrace-cgroup-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let hierarchy = Hierarchy::divide(root.clone()).unwrap();
        let limits = CgroupLimits { memory_bytes: 1 << 28, threads: 64, cpu_weight: 100 };
        let cgroup = hierarchy.place("demo", 4321, limits).unwrap();
        fs::write(cgroup.path.join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();

        let written = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(written("daemon/cgroup.procs"), std::process::id().to_string());
        assert_eq!(written("cgroup.subtree_control"), "+cpu +memory +pids");
        assert_eq!(written("worker-demo/memory.max"), (1 << 28).to_string());
        assert_eq!(written("worker-demo/pids.max"), "64");
        assert_eq!(written("worker-demo/cpu.weight"), "100");
        assert_eq!(written("worker-demo/cgroup.procs"), "4321");
        assert_eq!(written("daemon/cpu.weight"), "1000");
        assert_eq!(cgroup.oom_kills().unwrap(), 2);

        // As the kernel shows it.
        fs::write(root.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        fs::create_dir(root.join("worker-gone")).unwrap();
        Hierarchy::undivide(&root).unwrap();
        assert_eq!(written("cgroup.subtree_control"), "-cpu -memory -pids");
        fs::write(root.join("cgroup.subtree_control"), "\n").unwrap();
        Hierarchy::undivide(&root).unwrap();
        assert_eq!(written("cgroup.subtree_control"), "\n", "there is nothing to give back");
        let next = Hierarchy::divide(root.clone()).unwrap();
        assert!(!root.join("worker-gone").exists(), "its worker has ended meanwhile");
        next.place("demo", 4321, CgroupLimits { threads: 32, ..limits }).unwrap();
        assert_eq!(written("worker-demo/pids.max"), "32");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn missing_controllers_are_named() {
        let root = std::env::temp_dir().join(format!("millrace-hybrid-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpu\n").unwrap();
        let why = Hierarchy::divide(root.clone()).unwrap_err().to_string();
        assert!(why.contains("has no memory, pids controller"), "{why}");
        fs::remove_dir_all(root).unwrap();
    }
}
