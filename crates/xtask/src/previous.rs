//! The build before this one, for the test that upgrades a farm: built from the commit in `tests/previous-build`, in a worktree
//! below `target`. A checkout without that commit, such as a shallow one, has none, and the test says what it does instead.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};

use crate::process;

/// Names the commit; lines that begin with `#` are for people.
const NAMED_IN: &str = "tests/previous-build";
/// Where the tests look for its programs.
pub const FOLDER: &str = "MILLRACE_PREVIOUS_BUILD";
/// What it is built as.
const PROFILE: &str = "ci";

/// The build before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    commit: String,
    dir: PathBuf,
}

impl Previous {
    /// The build that is named, if its commit is in this checkout; says so when it is not.
    pub fn here() -> Option<Self> {
        let text = fs::read_to_string(process::root().join(NAMED_IN)).ok()?;
        let commit = named(&text)?.to_owned();
        let object = format!("{commit}^{{commit}}");
        let mut look = process::command("git", &["cat-file", "-e", &object]);
        if look.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            let dir = process::root().join("target/previous").join(&commit);
            return Some(Self { commit, dir });
        }
        eprintln!(
            "the build before ({commit}) is not in this checkout: its programs are not built"
        );
        None
    }

    /// Where its programs are, once they are built.
    pub fn programs(&self) -> PathBuf {
        self.target().join(PROFILE)
    }

    fn target(&self) -> PathBuf {
        self.dir.join("target")
    }

    /// Builds its programs; those of an earlier run are kept.
    ///
    /// # Errors
    /// git or cargo fail.
    pub fn build(&self) -> Result<()> {
        let source = self.dir.join("source");
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of plain text");
        if !source.join("Cargo.toml").is_file() {
            fs::create_dir_all(&self.dir)?;
            process::run(&mut process::command("git", &["worktree", "prune"]))?;
            let add = ["worktree", "add", "--force", "--detach", &text(&source)?, &self.commit];
            process::run(&mut process::command("git", &add))?;
        }
        let mut build = process::cargo(&["build", "--profile", PROFILE, "--workspace", "--bins"]);
        build.current_dir(&source).env("CARGO_TARGET_DIR", text(&self.target())?);
        process::run(&mut build)
    }
}

/// The commit that a text names.
fn named(text: &str) -> Option<&str> {
    let line =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let is_hash = line.len() == 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_the_first_line_that_is_not_for_people_and_must_be_whole() {
        let commit = "0d6c26923da3391d9cb627f4739f0fdc6535e7fc";
        assert_eq!(named(&format!("# why\n\n{commit}\n")), Some(commit));
        assert_eq!(named("# why\n0d6c269\n"), None);
        let text = fs::read_to_string(process::root().join(NAMED_IN)).unwrap();
        assert!(named(&text).is_some(), "{NAMED_IN} names a commit");
    }
}
