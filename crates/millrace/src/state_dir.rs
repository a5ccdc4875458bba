//! Where standalone keeps what outlives it, and where its sockets lie.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
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
        Self { state, run }
    }

    /// Makes both where they are missing.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn create(&self) -> anyhow::Result<()> {
        let make = |path: &Path, mode| -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)
        };
        let hint = "choose another with --state-dir";
        make(&self.state, 0o700).with_context(|| format!("{}: {hint}", self.state.display()))?;
        make(&self.run, 0o755).with_context(|| format!("{}: {hint}", self.run.display()))
    }
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
}
