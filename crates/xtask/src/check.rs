//! `cargo xtask check`: the rules of the house, without running Millrace.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    arguments::Arguments,
    nextest, process,
    steps::{self, Step},
    toolchain,
};

/// Format, clippy and the house tests.
pub fn check(arguments: Arguments) -> Result<ExitCode> {
    arguments.end()?;
    let report = steps::run(vec![
        tools(),
        Step::command("format", format()),
        Step::command("clippy", clippy()),
        Step::work("test runner", "cargo install --locked --debug cargo-nextest", nextest::ensure),
        Step::command("house rules", house()),
    ]);
    eprint!("\n{}", report.table());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the next ones need of Rust.
pub fn tools<'a>() -> Step<'a> {
    Step::work("tools", "rustup component add clippy rustfmt", toolchain::ensure)
}

/// Whether every file is formatted.
pub fn format() -> Command {
    process::cargo(&["fmt", "--all", "--check"])
}

/// Every lint, in the profile of the tests: it shares build scripts and macros with their build.
pub fn clippy() -> Command {
    process::cargo(&[
        "clippy",
        "--profile",
        "ci",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

fn house() -> Command {
    process::cargo(&[
        "nextest",
        "run",
        "--cargo-profile",
        "ci",
        "-p",
        "millrace-tests",
        "--test",
        "house",
    ])
}
