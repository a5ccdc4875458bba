//! The test runner: installs cargo-nextest where it is missing, and runs the workspace's tests with it.
//!
//! Which tests run alone, are retried or are killed when they hang stands in `.config/nextest.toml`.

use std::{fs, process::Command, process::Stdio};

use anyhow::Result;

use crate::{
    junit::{self, TestCase},
    process,
};

/// What is installed where there is none: known to build with the Rust that we ask for.
const INSTALLED: &str = "cargo-nextest@0.9.143";

/// Installs cargo-nextest unless cargo knows one already, whichever it is; unoptimized, since it waits for tests and takes
/// minutes less to build. Fails when the installation does.
pub fn ensure() -> Result<()> {
    let known = process::cargo(&["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if known {
        return Ok(());
    }
    process::run(&mut process::cargo(&["install", "--locked", "--debug", INSTALLED]))
}

/// What the tests are built as: quick to build and full of checks, or with `full` what ships.
pub const fn cargo_profile(full: bool) -> &'static str {
    if full { "release" } else { "ci" }
}

/// Every test of the workspace. With `full`, the long forms too.
pub fn command(full: bool, filters: &[String]) -> Command {
    let profile = cargo_profile(full);
    let mut command =
        process::cargo(&["nextest", "run", "--workspace", "--cargo-profile", profile]);
    if full {
        command.args(["--profile", "full", "--run-ignored", "all"]).env("MILLRACE_FULL", "1");
    }
    command.args(["--test-threads", &(THREADS_OF_A_TEST * tests_at_once()).to_string()]);
    command.args(filters);
    command
}

/// What a whole-system test takes of nextest's threads by `.config/nextest.toml`; one that waits most of its time takes half as many.
const THREADS_OF_A_TEST: usize = 2;

/// Half as many again as there are cores: whole-system tests wait for real time more than they work. With twice as many, routers
/// and nodes on two cores were at times silent for so long that they gave each other up: no frame is lost, but restarts are counted.
fn tests_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    cores + cores.div_ceil(2)
}

/// Forgets the report of an earlier run, so that it is not taken for the next one's.
pub fn forget_report(full: bool) {
    let _ = fs::remove_file(report_path(full));
}

/// The tests of the run that has just ended; none when it did not come that far.
pub fn results(full: bool) -> Vec<TestCase> {
    fs::read_to_string(report_path(full)).map(|xml| junit::test_cases(&xml)).unwrap_or_default()
}

fn report_path(full: bool) -> std::path::PathBuf {
    let profile = if full { "full" } else { "default" };
    process::root().join("target/nextest").join(profile).join("junit.xml")
}
