//! How much of the processors a program is given that a test starts to judge something, while what is judged next goes on.

use std::process::Command;

/// Becomes the program of its arguments, given only what time is left over. `SCHED_IDLE` alone does not say that where the kernel
/// shares time out by sessions, of which each worker of a farm is one: the session's own share is made the smallest too. Where
/// it may not be had, as in some containers, it is the least of the ordinary.
const LEFT_OVER: &str = r#"echo 19 2>/dev/null >/proc/self/autogroup
chrt --idle 0 true 2>/dev/null && exec chrt --idle 0 "$0" "$@"
exec nice -n 19 "$0" "$@""#;

/// What others leave of the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// As much as others have.
    Ordinary,
    /// What nobody else wants.
    LeftOver,
}

impl Share {
    /// A program to be started with that share. One that has what is left over ends with the thread that starts it.
    pub(crate) fn command(self, program: &str) -> Command {
        if self == Self::Ordinary {
            return Command::new(program);
        }
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", "KILL", "sh", "-c", LEFT_OVER, program]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_left_over_time_is_below_all_others_and_says_what_its_program_says() {
        let said = |share: Share, script: &str| {
            let mut command = share.command("sh");
            let output = command.args(["-c", script, "sh", "a b"]).output().expect("setsid");
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        // Where there is no SCHED_IDLE (policy 5), it is nice 19.
        let below = "cut -d' ' -f19,41 /proc/self/stat";
        let (_, ordinary) = said(Share::Ordinary, below);
        let (_, left_over) = said(Share::LeftOver, below);
        assert!(!ordinary.starts_with("19") && !ordinary.ends_with(" 5\n"), "{ordinary}");
        assert!(left_over.starts_with("19") || left_over.ends_with(" 5\n"), "{left_over}");
        assert_eq!(said(Share::LeftOver, "echo $1; exit 3"), (Some(3), "a b\n".to_owned()));
    }
}
