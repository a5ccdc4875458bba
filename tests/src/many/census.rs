//! What the programs of a farm hold: descriptors, children, memory. For tests that look for what is never given back.

use std::{collections::BTreeMap, fs};

use super::{ManyFarm, children_of};

/// What one program holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Sockets among them.
    pub sockets: usize,
    /// Child processes.
    pub children: usize,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

impl ManyFarm {
    /// What each program holds now, by its name.
    pub fn held(&self) -> BTreeMap<String, Held> {
        let of = |(name, pid): (&String, u32)| {
            let (descriptors, sockets) = open(pid);
            let children = i32::try_from(pid).map_or(0, |pid| children_of(pid).len());
            let held = Held { descriptors, sockets, children, resident_bytes: resident_bytes(pid) };
            (name.clone(), held)
        };
        self.programs.iter().map(|(name, running)| of((name, running.child.id()))).collect()
    }
}

/// Descriptors, and sockets among them.
fn open(pid: u32) -> (usize, usize) {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
    let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:"));
    (links.len(), sockets.count())
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
