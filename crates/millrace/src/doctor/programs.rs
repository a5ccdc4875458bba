//! The workers' programs: there, and their libraries too.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::finding::Finding;

/// The programs a node starts.
const WORKERS: [(&str, &str); 2] =
    [("worker", "millrace-worker"), ("worker with FFmpeg", "millrace-worker-av")];
/// Where they come from.
const BUILD: &str =
    "build them with `cargo build --release --workspace --bins`, or give --worker-dir";
/// What an FFmpeg worker loads.
const LIBRARIES: &str =
    "apt-get install libavcodec59 libavfilter8 libswscale6, or run `cargo xtask run`";

/// Runs each worker's `--version`, which loads all its libraries.
pub fn workers(worker_dir: Option<&Path>) -> Vec<Finding> {
    let beside = || Some(env::current_exe().ok()?.parent()?.to_path_buf());
    let dir = worker_dir.map(PathBuf::from).or_else(beside).unwrap_or_default();
    WORKERS.iter().map(|(check, program)| worker(check, &dir.join(program))).collect()
}

fn worker(check: &'static str, program: &Path) -> Finding {
    if !program.is_file() {
        return Finding::missing(check, format!("no {}", program.display()), BUILD);
    }
    match Command::new(program).arg("--version").output() {
        Ok(output) if output.status.success() => {
            Finding::ok(check, String::from_utf8_lossy(&output.stdout).trim())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Finding::missing(check, format!("{}: {}", program.display(), said.trim()), LIBRARIES)
        }
        Err(error) => Finding::missing(check, format!("{}: {error}", program.display()), BUILD),
    }
}
