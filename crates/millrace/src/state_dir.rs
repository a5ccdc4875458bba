//! Where standalone keeps what outlives it, and where its sockets lie.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash as _, Hasher as _},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{anyhow, ensure};
use millrace_node::MAX_RUN_DIR_BYTES;
use nix::unistd::geteuid;

/// The two directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    /// Keys.
    pub state: PathBuf,
    /// Sockets.
    pub run: PathBuf,
}

impl StateDir {
    /// The directories for this user: `given` or the default.
    pub fn of_user(given: Option<&Path>) -> Self {
        let var = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self::choose(given, geteuid().is_root(), var("XDG_STATE_HOME"), var("HOME"))
    }

    fn choose(
        given: Option<&Path>,
        root: bool,
        state_home: Option<PathBuf>,
        home: Option<PathBuf>,
    ) -> Self {
        let default = || match root {
            true => PathBuf::from("/var/lib/millrace"),
            false => state_home
                .or_else(|| home.map(|home| home.join(".local/state")))
                .unwrap_or_else(env::temp_dir)
                .join("millrace"),
        };
        let state = given.map_or_else(default, Path::to_path_buf);
        // A farm of its own directory has its sockets there, so that two farms never meet.
        let run = match root && given.is_none() {
            true => PathBuf::from("/run/millrace"),
            false => state.join("run"),
        };
        Self { run: short_enough(run, &env::temp_dir()), state }
    }

    /// Makes both where they are missing.
    ///
    /// # Errors
    /// A directory cannot be made, or somebody else made it.
    pub fn create(&self) -> anyhow::Result<()> {
        let make = |path: &Path, mode| -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)
        };
        let hint = "choose another with --state-dir";
        for (path, mode) in [(&self.state, 0o700), (&self.run, 0o755)] {
            make(path, mode).map_err(|error| anyhow!("{}: {error}: {hint}", path.display()))?;
        }
        // In a directory that all may write to, a stranger could have been first.
        let made = fs::symlink_metadata(&self.run)?;
        let ours = made.is_dir() && made.uid() == geteuid().as_raw();
        ensure!(ours, "{}: belongs to another user: {hint}", self.run.display());
        Ok(())
    }
}

/// `run`, or where no socket's name would fit behind it, a directory of `temp` that is its alone.
fn short_enough(run: PathBuf, temp: &Path) -> PathBuf {
    if run.as_os_str().len() <= MAX_RUN_DIR_BYTES {
        return run;
    }
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    temp.join(format!("millrace-{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(given: Option<&str>, root: bool, state_home: Option<&str>) -> (String, String) {
        let home = Some(PathBuf::from("/home/ann"));
        let dir = StateDir::choose(given.map(Path::new), root, state_home.map(PathBuf::from), home);
        (dir.state.display().to_string(), dir.run.display().to_string())
    }

    fn both(state: &str, run: &str) -> (String, String) {
        (state.to_owned(), run.to_owned())
    }

    #[test]
    fn root_has_the_hosts_directories_and_others_their_own() {
        assert_eq!(chosen(None, true, None), both("/var/lib/millrace", "/run/millrace"));
        let own = both("/home/ann/.local/state/millrace", "/home/ann/.local/state/millrace/run");
        assert_eq!(chosen(None, false, None), own);
        assert_eq!(chosen(None, false, Some("/x")), both("/x/millrace", "/x/millrace/run"));
        assert_eq!(chosen(Some("/farm"), true, None), both("/farm", "/farm/run"));
    }

    #[test]
    fn sockets_of_a_farm_deep_in_the_tree_lie_in_a_short_directory_of_their_own() {
        let deep = |name: &str| PathBuf::from(format!("/{}/{name}/run", "x".repeat(100)));
        let temp = Path::new("/tmp");
        let [one, other] = ["one", "other"].map(|name| short_enough(deep(name), temp));
        assert!(one.starts_with(temp) && one.as_os_str().len() <= MAX_RUN_DIR_BYTES, "{one:?}");
        assert_ne!(one, other);
        assert_eq!(one, short_enough(deep("one"), temp), "the same after a restart");
        assert_eq!(short_enough("/run/millrace".into(), temp), PathBuf::from("/run/millrace"));
    }
}
