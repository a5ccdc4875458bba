//! What of the sandbox holds on this host: one line per [`Measure`], for people, logs and the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that stands between a worker and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Memory, descriptors, core and file size by `setrlimit`.
    ResourceLimits,
    /// The worker's own limit of threads by `setrlimit`.
    Threads,
    /// A network namespace without any interface that is up.
    Network,
    /// An unprivileged user of its own.
    User,
    /// Every capability set empty, the bounding set too.
    Capabilities,
    /// No program can ever give privileges back.
    NoNewPrivs,
    /// Landlock: no file can be reached.
    Files,
    /// Landlock: no abstract socket and no signal outside the worker.
    Scope,
    /// The allow-list of system calls.
    Seccomp,
    /// Memory, CPU and process limits by cgroup, set by the node.
    Cgroup,
}

impl Measure {
    /// Log field and wire value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResourceLimits => "resource_limits",
            Self::Threads => "threads",
            Self::Network => "network",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no_new_privs",
            Self::Files => "files",
            Self::Scope => "scope",
            Self::Seccomp => "seccomp",
            Self::Cgroup => "cgroup",
        }
    }
}

/// Whether a measure holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Applied,
    /// It does not, and why.
    Unavailable(String),
}

impl State {
    /// [`State::Applied`], or the error's text as the reason.
    pub(crate) fn of<T, E: fmt::Display>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Applied,
            Err(error) => Self::Unavailable(error.to_string()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied => f.write_str("applied"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

/// Every measure that was tried, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(Vec<(Measure, State)>);

impl Report {
    /// Adds a line.
    pub fn add(&mut self, measure: Measure, state: State) {
        self.0.push((measure, state));
    }

    /// What became of a measure, `None` if nobody tried it.
    pub fn state(&self, measure: Measure) -> Option<&State> {
        self.0.iter().find(|(of, _)| *of == measure).map(|(_, state)| state)
    }

    /// All lines.
    pub fn lines(&self) -> &[(Measure, State)] {
        &self.0
    }
}

/// One line per measure: `network: applied`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (measure, state)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {state}", measure.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_from_json_and_prints_its_reasons() {
        let mut report = Report::default();
        report.add(Measure::Seccomp, State::Applied);
        report.add(Measure::Network, State::of::<(), _>(Err("not root")));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"[["seccomp","applied"],["network",{"unavailable":"not root"}]]"#);
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(report.to_string(), "seccomp: applied\nnetwork: unavailable: not root");
        assert_eq!(report.state(Measure::Cgroup), None);
    }
}
