//! What the programs of a farm hold: descriptors, children, threads, mapped files, memory. For tests that look for what is never
//! given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{ManyFarm, children_of};

/// What one program holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Sockets among them.
    pub sockets: usize,
    /// Child processes.
    pub children: usize,
    /// Those of them that are dead and were not waited for.
    pub zombies: usize,
    /// Threads.
    pub threads: usize,
    /// Files that are mapped into memory, by path: also those that are deleted, and shared memory.
    pub mapped: BTreeSet<String>,
    /// Resident memory that is no file's, bytes.
    pub anonymous_bytes: u64,
}

impl ManyFarm {
    /// What each program holds now, by its name.
    pub fn held(&self) -> BTreeMap<String, Held> {
        let of = |(name, pid): (&String, u32)| (name.clone(), held(pid));
        self.programs.iter().map(|(name, running)| of((name, running.child.id()))).collect()
    }

    /// Resident memory that is no file's of each program, bytes, by its name.
    pub fn anonymous_bytes(&self) -> BTreeMap<String, u64> {
        let pids = self.programs.iter().map(|(name, running)| (name, running.child.id()));
        pids.map(|(name, pid)| (name.clone(), anonymous_bytes(pid))).collect()
    }

    /// How many files lie in the run directory of each node: those of its workers, and what it has measured.
    pub fn run_files(&self) -> BTreeMap<String, usize> {
        let nodes = (1..=self.options.nodes).map(|number| format!("node-{number}"));
        let count =
            |node: &String| fs::read_dir(self.run_dir.join(node)).into_iter().flatten().count();
        nodes.map(|node| (node.clone(), count(&node))).collect()
    }
}

fn held(pid: u32) -> Held {
    let (descriptors, sockets) = open(pid);
    let children = i32::try_from(pid).map_or_else(|_| Vec::new(), children_of);
    let zombies = children.iter().filter(|child| is_zombie(**child)).count();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().count();
    let anonymous_bytes = anonymous_bytes(pid);
    let (children, mapped) = (children.len(), mapped(pid));
    Held { descriptors, sockets, children, zombies, threads, mapped, anonymous_bytes }
}

/// Descriptors, and sockets among them.
fn open(pid: u32) -> (usize, usize) {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
    let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:"));
    (links.len(), sockets.count())
}

/// Whether the process is dead and nobody has waited for it.
pub(super) fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

fn mapped(pid: u32) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| Some(line.get(line.find('/')?..)?.to_owned()));
    paths.collect()
}

fn anonymous_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
