//! Which versions of the worker socket's protocol work together: neighbours.
//!
//! A worker outlives the daemon that started it, and the next one may be of another build. The worker says its number
//! first, in `Ready`; the daemon decides. Builds from before there were numbers say 0.

/// What this build speaks on a worker socket.
pub const WORKER_PROTOCOL: u32 = 1;

/// A peer that is more than one version away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker speaks version {theirs} of the worker socket, this node {WORKER_PROTOCOL} and its neighbours: \
     upgrade one version at a time"
)]
pub struct ProtocolError {
    /// What it speaks.
    pub theirs: u32,
}

/// Whether this build works with a worker that speaks `theirs`.
///
/// # Errors
/// [`ProtocolError`] when it is neither ours nor the one before or after.
pub const fn check_worker_protocol(theirs: u32) -> Result<(), ProtocolError> {
    if theirs.abs_diff(WORKER_PROTOCOL) <= 1 { Ok(()) } else { Err(ProtocolError { theirs }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_versions_work_together_and_others_are_told_why_not() {
        for theirs in [WORKER_PROTOCOL - 1, WORKER_PROTOCOL, WORKER_PROTOCOL + 1] {
            assert_eq!(check_worker_protocol(theirs), Ok(()));
        }
        let refusal = check_worker_protocol(WORKER_PROTOCOL + 2).unwrap_err().to_string();
        assert!(refusal.contains("version 3 of the worker socket, this node 1"), "{refusal}");
    }
}
