//! `cargo xtask fuzz`: builds the targets under `fuzz/` with coverage instrumentation and runs them, two at a time.
//!
//! It needs neither nightly nor cargo-fuzz: the flags are cargo-fuzz's own (its `src/project.rs`), without the
//! address sanitizer, because the parsers hold no `unsafe`. What is fed to a target is decided by the target.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{arguments::Arguments, fuzz_coverage, process};

/// How long each target runs unless told otherwise.
pub const DEFAULT_SECONDS: u64 = 60;

/// Targets that run side by side.
const SIDE_BY_SIDE: usize = 2;

/// Coverage for libFuzzer, and the checks that release builds leave out.
const RUSTFLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Runs one named target or all of them, or measures what their corpus reaches.
pub fn fuzz(mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.flag("--coverage") {
        arguments.end()?;
        fuzz_coverage::measure()?;
        return Ok(ExitCode::SUCCESS);
    }
    let seconds = arguments.number("--seconds")?.unwrap_or(DEFAULT_SECONDS);
    let wanted = arguments.word();
    arguments.end()?;
    let targets = match wanted {
        Some(target) if targets()?.contains(&target) => vec![target],
        Some(target) => bail!("no fuzz target {target:?}; there are: {}", targets()?.join(", ")),
        None => targets()?,
    };
    build_and_run(&targets, seconds, Priority::Normal)?;
    Ok(ExitCode::SUCCESS)
}

/// Who goes first when there is less time than work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Normal,
    Idle,
}

impl Priority {
    /// Seconds after which one input counts as hanging its target.
    const fn patience(self) -> u32 {
        match self {
            Self::Normal => 10,
            // Others may have the processors for themselves that long.
            Self::Idle => 60,
        }
    }
}

/// Runs every target for `seconds` with what time the tests beside it leave over: these wait more than they work. Fails when
/// one panics, hangs or leaves its memory limit.
pub fn beside_tests(seconds: u64) -> Result<()> {
    build_and_run(&targets()?, seconds, Priority::Idle)
}

/// Where the targets and their corpus lie.
pub fn dir() -> PathBuf {
    process::root().join("fuzz")
}

/// The targets there are, by name; none before the first is written.
pub fn targets() -> Result<Vec<String>> {
    let sources = dir().join("fuzz_targets");
    if !sources.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

fn build_and_run(targets: &[String], seconds: u64, priority: Priority) -> Result<()> {
    if targets.is_empty() {
        eprintln!("no fuzz targets");
        return Ok(());
    }
    let triple = host_triple()?;
    // With --target, build scripts and macros are built without the instrumentation.
    let mut build = process::cargo(&["build", "--release", "--bins", "--target", &triple]);
    build
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir", "fuzz/target"])
        .env("RUSTFLAGS", RUSTFLAGS.join(" "));
    process::run(&mut at(priority, build))?;

    let waiting = Mutex::new(targets.to_vec());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("invariant: no holder panics").pop();
                    let Some(target) = next else { break };
                    if let Err(error) = run_target(&target, &triple, seconds, priority) {
                        failures.lock().expect("invariant: no holder panics").push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("invariant: no holder panics");
    if failures.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    bail!("{} of {} targets failed\n{}", told.len(), targets.len(), told.join("\n"))
}

fn at(priority: Priority, command: Command) -> Command {
    match priority {
        Priority::Normal => command,
        Priority::Idle => process::idle(&command),
    }
}

/// The committed corpus is read first; what is newly found stays under `fuzz/target`.
fn run_target(target: &str, triple: &str, seconds: u64, priority: Priority) -> Result<()> {
    let scratch = dir().join("target");
    let (found, artifacts) = (scratch.join("found").join(target), scratch.join("artifacts"));
    let corpus = dir().join("corpus").join(target);
    let log = scratch.join(format!("{target}.log"));
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir)?;
    }
    let program = scratch.join(triple).join("release").join(target);
    let mut command = Command::new(&program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={}", priority.patience()))
        .args(["-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .arg(&found)
        .args(corpus.exists().then_some(&corpus));
    let mut command = at(priority, command);
    command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!("{target}: {status}; {} ends with\n{}", log.display(), last_lines(&text, 30));
    }
    eprintln!("{target}: {}", outcome(&text));
    Ok(())
}

/// libFuzzer's count of executions and its last coverage.
fn outcome(log: &str) -> String {
    let executions = log
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .map_or("?", str::trim);
    let coverage = log
        .lines()
        .rev()
        .find_map(|line| line.split_once("cov: "))
        .map_or("?", |(_, rest)| rest.split_whitespace().next().unwrap_or("?"));
    format!("{executions} executions, {coverage} edges")
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The target triple of this machine.
pub fn host_triple() -> Result<String> {
    let output = process::command("rustc", &["-vV"]).output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_read_from_the_last_lines_of_libfuzzer() {
        let log = "#2 INITED cov: 10 ft: 12\n#900 DONE   cov: 345 ft: 900 corp: 7\n\
                   stat::number_of_executed_units: 900\nstat::peak_rss_mb: 40\n";
        assert_eq!(outcome(log), "900 executions, 345 edges");
        assert_eq!(outcome(""), "? executions, ? edges");
    }

    #[test]
    fn last_lines_of_a_short_text_are_all_of_it() {
        assert_eq!(last_lines("a\nb", 3), "a\nb");
        assert_eq!(last_lines("a\nb\nc\nd", 2), "c\nd");
    }
}
