//! What a process has used, read from proc(5), and where programs are found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::Pid,
};

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pid: u32,
}

impl Usage {
    /// Of the process `pid`.
    pub const fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// User and system time of all threads so far; exact to a hundredth of a second.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu_seconds(self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("stat")?;
        let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        let mut next = || ticks.next().context("stat")?.context("stat");
        Ok((next()? + next()?) as f64 / TICKS_PER_SECOND)
    }

    /// The same of the threads that are still there, exact to a microsecond: for short times of programs whose threads
    /// stay.
    ///
    /// # Errors
    /// It is gone.
    pub fn threads_cpu_seconds(self) -> anyhow::Result<f64> {
        self.threads()?
            .iter()
            .map(|thread| {
                let text = self.read(&format!("task/{thread}/schedstat"))?;
                let nanoseconds = text.split_ascii_whitespace().next().context("schedstat")?;
                Ok(nanoseconds.parse::<u64>()? as f64 / 1e9)
            })
            .sum()
    }

    /// Resident memory in KiB, shared pages included.
    ///
    /// # Errors
    /// It is gone.
    pub fn rss_kib(self) -> anyhow::Result<f64> {
        self.kib("status", "VmRSS:")
    }

    /// The most that was ever resident, in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_rss_kib(self) -> anyhow::Result<f64> {
        self.kib("status", "VmHWM:")
    }

    /// Proportional set size in KiB: shared pages divided among those who share them.
    ///
    /// # Errors
    /// It is gone.
    pub fn pss_kib(self) -> anyhow::Result<f64> {
        self.kib("smaps_rollup", "Pss:")
    }

    /// Keeps its threads on one core.
    ///
    /// # Errors
    /// It is gone, or may not run there.
    pub fn stay_on(self, core: usize) -> anyhow::Result<()> {
        let mut only = CpuSet::new();
        only.set(core)?;
        self.threads()?
            .into_iter()
            .try_for_each(|it| Ok(sched_setaffinity(Pid::from_raw(it), &only)?))
    }

    fn threads(self) -> anyhow::Result<Vec<i32>> {
        let path = format!("/proc/{}/task", self.pid);
        let entries = fs::read_dir(&path).context(path)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?)).collect()
    }

    fn kib(self, file: &str, name: &str) -> anyhow::Result<f64> {
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(number.with_context(|| format!("{name} in {file}"))?.parse()?)
    }

    fn read(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).context(path)
    }
}

/// User and system time of all children that were waited for.
///
/// # Errors
/// What the system says.
pub fn children_cpu_seconds() -> anyhow::Result<f64> {
    cpu_seconds_of(UsageWho::RUSAGE_CHILDREN)
}

/// The last core that this thread may run on; `None` where there is only one.
///
/// # Errors
/// What the system says.
pub fn last_core() -> anyhow::Result<Option<usize>> {
    let cores = sched_getaffinity(Pid::from_raw(0))?;
    let mut all = (0..CpuSet::count()).rev().filter(|core| cores.is_set(*core) == Ok(true));
    let last = all.next();
    Ok(all.next().and(last))
}

/// Keeps this thread, and those it starts, off one core.
///
/// # Errors
/// What the system says, also where there is no other.
pub fn stay_off(core: usize) -> anyhow::Result<()> {
    let mut cores = sched_getaffinity(Pid::from_raw(0))?;
    cores.unset(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// User and system time of this process.
///
/// # Errors
/// What the system says.
pub fn own_cpu_seconds() -> anyhow::Result<f64> {
    cpu_seconds_of(UsageWho::RUSAGE_SELF)
}

fn cpu_seconds_of(whom: UsageWho) -> anyhow::Result<f64> {
    let usage = getrusage(whom)?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

/// Processes that ran or wanted to, averaged over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// This program's own executable, to be started again in another role.
///
/// # Errors
/// What the system says.
pub fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("own executable")
}

/// A program of the same build, such as `millrace-origin`.
///
/// # Errors
/// It has not been built.
pub fn sibling_program(name: &str) -> anyhow::Result<PathBuf> {
    let path = own_program()?.parent().unwrap_or(Path::new(".")).join(name);
    ensure!(
        path.exists(),
        "{} is missing: cargo build --profile dist --workspace --bins",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_can_be_read() {
        let usage = Usage::of(std::process::id());
        let (ticks, exact) = (usage.cpu_seconds().unwrap(), usage.threads_cpu_seconds().unwrap());
        assert!(ticks >= 0.0 && exact > 0.0);
        assert!(usage.rss_kib().unwrap() > 500.0);
        assert!(usage.pss_kib().unwrap() <= usage.peak_rss_kib().unwrap());
        assert!(Usage::of(u32::MAX).rss_kib().is_err());
    }
}
