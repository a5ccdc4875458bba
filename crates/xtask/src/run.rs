//! `cargo xtask run`: from a fresh machine to a running farm of one, in one command.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::Result;

use crate::{
    arguments::Arguments,
    packages, process,
    setup::{self, Fitness},
};

/// Sets up, builds what ships, and becomes `millrace standalone` with the remaining arguments.
pub fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only_check = arguments.flag("--no-install");
    if setup::prepare(packages::BUILD, only_check)? == Fitness::Unfit {
        return Ok(ExitCode::from(2));
    }
    process::run(&mut process::cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let program = process::root().join("target/release/millrace");
    let error =
        std::process::Command::new(&program).arg("standalone").args(arguments.rest()).exec();
    anyhow::bail!("cannot start {}: {error}", program.display())
}
