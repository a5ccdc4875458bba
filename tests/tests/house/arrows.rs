//! Which crate may depend on which: the order of `docs/adr/0001-crates-and-arrows.md`, read off `cargo metadata`.

use std::process::Command;

use crate::{assert_clean, tree};

/// Every crate, in order: each may depend on those above it, and is silent about those below.
const ORDER: &[&str] = &[
    "millrace-types",
    "millrace-media",
    "millrace-hls",
    "millrace-sched",
    "millrace-lifecycle",
    "millrace-telemetry",
    "millrace-tls",
    "millrace-wire",
    "millrace-registry",
    "millrace-sandbox",
    "millrace-hosts",
    "millrace-transcode",
    "millrace-software",
    "millrace-gpu",
    "millrace-publisher",
    "millrace-worker",
    "millrace-worker-av",
    "millrace-router",
    "millrace-node",
    "millrace-origin",
    "millrace-api",
    "millrace",
    "millrace-testkit",
    "millrace-gpu-sim",
    "millrace-tests",
    "millrace-benches",
];

/// They meet over sockets only.
const PROGRAMS: &[&str] = &["millrace-router", "millrace-node", "millrace-origin", "millrace-api"];

/// They hold C, and only what runs inside a confined worker may link them (the generic worker tests itself with one).
const BACKENDS: &[&str] = &["millrace-software", "millrace-gpu"];
const MAY_LINK_BACKENDS: &[&str] = &["millrace-worker-av", "millrace-tests", "millrace-benches"];

/// They may use the test kit in their own tests.
const MAY_TEST_WITH_KIT: &[&str] = &[
    "millrace-worker",
    "millrace-worker-av",
    "millrace-router",
    "millrace-node",
    "millrace-origin",
    "millrace-api",
    "millrace",
];

/// No tokio, no clock, no I/O, no randomness.
const PURE: &[&str] =
    &["millrace-types", "millrace-media", "millrace-hls", "millrace-sched", "millrace-lifecycle"];

/// What a pure crate may use: values, bytes, memory, formats. None of them reads a clock, a file or a random number; memmap2,
/// which could, is there for memory without a file.
const PURE_MAY_USE: &[&str] = &[
    "bytes",
    "data-encoding",
    "memmap2",
    "mp4-atom",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "thiserror",
];

/// One dependency as cargo tells it.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    /// `None` is a normal dependency, else `dev` or `build`.
    kind: Option<&'a str>,
}

impl Arrow<'_> {
    /// Why this dependency may not be; `None` when it may.
    fn fault(&self) -> Option<&'static str> {
        let ours = |name: &str| name == "xtask" || name.starts_with("millrace");
        let rank = |name| ORDER.iter().position(|listed| *listed == name);
        if !ours(self.to) {
            let pure = PURE.contains(&self.from) && self.kind.is_none();
            return (pure && !PURE_MAY_USE.contains(&self.to))
                .then_some("a pure crate uses only what has no clock, no I/O and no randomness");
        }
        if self.from == "xtask" || self.to == "xtask" {
            return Some("xtask stands alone");
        }
        let (Some(from), Some(to)) = (rank(self.from), rank(self.to)) else {
            return Some("the crate has no place in the order");
        };
        if self.to == "millrace-testkit" {
            let tests = ["millrace-tests", "millrace-benches"].contains(&self.from);
            let dev = self.kind == Some("dev") && MAY_TEST_WITH_KIT.contains(&self.from);
            return (!tests && !dev).then_some("the test kit serves tests only");
        }
        if PROGRAMS.contains(&self.from) && PROGRAMS.contains(&self.to) {
            return Some("programs meet over sockets only");
        }
        let tests_a_worker = self.from == "millrace-worker" && self.kind == Some("dev");
        if BACKENDS.contains(&self.to) && !MAY_LINK_BACKENDS.contains(&self.from) && !tests_a_worker
        {
            return Some("a backend with C is linked by its worker only");
        }
        (to >= from).then_some("it stands below in the order")
    }
}

fn faults<'a>(arrows: impl Iterator<Item = Arrow<'a>>) -> Vec<String> {
    arrows
        .filter_map(|arrow| {
            let fault = arrow.fault()?;
            let kind = arrow.kind.unwrap_or("normal");
            Some(format!("{} -> {} ({kind}): {fault}", arrow.from, arrow.to))
        })
        .collect()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(tree::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_dependency_follows_the_order_of_crates() {
    let metadata = metadata();
    let mut arrows = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        assert!(from == "xtask" || ORDER.contains(&from), "{from} has no place in the order");
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            arrows.push(Arrow { from, to, kind: dependency["kind"].as_str() });
        }
    }
    assert!(packages.len() > 20 && arrows.len() > 100, "cargo metadata is not what it was");
    assert_clean(&faults(arrows.into_iter()));
}

#[cfg(test)]
mod the_rule_fails_on {
    use super::*;

    fn refused(from: &str, to: &str, kind: Option<&str>) -> bool {
        Arrow { from, to, kind }.fault().is_some()
    }

    #[test]
    fn arrows_that_point_down_or_to_the_crate_itself() {
        assert!(refused("millrace-types", "millrace-media", None));
        assert!(refused("millrace-sched", "millrace-sched", None));
        assert!(!refused("millrace-media", "millrace-types", None));
        assert!(refused("millrace-types", "millrace-media", Some("dev")));
    }

    #[test]
    fn programs_that_know_each_other_and_crates_nobody_placed() {
        assert!(refused("millrace-node", "millrace-router", None));
        assert!(refused("millrace-api", "millrace-origin", Some("dev")));
        assert!(!refused("millrace", "millrace-origin", None));
        assert!(refused("millrace-shortcuts", "millrace-types", None));
    }

    #[test]
    fn c_outside_its_worker_and_the_test_kit_outside_tests() {
        assert!(refused("millrace", "millrace-software", None));
        assert!(refused("millrace-worker", "millrace-software", None));
        assert!(!refused("millrace-worker", "millrace-software", Some("dev")));
        assert!(!refused("millrace-worker-av", "millrace-software", None));
        assert!(refused("millrace-router", "millrace-testkit", None));
        assert!(!refused("millrace-router", "millrace-testkit", Some("dev")));
        assert!(refused("millrace-media", "millrace-testkit", Some("dev")));
        assert!(!refused("millrace-tests", "millrace-testkit", None));
    }

    #[test]
    fn a_pure_crate_that_takes_a_runtime_or_dice_except_in_its_tests() {
        assert!(refused("millrace-media", "tokio", None));
        assert!(refused("millrace-sched", "rand", None));
        assert!(!refused("millrace-sched", "proptest", Some("dev")));
        assert!(!refused("millrace-node", "tokio", None));
        assert!(refused("xtask", "millrace-types", None));
    }
}
