//! What a worker may use and whom it runs as: three numbers that the node passes in the otherwise empty environment.
//!
//! They are neither orders nor secrets: a worker needs them before it opens its socket.

use std::ffi::CString;

/// Bytes of private memory.
const MEMORY: &str = "MILLRACE_MEMORY_BYTES";
/// Number of threads.
const THREADS: &str = "MILLRACE_THREADS";
/// `uid:gid`.
const USER: &str = "MILLRACE_USER";

/// Whom a worker becomes when it was started as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Numeric user, not 0.
    pub uid: u32,
    /// Numeric group, not 0.
    pub gid: u32,
}

impl User {
    /// The kernel's overflow user, which owns nothing on any host: for want of one made for workers.
    pub const NOBODY: Self = Self { uid: 65_534, gid: 65_534 };

    /// The user of that name in the host's database, `None` if there is none or it cannot be read.
    pub fn named(name: &str) -> Option<Self> {
        let found = nix::unistd::User::from_name(name).ok()??;
        Some(Self { uid: found.uid.as_raw(), gid: found.gid.as_raw() })
    }
}

/// What a worker may use and whom it runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Private memory in bytes: heap, stacks and anonymous mappings, touched or not (8 MiB for the stack of
    /// each thread that a C library starts). A worker that asks for more is refused it.
    pub memory_bytes: u64,
    /// Threads, `None` for as many as the cgroup lets it have. The kernel counts per user: give it only where
    /// each worker has a user of its own, or where the node is not root and every worker gets a user namespace.
    pub threads: Option<u32>,
    /// Whom to become, `None` to stay who one is. Only root can become another.
    pub user: Option<User>,
}

/// The environment does not hold the limits that [`crate::Spawn`] writes there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The memory limit is not there: the worker was not started by a node.
    #[error("{MEMORY} is not set: a worker is started by its node")]
    Missing,
    /// A value that cannot be read.
    #[error("{name}={value:?} is not valid")]
    Invalid {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Limits {
    /// Reads what [`crate::Spawn`] wrote.
    ///
    /// # Errors
    /// A missing memory limit, or a value that cannot be read.
    pub fn from_env() -> Result<Self, LimitsError> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, LimitsError> {
        let memory_bytes = variable(MEMORY).ok_or(LimitsError::Missing)?;
        Ok(Self {
            memory_bytes: parsed(MEMORY, memory_bytes, |text| text.parse().ok())?,
            threads: variable(THREADS)
                .map(|value| parsed(THREADS, value, |text| text.parse().ok()))
                .transpose()?,
            user: variable(USER).map(|value| parsed(USER, value, parse_user)).transpose()?,
        })
    }

    /// The whole environment of a worker.
    pub(crate) fn to_env(self) -> Vec<CString> {
        let mut env = vec![format!("{MEMORY}={}", self.memory_bytes)];
        env.extend(self.threads.map(|threads| format!("{THREADS}={threads}")));
        env.extend(self.user.map(|user| format!("{USER}={}:{}", user.uid, user.gid)));
        env.into_iter()
            .map(|entry| CString::new(entry).expect("invariant: names and numbers hold no NUL"))
            .collect()
    }
}

fn parsed<T>(
    name: &'static str,
    value: String,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, LimitsError> {
    parse(&value).ok_or(LimitsError::Invalid { name, value })
}

fn parse_user(text: &str) -> Option<User> {
    let (uid, gid) = text.split_once(':')?;
    Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(env: &[CString]) -> Result<Limits, LimitsError> {
        Limits::read(|name| {
            env.iter().find_map(|entry| {
                let (found, value) = entry.to_str().unwrap().split_once('=')?;
                (found == name).then(|| value.to_owned())
            })
        })
    }

    #[test]
    fn limits_read_back_from_the_environment_they_make() {
        let all = Limits {
            memory_bytes: 1 << 30,
            threads: Some(64),
            user: Some(User { uid: 64_000, gid: 65_534 }),
        };
        let least = Limits { threads: None, user: None, ..all };
        assert_eq!(read_back(&all.to_env()), Ok(all));
        assert_eq!(read_back(&least.to_env()), Ok(least));
    }

    #[test]
    fn a_worker_without_a_memory_limit_does_not_start() {
        assert_eq!(read_back(&[]), Err(LimitsError::Missing));
        let wrong = read_back(&[c"MILLRACE_MEMORY_BYTES=much".into()]).unwrap_err();
        assert_eq!(wrong.to_string(), r#"MILLRACE_MEMORY_BYTES="much" is not valid"#);
    }
}
