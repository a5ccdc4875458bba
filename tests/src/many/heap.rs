//! How much of its heap each program of a farm has in use. Asked of the allocator inside of it, by a small library that is
//! compiled here and loaded before the program: what is freed and kept by glibc counts in resident memory, and is no leak.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::ManyFarm;

/// The library's source.
const SOURCE: &str = include_str!("heap.c");
/// Names the file that a program's heap is written to.
const FILE: &str = "MILLRACE_TEST_HEAP";

/// Compiles the library into `dir`.
pub(super) fn compile(dir: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (dir.join("heap.c"), dir.join("heap.so"));
    fs::write(&source, SOURCE)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(&source);
    let compiled = compiler.output().context("cc")?;
    ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Ok(library)
}

/// Has a program that is about to be started say how much it has in use, in `file`.
pub(super) fn watch(program: &mut Command, library: &Path, file: &Path) {
    program.env("LD_PRELOAD", library).env(FILE, file);
}

impl ManyFarm {
    /// Bytes that each program has allocated and not freed, a second ago at most, by its name.
    ///
    /// # Errors
    /// When the farm was not started with [`heaps`](super::ManyOptions::heaps).
    pub fn heap_bytes(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let read = |name: &String| {
            let text = fs::read_to_string(self.heap_file(name)).context("heaps are not watched")?;
            Ok((name.clone(), text.trim().parse()?))
        };
        self.programs.keys().map(read).collect()
    }

    pub(super) fn heap_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(format!("{name}.heap"))
    }
}
