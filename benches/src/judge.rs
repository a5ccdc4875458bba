//! VMAF, computed by a static ffmpeg that has libvmaf (Debian's has not). It comes in a Python wheel, is kept in the
//! build folder, and only judges: nothing else uses it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use millrace_testkit::{Scratch, cache_dir};

use crate::{ffmpeg, hard_source::FPS};

/// The wheel, as pip names it.
const WHEEL: &str = "imageio-ffmpeg==0.8.1";
/// Every third frame is looked at.
const SUBSAMPLE: u32 = 3;

/// Compares encoded rungs with their source.
#[derive(Clone, Debug)]
pub struct Judge {
    program: PathBuf,
}

impl Judge {
    /// Finds the judge, or fetches it with pip.
    ///
    /// # Errors
    /// It cannot be fetched, or has no libvmaf.
    pub fn find() -> anyhow::Result<Self> {
        let program = cache_dir()?.join("judge-ffmpeg");
        if !program.exists() {
            fetch(&program)?;
        }
        let filters = Command::new(&program).args(["-v", "quiet", "-filters"]).output()?;
        let has = String::from_utf8_lossy(&filters.stdout).contains("libvmaf");
        ensure!(has, "{} has no libvmaf", program.display());
        Ok(Self { program })
    }

    /// Mean VMAF of a rung against `source` scaled to the rung's size, frame by frame.
    ///
    /// # Errors
    /// The files cannot be decoded.
    pub fn vmaf(&self, rung: &Path, source: &Path, size: (u32, u32)) -> anyhow::Result<f64> {
        let scratch = Scratch::new("vmaf")?;
        let log = scratch.path().join("vmaf.json");
        let (width, height) = size;
        let graph = format!(
            "[0:v]settb=1/{FPS},setpts=N[d];[1:v]scale={width}:{height}:flags=bicubic,settb=1/{FPS},setpts=N[r];\
             [d][r]libvmaf=n_subsample={SUBSAMPLE}:n_threads=2:log_fmt=json:log_path={}",
            log.display()
        );
        let mut command = Command::new(&self.program);
        command.args(["-v", "error", "-nostdin", "-i"]).arg(rung).arg("-i").arg(source);
        command.args(["-lavfi", &graph, "-f", "null", "-"]);
        ffmpeg::run(command)?;
        let found: serde_json::Value = serde_json::from_slice(&fs::read(&log)?)?;
        found["pooled_metrics"]["vmaf"]["mean"].as_f64().context("no VMAF was computed")
    }
}

fn fetch(program: &Path) -> anyhow::Result<()> {
    let scratch = Scratch::new("judge")?;
    let dir = scratch.path();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]).arg(dir).arg(WHEEL);
    ffmpeg::run(pip)?;
    let wheels: Vec<PathBuf> = paths(dir)?;
    let wheel = wheels.first().context("pip fetched nothing")?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(dir);
    ffmpeg::run(unzip)?;
    let binaries = paths(&dir.join("imageio_ffmpeg/binaries"))?;
    let is_program = |path: &&PathBuf| path.to_string_lossy().contains("/ffmpeg-");
    let found = binaries.iter().find(is_program).context("the wheel holds no ffmpeg")?;
    let mut permissions = fs::metadata(found)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(found, permissions)?;
    Ok(fs::rename(found, program)?)
}

fn paths(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}
