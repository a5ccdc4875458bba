//! A unit file as a test needs it: where it lies, the values of a key, its command line.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where units expect the programs.
pub const PROGRAMS: &str = "/usr/lib/millrace";

/// One file of `systemd/`.
#[derive(Debug)]
pub struct Unit {
    /// Such as `millrace-standalone.service`.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl Unit {
    /// All of them, in the order of their names.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(folder()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|it| it == "service")).collect();
        paths.sort();
        let units = paths.iter().map(|path| Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            text: fs::read_to_string(path).unwrap(),
        });
        units.collect()
    }

    /// The unit of that name.
    pub fn named(name: &str) -> Self {
        Self::all().into_iter().find(|unit| unit.name == name).unwrap()
    }

    /// What a key is set to, each time it is.
    pub fn values(&self, key: &str) -> Vec<&str> {
        let assignments = self.text.lines().filter_map(|line| line.split_once('='));
        assignments.filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
    }

    /// Those that keep a program running.
    pub fn daemons() -> Vec<Self> {
        Self::all().into_iter().filter(|unit| unit.values("Type") != ["oneshot"]).collect()
    }

    /// Program and arguments. Our units quote nothing and expand nothing.
    pub fn command(&self) -> (&str, Vec<&str>) {
        self.command_of("ExecStart")
    }

    /// The same of the command under `key`; `-` before it says that it may fail.
    pub fn command_of(&self, key: &str) -> (&str, Vec<&str>) {
        let [command] = self.values(key)[..] else { panic!("{}: {key}", self.name) };
        let mut words = command.trim_start_matches('-').split_whitespace();
        let program = words.next().unwrap();
        let name = program.strip_prefix(PROGRAMS).and_then(|rest| rest.strip_prefix('/'));
        (name.unwrap_or_else(|| panic!("{}: {program}", self.name)), words.collect())
    }
}

/// The folder of units.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").canonicalize().unwrap()
}
