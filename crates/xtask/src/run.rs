//! `cargo xtask run`: from a fresh machine to a running farm of one, in one command.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::Result;

use crate::{
    arguments::Arguments,
    packages, process,
    setup::{self, Fitness},
};

/// What a farm is made of: of one, and the small one of `millrace farm up`, whose programs add little to build.
const PROGRAMS: [&str; 7] = [
    "millrace",
    "millrace-router",
    "millrace-node",
    "millrace-origin",
    "millrace-api",
    "millrace-worker",
    "millrace-worker-av",
];

/// Sets up, builds what ships, and becomes `millrace standalone` with the remaining arguments.
pub fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only_check = arguments.flag("--no-install");
    if setup::prepare(packages::BUILD, only_check)? == Fitness::Unfit {
        return Ok(ExitCode::from(2));
    }
    process::run(&mut process::cargo(&build_arguments()))?;
    let program = process::root().join("target/release/millrace");
    let error =
        std::process::Command::new(&program).arg("standalone").args(arguments.rest()).exec();
    anyhow::bail!("cannot start {}: {error}", program.display())
}

/// Only what runs, but resolved with the whole workspace: a later build of all compiles no library twice.
fn build_arguments() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().flat_map(|program| ["--bin", program]);
    ["build", "--release", "--workspace"].into_iter().chain(programs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_that_runs_is_built_and_no_bench() {
        let built = build_arguments().join(" ");
        assert!(built.contains(" --bin millrace ") && built.contains(" --bin millrace-origin "));
        assert!(!built.contains("--bins"), "{built}");
    }
}
