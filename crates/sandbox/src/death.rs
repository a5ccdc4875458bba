//! How a process ended, and which [`EndReason`] that is.

use millrace_types::{EndReason, WorkerExit};
use nix::libc;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is gone, and only its parent, which we are not, could learn how.
    Unobserved,
}

impl Death {
    /// Why it ended. `out_of_memory`: its cgroup counted an OOM kill, or its last words say so ([`says_out_of_memory`]).
    /// That the node itself killed it (hung, too late) is for the node to say.
    pub const fn reason(self, out_of_memory: bool) -> EndReason {
        match self {
            Self::Exited(code) => WorkerExit::from_code(code).reason(),
            Self::Signal(libc::SIGSYS) => EndReason::KilledSeccomp,
            Self::Signal(_) | Self::Unobserved if out_of_memory => EndReason::KilledMemory,
            Self::Signal(_) | Self::Unobserved => EndReason::KilledSignal,
        }
    }
}

/// Whether a line on a worker's standard error is Rust's last word before it aborts for want of memory
/// (`std::alloc::handle_alloc_error`).
pub fn says_out_of_memory(line: &str) -> bool {
    line.strip_prefix("memory allocation of ").is_some_and(|rest| rest.contains(" bytes failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_has_its_reason() {
        for (death, out_of_memory, reason) in [
            (Death::Exited(0), false, EndReason::Stopped),
            (Death::Exited(20), false, EndReason::BadInput),
            (Death::Exited(99), false, EndReason::Bug),
            (Death::Signal(libc::SIGSYS), true, EndReason::KilledSeccomp),
            (Death::Signal(libc::SIGKILL), true, EndReason::KilledMemory),
            (Death::Signal(libc::SIGABRT), true, EndReason::KilledMemory),
            (Death::Signal(libc::SIGKILL), false, EndReason::KilledSignal),
            (Death::Unobserved, true, EndReason::KilledMemory),
            (Death::Unobserved, false, EndReason::KilledSignal),
        ] {
            assert_eq!(death.reason(out_of_memory), reason, "{death:?}");
        }
    }

    #[test]
    fn only_the_allocators_last_words_mean_out_of_memory() {
        assert!(says_out_of_memory("memory allocation of 2147483648 bytes failed"));
        assert!(!says_out_of_memory("warning: memory allocation of 12 bytes failed"));
    }
}
