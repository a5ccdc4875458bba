//! Starting other programs: shown before they run, judged by their exit status. Decides no order and no retry.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The repository's root: two levels above this crate.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).expect("invariant: xtask lies in crates/xtask").to_owned()
}

/// A program to start in the repository's root.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The cargo that runs us, so that a toolchain chosen by `cargo +name` stays chosen. What it says about xtask itself stays here: a
/// library that is built by it would be built again when a person calls cargo.
pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), args);
    let of_xtask = |name: &String| {
        ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars().filter(|(name, _)| of_xtask(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Becomes the program of its arguments, given only what time is left over. `SCHED_IDLE` alone does not say that where the
/// kernel shares time out by sessions: the session's own share is made the smallest too. Where it may not be had, as in some
/// containers, it is the least of the ordinary.
const LEFT_OVER: &str = r#"echo 19 2>/dev/null >/proc/self/autogroup
chrt --idle 0 true 2>/dev/null && exec chrt --idle 0 "$0" "$@"
exec nice -n 19 "$0" "$@""#;

/// The same command in a session of its own, given only what time the processors have left over, and its children too. It
/// does not outlive the thread that starts it.
pub fn idle(command: &Command) -> Command {
    let mut idle = Command::new("setsid");
    idle.args(["setpriv", "--pdeathsig", "KILL", "sh", "-c", LEFT_OVER]);
    idle.arg(command.get_program()).args(command.get_args());
    idle.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        idle.current_dir(dir);
    }
    idle
}

/// The command as a person would type it in the repository's root.
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_str()?, quoted(value?.to_str()?)))
    });
    let program = Path::new(command.get_program()).file_name().and_then(|name| name.to_str());
    let args = command.get_args().filter_map(|word| word.to_str()).map(quoted);
    variables.chain(program.map(str::to_owned)).chain(args).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Shows and runs it. Fails when it cannot be started or does not end with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["nextest", "-E", "test(it's)"]).env("RUST_LOG", "a=debug,b");
        assert_eq!(shown(&command), r"RUST_LOG=a=debug,b cargo nextest -E 'test(it'\''s)'");
    }

    #[test]
    fn an_idle_command_runs_the_same_with_what_time_is_left_over() {
        let mut command = command("sh", &["-c", "echo $GREETING; pwd; chrt --pid $$"]);
        command.env("GREETING", "hello");
        let output = idle(&command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let there = root().display().to_string();
        assert!(text.starts_with(&format!("hello\n{there}\n")), "{text}");
        assert!(text.contains("SCHED_IDLE"), "{text}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_that_names_it() {
        assert!(run(&mut Command::new("true")).is_ok());
        assert!(run(&mut Command::new("false")).unwrap_err().to_string().contains("false"));
    }
}
