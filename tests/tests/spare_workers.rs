//! A spare worker that dies before it has served anybody: it is buried and replaced, so that the next stream finds one.

use std::{collections::BTreeSet, time::Duration};

use millrace_testkit::until_some;
use millrace_tests::{Farm, FarmOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The first start of a program on a host reads it, and FFmpeg with it, from the disk.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_spare_worker_that_dies_is_replaced_and_leaves_no_zombie() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let spares = async |old: BTreeSet<i32>| {
        let fresh = until_some("two spares that are not the old ones", PATIENCE, async || {
            let children = children(farm.pid());
            (children.len() == 2 && children.is_disjoint(&old)).then_some(children)
        });
        fresh.await.unwrap()
    };
    let first = spares(BTreeSet::new()).await;
    for pid in &first {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    }
    spares(first).await;
}

/// Child processes, the dead that nobody has waited for among them.
fn children(parent: i32) -> BTreeSet<i32> {
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2));
        parent_of == Some(&parent.to_string())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}
