//! Memory that the allocator holds for nobody. What has waited once, behind a slow socket, leaves holes between what stays; the
//! allocator gives only the end of its memory back by itself.

#![allow(unsafe_code)] // malloc_trim has no safe wrapper

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// Seldom enough to cost nothing: what goes back and is needed again costs as much as new memory.
const EVERY: Duration = Duration::from_secs(10);

/// Gives memory back to the system from time to time, for as long as the runtime lives. Needs a tokio runtime.
pub fn give_back_spare_memory() {
    tokio::spawn(async {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            give_back();
        }
    });
}

/// Whole pages that nothing lies in, of all threads; other allocators than glibc's see to it themselves.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time by any thread, and moves nothing that is allocated.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Of this process, KiB.
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn holes_between_pieces_that_stay_are_given_back() {
        let pieces = |bytes: usize| std::iter::repeat_with(move || vec![7_u8; bytes]).take(1_000);
        let (holes, _stay): (Vec<_>, Vec<_>) = pieces(64 << 10).zip(pieces(100)).unzip();
        drop(holes);
        let held = resident();
        give_back();
        let left = resident();
        assert!(left + 48 * 1024 < held, "{left} KiB of {held}");
    }
}
