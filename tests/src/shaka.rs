//! Where the tests get shaka from: npm's package of a fixed version, fetched once and kept beside the made clips.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millrace_testkit::{Scratch, cache_dir};

const PACKAGE: &str = "shaka-player@5.2.12";
const SCRIPT: &str = "package/dist/shaka-player.compiled.js";

/// The compiled library, from the cache or from npm, which checks what it fetches.
///
/// # Errors
/// When it is not cached and npm cannot fetch it.
pub fn shaka_script() -> anyhow::Result<Bytes> {
    let cached = cache_dir()?.join(format!("{PACKAGE}.js"));
    let lock = File::create(cached.with_extension("lock"))?;
    lock.lock()?;
    if !cached.exists() {
        fetch(&cached).with_context(|| {
            format!("{PACKAGE} is not cached and `npm pack {PACKAGE}` cannot fetch it")
        })?;
    }
    Ok(fs::read(&cached)?.into())
}

fn fetch(to: &Path) -> anyhow::Result<()> {
    let scratch = Scratch::new("shaka")?;
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(scratch.path()).output();
        let output = output.with_context(|| format!("{program} does not start"))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let archive = run("npm", &["pack", "--silent", PACKAGE])?;
    run("tar", &["-xzf", archive.trim(), SCRIPT])?;
    fs::rename(scratch.path().join(SCRIPT), to)?;
    Ok(())
}
