//! `cargo xtask bench`: runs one benchmark of the `benches` member. Each is a program of its own that prints
//! its question, its numbers, and the line of the specification that it watches.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{arguments::Arguments, process};

/// Runs the named benchmark with the remaining arguments, or lists what there is.
pub fn bench(mut arguments: Arguments) -> Result<ExitCode> {
    let Some(name) = arguments.word() else {
        arguments.end()?;
        for name in names()? {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    process::run(&mut process::cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let mut command =
        process::cargo(&["run", "--release", "-p", "millrace-benches", "--bin", &name, "--"]);
    process::run(command.args(arguments.rest()))?;
    Ok(ExitCode::SUCCESS)
}

fn names() -> Result<Vec<String>> {
    let dir = process::root().join("benches/src/bin");
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&dir).with_context(|| format!("no benchmarks in {}", dir.display()))?
    {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
