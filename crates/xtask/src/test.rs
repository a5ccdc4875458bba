//! `cargo xtask test`: everything CI runs, as a list of steps one can read from top to bottom.

use std::{env, fs, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    arguments::Arguments,
    check, fuzz, fuzz_coverage, junit, nextest, packages,
    previous::{self, Previous},
    process,
    setup::{self, Fitness},
    steps::{self, Report, Step},
};

/// How many of the slowest tests are listed at the end.
const SLOWEST: usize = 20;

/// How long each target is fuzzed beside the tests, in seconds of real time: longer than alone, since tests go first.
const FUZZING: u64 = 90;

/// Set the minutes of the long forms that wait most.
const LENGTHS: [&str; 2] = ["MILLRACE_SOAK_MINUTES", "MILLRACE_OUTAGE_MINUTES"];

/// Sets up and runs all steps; with filters only the tests that match them.
pub fn test(mut arguments: Arguments) -> Result<ExitCode> {
    let only_check = arguments.flag("--no-install");
    let full = arguments.flag("--full");
    let filters = arguments.rest();
    if setup::prepare(&wanted(full), only_check)? == Fitness::Unfit {
        return Ok(ExitCode::from(2));
    }
    nextest::forget_report(full);
    let report = steps::run(if filters.is_empty() { all(full) } else { some(full, &filters) });
    let cases = nextest::results(full);
    let summary = format!(
        "measured\n{}\nslowest tests\n{}\nsteps\n{}\n{}\n",
        junit::measured(&cases),
        junit::slowest(&cases, SLOWEST),
        report.table(),
        junit::count_line(&cases)
    );
    if full && filters.is_empty() {
        write_report(&report, &summary)?;
    }
    // One stream, so that the count is the last line also where both are collected.
    eprint!("\n{summary}");
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The packages that the tests need.
fn wanted(full: bool) -> Vec<&'static str> {
    let long = if full { packages::FULL_TEST } else { &[] };
    [packages::BUILD, packages::TEST, long].concat()
}

fn all<'a>(full: bool) -> Vec<Step<'a>> {
    let seconds = if full { 600 } else { FUZZING };
    let previous = previous(full);
    let mut steps =
        vec![check::tools(), Step::command("format", check::format()), build(full), test_runner()];
    steps.extend(previous.clone().map(build_before));
    steps.extend([
        Step::work("fuzz", "cargo xtask fuzz", move || fuzz::beside_tests(seconds)).beside(),
        // Behind the fuzzing, since it locks what is built, and tests are looked for there first.
        Step::work("clippy", "cargo xtask check", clippy).beside(),
        tests(full, &[], previous.as_ref()),
    ]);
    if full {
        let coverage = "cargo xtask fuzz --coverage";
        steps.push(Step::work("fuzz coverage", coverage, fuzz_coverage::measure));
    }
    steps
}

fn some<'a>(full: bool, filters: &[String]) -> Vec<Step<'a>> {
    let previous = previous(full);
    let mut steps = vec![build(full), test_runner()];
    steps.extend(previous.clone().map(build_before));
    steps.push(tests(full, filters, previous.as_ref()));
    steps
}

/// What a farm is upgraded from in the long form.
fn previous(full: bool) -> Option<Previous> {
    if full { Previous::here() } else { None }
}

fn build_before<'a>(previous: Previous) -> Step<'a> {
    Step::work("build before", "cargo xtask test --full upgrade", move || previous.build())
}

fn tests<'a>(full: bool, filters: &[String], previous: Option<&Previous>) -> Step<'a> {
    let mut command = nextest::command(full, filters);
    if let Some(previous) = previous {
        command.env(previous::FOLDER, previous.programs());
    }
    Step::command("tests", command)
}

/// What the tests start; `origin_parts` is the one benchmark among them, which has a bound in CI.
const PROGRAMS: [&str; 8] = [
    "millrace",
    "millrace-api",
    "millrace-node",
    "millrace-origin",
    "millrace-router",
    "millrace-worker",
    "millrace-worker-av",
    "origin_parts",
];

/// The programs and what tests them, in one go: built apart, features that only tests ask for would build half of it twice.
/// Other benchmarks are not among them: clippy reads them, and who runs one builds it as what ships.
fn build<'a>(full: bool) -> Step<'a> {
    let mut build = process::cargo(&["build", "--profile", nextest::cargo_profile(full)]);
    build.args(["--workspace", "--tests", "--examples"]);
    build.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    Step::command("build", build)
}

/// With what time the tests leave over.
fn clippy() -> Result<()> {
    process::run(&mut process::idle(&check::clippy()))
}

fn test_runner<'a>() -> Step<'a> {
    Step::work("test runner", "cargo install --locked --debug cargo-nextest", nextest::ensure)
}

/// The dated report of a long run, to be committed.
fn write_report(report: &Report, summary: &str) -> Result<()> {
    let line = |program: &str, args: &[&str]| -> Result<String> {
        let output = process::command(program, args).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let date = line("date", &["-u", "+%F"])?;
    let commit = line("git", &["rev-parse", "--short", "HEAD"])?;
    let verdict = if report.passed() { "passed" } else { "failed" };
    let dir = process::root().join("docs/reports");
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{date}-full.md"));
    let shortened = shortened(|name| env::var(name).ok());
    // Where this checkout lies is nobody's business.
    let here = format!("{}/", process::root().display());
    let summary = summary.replace(&here, "");
    let text = format!(
        "# Long tests, {date}, commit {commit}: {verdict}\n\n{shortened}```\n{summary}```\n"
    );
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What the report says of the long forms that did not run as long as they do by default.
fn shortened(variable: impl Fn(&str) -> Option<String>) -> String {
    let set = LENGTHS.iter().filter_map(|name| Some(format!("{name}={}", variable(name)?)));
    let set: Vec<String> = set.collect();
    if set.is_empty() {
        return String::new();
    }
    format!("The lengths of long forms were set: {}.\n\n", set.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_which_long_forms_were_set_to_another_length() {
        assert_eq!(shortened(|_| None), "");
        let soak = |name: &str| (name == LENGTHS[0]).then(|| "60".to_owned());
        assert!(shortened(soak).contains("MILLRACE_SOAK_MINUTES=60."));
    }

    #[test]
    fn the_long_form_installs_obs_and_runs_the_tests_that_need_it_and_the_short_one_neither() {
        let ignored = |full| format!("{:?}", nextest::command(full, &[])).contains("run-ignored");
        assert!(wanted(true).contains(&"obs-studio") && ignored(true));
        assert!(!wanted(false).contains(&"obs-studio") && !ignored(false));
    }
}
