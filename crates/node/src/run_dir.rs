//! The directory of a node's workers: one daemon owns it at a time, and the next one finds there whom to adopt.
//!
//! ```text
//! worker-7.sock   where the worker accepts its daemon
//! worker-7.pipe   its words
//! worker-7.json   who it is: process id, and when it started
//! ```
//!
//! The files of a worker are as old as its process and go with it, not with the daemon. A number alone says nothing after the
//! worker's death: another process may have it. Not here: speaking with workers.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use millrace_sandbox::Child;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// From one try to get the directory to the next.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// The longest directory a worker's socket still fits into: its name follows, and the kernel takes 107 bytes (unix(7)).
pub const MAX_RUN_DIR_BYTES: usize = 75;
/// What every file of a worker is called first.
const PREFIX: &str = "worker-";

/// A directory that is this daemon's for as long as it lives; clones share it.
#[derive(Clone, Debug)]
pub struct RunDir {
    dir: PathBuf,
    next: Arc<AtomicU64>,
    /// Locked; the kernel unlocks it when this process ends, however it does.
    _lock: Arc<File>,
}

/// Who a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: u32,
    /// In clock ticks since the host started (proc(5)).
    started_at: u64,
}

/// The files of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerFiles {
    dir: PathBuf,
    number: u64,
}

impl RunDir {
    /// Makes the directory where it is missing and takes it, once the daemon before has let go of it.
    ///
    /// # Errors
    /// It cannot be made, or another daemon still has it after `patience`.
    pub async fn take(dir: &Path, patience: Duration) -> io::Result<Self> {
        Self::fits(dir)?;
        fs::create_dir_all(dir)?;
        let since = Instant::now();
        let lock = loop {
            match lock(dir) {
                Ok(lock) => break lock,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience => {
                    let text = "another node works with it: give each its own as run_dir";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TRY_AGAIN).await,
            }
        };
        let last = all_of(dir).last().map_or(0, |files| files.number + 1);
        let next = Arc::new(AtomicU64::new(last));
        Ok(Self { dir: dir.to_owned(), next, _lock: Arc::new(lock) })
    }

    /// Whether the name of a socket fits behind the directory's.
    ///
    /// # Errors
    /// It does not; the text says how long it may be.
    pub fn fits(dir: &Path) -> io::Result<()> {
        let bytes = dir.as_os_str().len();
        let long = || {
            format!(
                "{bytes} bytes are too long for a directory of sockets, {MAX_RUN_DIR_BYTES} are the most; choose a shorter one"
            )
        };
        match bytes <= MAX_RUN_DIR_BYTES {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidFilename, long())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The files of a worker that is about to be started: none of them is there yet.
    pub fn new_worker(&self) -> WorkerFiles {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        WorkerFiles { dir: self.dir.clone(), number }
    }

    /// The workers that live on; the files of others are removed.
    pub fn living(&self) -> Vec<(WorkerFiles, Child)> {
        living(&self.dir)
    }
}

/// Locks the directory as long as what is returned lives, if no daemon has it.
pub fn lock(dir: &Path) -> Result<File, TryLockError> {
    let lock = File::open(dir).map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}

/// As [`RunDir::living`], for whom no daemon needs.
pub fn living(dir: &Path) -> Vec<(WorkerFiles, Child)> {
    let all = all_of(dir).into_iter();
    all.filter_map(|files| match files.process() {
        Some(child) => Some((files, child)),
        None => {
            files.remove();
            None
        }
    })
    .collect()
}

/// Every worker that has left a file, in the order in which they were started.
fn all_of(dir: &Path) -> Vec<WorkerFiles> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix(PREFIX)?.split_once('.')?.0.parse().ok();
    let numbers = entries.filter_map(|entry| number(entry.file_name().to_str()?));
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(|number| WorkerFiles { dir: dir.to_owned(), number }).collect()
}

impl WorkerFiles {
    /// Where it accepts its daemon.
    pub fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// Its words.
    pub fn pipe(&self) -> PathBuf {
        self.path("pipe")
    }

    /// What people call it.
    pub fn label(&self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    /// Writes down who the worker is.
    ///
    /// # Errors
    /// It is gone already, or the file cannot be written.
    pub fn identify(&self, child: &Child) -> io::Result<()> {
        let identity = Identity { pid: child.pid(), started_at: child.started_at()? };
        let draft = self.path("new");
        fs::write(&draft, serde_json::to_vec(&identity)?)?;
        fs::rename(draft, self.identity())
    }

    /// Where it is written down who the worker is.
    pub fn identity(&self) -> PathBuf {
        self.path("json")
    }

    /// Forgets the worker, which is dead.
    pub fn remove(&self) {
        for ending in ["json", "sock", "pipe", "new"] {
            match fs::remove_file(self.path(ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %self.path(ending).display(), %error, "file of a dead worker");
                }
                _ => {}
            }
        }
    }

    /// The process, if it lives and is the one that was written down.
    pub fn process(&self) -> Option<Child> {
        let path = self.path("json");
        // What somebody else put here says nothing of our workers.
        let ours = fs::symlink_metadata(&path).ok()?.uid() == geteuid().as_raw();
        let identity: Identity =
            serde_json::from_slice(&fs::read(&path).ok().filter(|_| ours)?).ok()?;
        let child = Child::adopt(identity.pid).ok()?;
        let same = child.started_at().ok()? == identity.started_at;
        same.then_some(child)
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{PREFIX}{}.{ending}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("millrace-run-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[tokio::test]
    async fn a_directory_has_one_daemon_and_the_next_waits_for_it_to_go() {
        let dir = scratch("lock");
        let first = RunDir::take(&dir, Duration::ZERO).await.unwrap();
        let refused = RunDir::take(&dir, Duration::from_millis(30)).await.unwrap_err();
        assert!(refused.to_string().contains("another node works with it"), "{refused}");
        let second = tokio::spawn(async move { RunDir::take(&dir, Duration::from_secs(5)).await });
        tokio::task::yield_now().await;
        drop(first);
        let second = second.await.unwrap().unwrap();
        fs::remove_dir_all(second.path()).unwrap();
    }

    #[tokio::test]
    async fn only_the_process_that_was_written_down_is_found_again_and_the_files_of_the_dead_go() {
        let dir = scratch("living");
        let run = RunDir::take(&dir, Duration::ZERO).await.unwrap();
        let sleeper = || Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut processes: Vec<_> = (0..3).map(|_| sleeper()).collect();
        let files: Vec<_> = processes.iter().map(|_| run.new_worker()).collect();
        for (files, process) in files.iter().zip(&processes) {
            files.identify(&Child::adopt(process.id()).unwrap()).unwrap();
        }
        // The second is dead; the third's number is another process's by now.
        processes[1].kill().unwrap();
        processes[1].wait().unwrap();
        let reused = Identity { pid: processes[2].id(), started_at: 1 };
        fs::write(files[2].path("json"), serde_json::to_vec(&reused).unwrap()).unwrap();
        fs::write(run.new_worker().socket(), "of a worker that was never written down").unwrap();

        let living: Vec<_> = run.living().into_iter().map(|(files, _)| files).collect();
        assert_eq!(living, files[..1]);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "the files of the others are gone");
        assert_ne!(run.new_worker(), files[0]);
        for mut process in processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
