//! `cargo xtask fuzz --coverage`: which lines of the parsers of foreign bytes the committed corpus reaches.
//!
//! It builds the targets once more, with the compiler's own coverage instead of libFuzzer's, and runs nothing but the
//! corpus. What counts as such a parser is decided here; how targets are fuzzed in [`crate::fuzz`].

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{fuzz, process};

/// Least share of each file's lines that the corpus must reach.
const LEAST_PERCENT: f64 = 80.0;

/// What reads bytes of strangers or of confined workers: files, and folders with all that is in them.
const PARSERS: &[&str] = &[
    "crates/hls/src/media_playlist.rs",
    "crates/hls/src/multivariant.rs",
    "crates/hls/src/query.rs",
    "crates/hls/src/reload.rs",
    "crates/hls/src/rung.rs",
    "crates/hls/src/segment.rs",
    "crates/hls/src/window.rs",
    "crates/media/src/aac.rs",
    "crates/media/src/avc/",
    "crates/media/src/bits.rs",
    "crates/media/src/flv.rs",
    "crates/media/src/timeline.rs",
    "crates/media/src/timeline/",
    "crates/origin/src/request_head.rs",
    "crates/origin/src/route.rs",
    "crates/router/src/ingest/aggregate.rs",
    "crates/router/src/ingest/amf0.rs",
    "crates/router/src/ingest/chunk_reader.rs",
    "crates/router/src/ingest/command.rs",
    "crates/router/src/ingest/handshake.rs",
    "crates/router/src/ingest/session.rs",
    "crates/router/src/ingest/stream_metadata.rs",
    "crates/wire/src/codec.rs",
    "crates/wire/src/convert.rs",
    "crates/wire/src/frame.rs",
];

/// Lines of a file: those with code, and those of them that were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lines {
    code: u32,
    reached: u32,
}

impl Lines {
    fn percent(self) -> f64 {
        100.0 * f64::from(self.reached) / f64::from(self.code.max(1))
    }
}

/// Prints the table; fails when a parser lies below the least share, or is not to be found.
pub fn measure() -> Result<()> {
    let triple = fuzz::host_triple()?;
    let tools = llvm_tools(&triple)?;
    let targets = fuzz::targets()?;
    let scratch = fuzz::dir().join("target/coverage");
    build(&triple, &scratch)?;
    let programs = scratch.join(&triple).join("debug");
    let profiles = scratch.join("profiles");
    fs::create_dir_all(&profiles)?;
    let mut written = Vec::new();
    for target in &targets {
        let profile = profiles.join(format!("{target}.profraw"));
        run_corpus(&programs.join(target), target, &profile)?;
        written.push(profile);
    }
    let merged = profiles.join("all.profdata");
    let mut merge = Command::new(tools.join("llvm-profdata"));
    process::run(merge.args(["merge", "--sparse", "--output"]).arg(&merged).args(&written))?;

    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "--format=lcov", "--summary-only", "--instr-profile"]).arg(&merged);
    for target in &targets {
        export.arg("--object").arg(programs.join(target));
    }
    let output = export.stderr(Stdio::inherit()).output().context("cannot start llvm-cov")?;
    if !output.status.success() {
        bail!("llvm-cov: {}", output.status);
    }
    let files = parsers(&String::from_utf8_lossy(&output.stdout), &process::root());
    print!("{}", table(&files));
    verdict(&files)
}

