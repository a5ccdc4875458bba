//! What a program of a farm is from its next start on. Of which build: the present one, or the one before, so that a farm can be
//! upgraded and taken back. And further lines of its settings.
//!
//! The build before is the programs in the folder `MILLRACE_PREVIOUS_BUILD`. Where it is not set it is the present one once more,
//! held at the version of the farm's protocol that the build before speaks: it then says and records what that would.

use std::{env, path::PathBuf};

use super::ManyFarm;
use crate::farm::program;

/// Where the programs of the build before are.
const PREVIOUS: &str = "MILLRACE_PREVIOUS_BUILD";
/// The newest version of the farm's protocol that the build before speaks.
const PREVIOUS_VERSION: u32 = 1;

/// Which build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    /// The one under test.
    #[default]
    Present,
    /// The one before it.
    Previous,
}

impl Build {
    /// Whether the build before is really another one; says which is meant.
    pub fn previous_is_another() -> bool {
        let folder = folder();
        match &folder {
            Some(folder) => println!("the build before: {}", folder.display()),
            None => println!(
                "the build before: this one, held at version {PREVIOUS_VERSION}; {PREVIOUS} is not set"
            ),
        }
        folder.is_some()
    }

    /// The executable of that name.
    pub(super) fn program(self, name: &str) -> anyhow::Result<PathBuf> {
        match (self, folder()) {
            (Self::Previous, Some(folder)) => Ok(folder.join(name)),
            _ => program(name),
        }
    }

    /// Settings that come before all others.
    pub(super) fn settings(self, kind: &str) -> String {
        match self {
            Self::Previous if folder().is_none() && kind != "api" => {
                format!("newest_version = {PREVIOUS_VERSION}\n")
            }
            _ => String::new(),
        }
    }
}

fn folder() -> Option<PathBuf> {
    env::var_os(PREVIOUS).map(PathBuf::from)
}

impl ManyFarm {
    /// Of which build a program is from its next start on.
    pub fn next_build(&mut self, name: &str, build: Build) {
        self.builds.insert(name.to_owned(), build);
    }

    /// Further lines of a program's settings from its next start on, in place of those before; they come before all tables.
    pub fn next_lines(&mut self, name: &str, lines: &str) {
        self.lines.insert(name.to_owned(), lines.to_owned());
    }

    pub(super) fn build_of(&self, name: &str) -> Build {
        self.builds.get(name).copied().unwrap_or(self.options.build)
    }
}
