//! The clock of a host, for the programs that a test starts: it can be stepped as an operator or a time server would. libfaketime
//! stands between them and the kernel. The monotonic clock goes on, as it does on a host.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use millrace_testkit::Scratch;

/// A clock that is right until it is stepped.
#[derive(Debug)]
pub struct HostClock {
    library: PathBuf,
    scratch: Scratch,
}

impl HostClock {
    /// # Errors
    /// When libfaketime is not installed.
    pub fn new() -> anyhow::Result<Self> {
        let folder = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
        let library = PathBuf::from(folder).join("libfaketimeMT.so.1");
        ensure!(library.exists(), "no {}: apt-get install libfaketime", library.display());
        let clock = Self { library, scratch: Scratch::new("clock")? };
        clock.step_to(0)?;
        Ok(clock)
    }

    /// From now on the clock shows what it really is, and so many seconds more.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn step_to(&self, seconds: i64) -> anyhow::Result<()> {
        // Read by others at any moment: it is replaced, never half written.
        let (next, file) = (self.scratch.path().join("next"), self.file());
        fs::write(&next, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&next, &file))
            .context("the clock's file")
    }

    /// What a program needs in its environment to live by this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("offset")
    }
}
