//! The folder of a small farm: logs, settings, data. Whose farm lives is told by a lock in it, which the kernel lets go of with the
//! process, however that ends. So farms that run are found, and what killed ones left is removed by the next.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

const PREFIX: &str = "millrace-farm-";
const LOCK: &str = "lock";

/// A folder that is ours as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes one that [`free`] found, and locks it.
    ///
    /// # Errors
    /// The system's.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::create_dir(path)?;
        // Under its own name once it is locked: else another farm would find a dead one's.
        let draft = path.join("lock.new");
        let lock = File::create(&draft)?;
        lock.lock()?;
        fs::rename(draft, path.join(LOCK))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder that is not there yet: an earlier farm of the same process id may have left one, as in a container.
pub fn free(parent: &Path) -> PathBuf {
    let name = format!("{PREFIX}{}", std::process::id());
    let later = (2..100).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(later).map(|name| parent.join(name));
    names.find(|dir| !dir.exists()).unwrap_or_else(|| parent.join(&name))
}

/// Folders of this user's farms that have not been cleared, and whether the farm runs.
fn all(parent: &Path) -> Vec<(PathBuf, bool)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let ours = named.map(|entry| entry.path()).filter(|path| {
        let about = fs::symlink_metadata(path);
        about.is_ok_and(|about| about.is_dir() && about.uid() == geteuid().as_raw())
    });
    let locked = |path: PathBuf| {
        let lock = File::open(path.join(LOCK)).ok()?;
        // Shared: others may look at the same time.
        Some((path, lock.try_lock_shared().is_err()))
    };
    ours.filter_map(locked).collect()
}

/// The folders of this user's farms that run.
pub fn running(parent: &Path) -> Vec<PathBuf> {
    all(parent).into_iter().filter_map(|(path, runs)| runs.then_some(path)).collect()
}

/// Ends the workers that farms of this user left which were killed, and removes their folders; which these were.
pub fn clear_killed(parent: &Path) -> Vec<PathBuf> {
    let killed = all(parent).into_iter().filter_map(|(path, runs)| (!runs).then_some(path));
    let cleared = killed.filter(|path| {
        for run_dir in fs::read_dir(path).into_iter().flatten().flatten() {
            if run_dir.file_name().to_string_lossy().starts_with("node-") && run_dir.path().is_dir()
            {
                millrace_node::end_left_behind(&run_dir.path());
            }
        }
        fs::remove_dir_all(path).is_ok()
    });
    cleared.collect()
}

/// Removes from a farm's folder all that is no log with words in it; whether there is one.
pub fn keep_logs(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut kept = false;
    for path in entries.map(|entry| entry.path()) {
        let is_log = path.extension().is_some_and(|ending| ending == "log");
        if is_log && fs::metadata(&path).is_ok_and(|log| log.len() > 0) {
            kept = true;
        } else {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn parent(name: &str) -> PathBuf {
        let parent = env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        parent
    }

    #[test]
    fn of_a_farm_that_failed_only_logs_with_words_stay() {
        let parent = parent("keep-logs");
        let dir = free(&parent);
        fs::create_dir_all(dir.join("etcd-1")).unwrap();
        let second = free(&parent);
        for (file, text) in [("node-1.log", "why"), ("api-1.log", ""), ("node-1.toml", "x")] {
            fs::write(dir.join(file), text).unwrap();
        }
        let kept = (keep_logs(&dir), fs::read_dir(&dir).unwrap().count());
        fs::remove_file(dir.join("node-1.log")).unwrap();
        let nothing = keep_logs(&dir);
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!((kept, nothing), ((true, 1), false));
        assert!(second != dir && second.parent() == Some(&parent), "{}", second.display());
    }

    #[test]
    fn what_a_killed_farm_left_is_removed_and_neither_a_running_one_nor_the_logs_of_a_failure() {
        let parent = parent("killed");
        let killed = Folder::make(&free(&parent)).unwrap();
        let (runs, failed) =
            (Folder::make(&free(&parent)).unwrap(), parent.join(PREFIX.to_owned() + "1"));
        fs::create_dir(&failed).unwrap();
        fs::write(failed.join("node-1.log"), "why").unwrap();
        let gone = killed.path().to_owned();
        let before = running(&parent);
        drop(killed);
        let looked_at = File::open(gone.join(LOCK)).unwrap();
        looked_at.lock_shared().unwrap();
        let cleared = clear_killed(&parent);
        let (after, kept) = (running(&parent), failed.exists());
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!((before.len(), cleared, after), (2, vec![gone], vec![runs.path().to_owned()]));
        assert!(kept);
    }
}
