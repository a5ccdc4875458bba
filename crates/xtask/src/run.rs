//! `cargo xtask run`: from a fresh machine to a running farm of one, in one command.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::Result;

use crate::{
    arguments::Arguments,
    packages, process,
    setup::{self, Fitness},
};

/// What a farm of one is made of.
const PROGRAMS: [&str; 3] = ["millrace", "millrace-worker", "millrace-worker-av"];

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
        assert!(built.ends_with("--bin millrace --bin millrace-worker --bin millrace-worker-av"));
        assert!(!built.contains("--bins"), "{built}");
    }
}