/// Where rustup puts the tools that fit this compiler.
fn llvm_tools(triple: &str) -> Result<PathBuf> {
    let output = process::command("rustc", &["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let tools = sysroot.join("lib/rustlib").join(triple).join("bin");
    if !tools.join("llvm-cov").exists() {
        process::run(&mut process::command("rustup", &["component", "add", "llvm-tools"]))?;
    }
    Ok(tools)
}

fn build(triple: &str, scratch: &Path) -> Result<()> {
    let mut build = process::cargo(&["build", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    build
        .args(["--target", triple, "--target-dir"])
        .arg(scratch)
        .env("RUSTFLAGS", "--cfg=fuzzing -Cinstrument-coverage")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run(&mut build)
}

/// Each file is named: without counters of its own libFuzzer takes no folder.
fn run_corpus(program: &Path, target: &str, profile: &Path) -> Result<()> {
    let dir = fuzz::dir().join("corpus").join(target);
    let entries = fs::read_dir(&dir).with_context(|| format!("no corpus {}", dir.display()))?;
    let inputs: Vec<OsString> =
        entries.map(|entry| Ok(entry?.path().into())).collect::<Result<_>>()?;
    if inputs.is_empty() {
        bail!("{} is empty", dir.display());
    }
    let mut command = Command::new(program);
    command.args(&inputs).env("LLVM_PROFILE_FILE", profile).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("{target}: {status} on one of {} inputs of {}", inputs.len(), dir.display());
    }
    Ok(())
}

/// The lines of every parser by its path, from a report in lcov's format.
fn parsers(lcov: &str, root: &Path) -> BTreeMap<String, Lines> {
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let mut current = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
            let path = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned);
            current = path.filter(|path| is_parser(path));
        }
        let Some(path) = &current else { continue };
        let number = |prefix: &str| line.strip_prefix(prefix)?.parse().ok();
        if let Some(code) = number("LF:") {
            files.entry(path.clone()).or_default().code = code;
        }
        if let Some(reached) = number("LH:") {
            files.entry(path.clone()).or_default().reached = reached;
        }
    }
    files
}

fn is_parser(path: &str) -> bool {
    PARSERS
        .iter()
        .any(|parser| path == *parser || parser.ends_with('/') && path.starts_with(parser))
}

fn table(files: &BTreeMap<String, Lines>) -> String {
    let mut table = format!("{:48} {:>6} {:>8} {:>8}\n", "parser", "lines", "reached", "share");
    let mut all = Lines::default();
    let mut row = |name: &str, lines: Lines| {
        let Lines { code, reached } = lines;
        let _ = writeln!(table, "{name:48} {code:6} {reached:8} {:6.1} %", lines.percent());
    };
    for (path, lines) in files {
        row(path, *lines);
        (all.code, all.reached) = (all.code + lines.code, all.reached + lines.reached);
    }
    row("all", all);
    table
}

fn verdict(files: &BTreeMap<String, Lines>) -> Result<()> {
    let missing =
        PARSERS.iter().filter(|parser| !files.keys().any(|path| path.starts_with(*parser)));
    let low = files.iter().filter(|(_, lines)| lines.percent() < LEAST_PERCENT);
    let faults: Vec<String> = missing
        .map(|parser| format!("{parser} is in no target"))
        .chain(low.map(|(path, lines)| format!("{path} has {:.1} %", lines.percent())))
        .collect();
    if !faults.is_empty() {
        bail!("the corpus must reach {LEAST_PERCENT} % of each parser: {}", faults.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "SF:/src/crates/hls/src/query.rs\nLF:50\nLH:45\nend_of_record\n\
                          SF:/src/crates/media/src/avc/sps.rs\nLF:100\nLH:79\nend_of_record\n\
                          SF:/src/crates/hls/src/lib.rs\nLF:9\nLH:0\nend_of_record\n";

    #[test]
    fn only_parsers_count_and_folders_count_with_all_their_files() {
        let files = parsers(REPORT, Path::new("/src"));
        let of = |name: &str| files.get(name).map(|lines| (lines.code, lines.reached));
        assert_eq!(files.len(), 2);
        assert_eq!(of("crates/hls/src/query.rs"), Some((50, 45)));
        assert_eq!(of("crates/media/src/avc/sps.rs"), Some((100, 79)));
        assert!(table(&files).ends_with(" 82.7 %\n"), "{}", table(&files));
    }

    #[test]
    fn a_parser_below_the_least_share_and_one_that_is_not_there_are_named() {
        let told = verdict(&parsers(REPORT, Path::new("/src"))).unwrap_err().to_string();
        assert!(told.contains("sps.rs has 79.0 %") && !told.contains("query.rs"), "{told}");
        assert!(told.contains("crates/wire/src/frame.rs is in no target"), "{told}");
    }
}
