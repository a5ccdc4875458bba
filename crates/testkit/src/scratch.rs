//! Where tests keep files: a cache that outlives the run, and folders that vanish with their owner. Owns no content.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// The folder for made clips: `testkit` in the build's target folder.
///
/// # Errors
///
/// When it cannot be created.
pub fn cache_dir() -> io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let dir = target.join("testkit");
    std::fs::create_dir_all(&dir)?;
    dir.canonicalize()
}

/// A folder of its own, removed when this value is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty folder; `name` is only for people who look.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn new(name: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = cache_dir()?.join(format!("scratch-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind harms nobody; a panic while unwinding would.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
