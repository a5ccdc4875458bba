//! What the programs of a farm hold: descriptors, children, memory. For tests that look for what is never given back.

use std::{collections::BTreeMap, fs};

use super::{ManyFarm, children_of};

/// What one program holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Child processes.
    pub children: usize,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

impl ManyFarm {
    /// What each program holds now, by its name.
    pub fn held(&self) -> BTreeMap<String, Held> {
        let of = |(name, pid): (&String, u32)| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            let children = i32::try_from(pid).map_or(0, |pid| children_of(pid).len());
            let held = Held { descriptors, children, resident_bytes: resident_bytes(pid) };
            (name.clone(), held)
        };
        self.programs.iter().map(|(name, running)| of((name, running.child.id()))).collect()
    }
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
