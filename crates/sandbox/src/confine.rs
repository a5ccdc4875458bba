//! The worker's first act: shuts itself in, in the order that `lib.rs` gives reasons for, and reports what holds.

use std::{fs, io, path::PathBuf};

use nix::{errno::Errno, sys::resource::Resource, unistd::geteuid};

use crate::{Limits, Measure, Report, State, landlock, network, privileges, rlimits, seccomp};

/// How a worker is to be confined.
#[derive(Clone, Debug)]
pub struct Confine {
    /// What it may use and whom it becomes.
    pub limits: Limits,
    /// Files and directories it may open for reading; empty for a worker that needs none.
    pub readable: Vec<PathBuf>,
}

/// The worker is not confined and must not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Most measures hold only for the calling thread: there may be no other.
    #[error("{0} threads are running, confine before the first is started")]
    Threads(usize),
    /// The threads cannot be counted.
    #[error("/proc/self/task: {0}")]
    Proc(io::Error),
    /// A resource limit was refused.
    #[error("{resource:?}: {errno}")]
    ResourceLimit {
        /// Which one.
        resource: Resource,
        /// What the kernel said.
        errno: Errno,
    },
    /// `no_new_privs` was refused.
    #[error("no_new_privs: {0}")]
    NoNewPrivs(Errno),
    /// Some files may be opened, and nothing would keep the others shut.
    #[error("readable files were given, but {0}")]
    FilesUnguarded(String),
    /// The filter of system calls was refused.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

impl Confine {
    /// Confines the calling process for good. Call it with one thread, with all libraries loaded, before the first
    /// byte of a stream is read.
    ///
    /// # Errors
    /// A measure without which a worker must not start; exit then.
    pub fn apply(&self) -> Result<Report, ConfineError> {
        require_single_thread()?;
        let mut report = Report::default();

        rlimits::apply(self.limits.memory_bytes)
            .map_err(|(resource, errno)| ConfineError::ResourceLimit { resource, errno })?;
        report.add(Measure::ResourceLimits, State::Applied);

        let isolation = self.leave_host(&mut report);
        report.add(Measure::Threads, self.limit_threads(isolation));
        report.add(Measure::Capabilities, State::of(privileges::drop_capabilities()));

        privileges::forbid_new().map_err(ConfineError::NoNewPrivs)?;
        report.add(Measure::NoNewPrivs, State::Applied);

        let (files, scope) = landlock::apply(&self.readable);
        if let (State::Unavailable(why), false) = (&files, self.readable.is_empty()) {
            return Err(ConfineError::FilesUnguarded(why.clone()));
        }
        report.add(Measure::Files, files);
        report.add(Measure::Scope, scope);

        let lookups =
            if self.readable.is_empty() { seccomp::Files::None } else { seccomp::Files::ReadOnly };
        seccomp::apply(lookups)?;
        report.add(Measure::Seccomp, State::Applied);
        Ok(report)
    }

    /// Leaves the host's network and, if root, its root: which of the two comes first depends on who we are.
    fn leave_host(&self, report: &mut Report) -> Isolation {
        let was_root = geteuid().is_root();
        let as_root = if was_root { network::leave_as_root() } else { Err("not root".to_owned()) };
        let _ = privileges::empty_bounding_set(); // reported with the other sets
        let user = privileges::become_user(self.limits.user);
        let changed = user.is_ok();

        let (network, isolation) = match as_root {
            Ok(()) => (Ok(()), if changed { Isolation::OwnUser } else { Isolation::None }),
            Err(why) if changed => {
                (Err(format!("{why}; {}", network::STAYS_BESIDE_ITS_DAEMON)), Isolation::OwnUser)
            }
            Err(first) => match network::leave_by_user_namespace() {
                Ok(()) => (Ok(()), Isolation::OwnNamespace),
                Err(second) => (Err(format!("{first}; {second}")), Isolation::None),
            },
        };
        report.add(Measure::User, State::of(user));
        report.add(Measure::Network, State::of(network));
        isolation
    }

    fn limit_threads(&self, isolation: Isolation) -> State {
        let Some(threads) = self.limits.threads else {
            return State::Unavailable("no limit was given".to_owned());
        };
        match isolation {
            Isolation::OwnUser | Isolation::OwnNamespace => {
                State::of(rlimits::limit_threads(threads))
            }
            Isolation::None => State::Unavailable(format!(
                "the kernel counts all processes of user {}, and never limits root",
                geteuid()
            )),
        }
    }
}

/// Whose processes the kernel counts together with the worker's.
#[derive(Clone, Copy)]
enum Isolation {
    /// Those of a user that the node chose.
    OwnUser,
    /// Only its own.
    OwnNamespace,
    /// Everybody's who runs as the node does.
    None,
}

fn require_single_thread() -> Result<(), ConfineError> {
    match fs::read_dir("/proc/self/task").map_err(ConfineError::Proc)?.count() {
        1 => Ok(()),
        threads => Err(ConfineError::Threads(threads)),
    }
}
