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
    anyhow::ensure!(
        names()?.contains(&name),
        "no benchmark {name}: `cargo xtask bench` lists them"
    );
    process::run(&mut process::cargo(&["build", "--profile", "dist", "--workspace", "--bins"]))?;
    let program = process::root().join("target/dist").join(name);
    process::run(process::command(&program.to_string_lossy(), &[]).args(arguments.rest()))?;
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
