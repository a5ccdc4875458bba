//! Makes this machine fit: looks what is missing, and installs it as root, by sudo, or says how.
//!
//! What is needed is decided in [`crate::packages`]; nothing is touched when nothing is missing.

use std::{
    io::IsTerminal as _,
    process::{Command, Stdio},
};

use anyhow::Result;

use crate::{packages, process};

/// Whether the machine can build and run now.
#[derive(Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Everything is there.
    Fit,
    /// Packages are missing and may not or cannot be installed; the way out has been printed.
    Unfit,
}

/// Installs those of `wanted` that are missing. With `only_check`, reports them instead.
/// Fails when the installation itself fails twice.
pub fn prepare(wanted: &[&str], only_check: bool) -> Result<Fitness> {
    let Some(installed) = dpkg_output(wanted) else {
        eprintln!(
            "no dpkg here; these Debian packages, or what they are called elsewhere, are needed:"
        );
        eprintln!("  {}", wanted.join(" "));
        eprintln!("once they are there, add --no-install");
        return Ok(if only_check { Fitness::Fit } else { Fitness::Unfit });
    };
    let mut missing = packages::missing(wanted, &installed);
    missing.retain(|name| !(packages::ALSO_FROM_ELSEWHERE.contains(name) && is_on_path(name)));
    if missing.is_empty() {
        return Ok(Fitness::Fit);
    }
    let install = packages::install_command(&missing);
    let mut command = match privilege() {
        _ if only_check => return Ok(report(&install)),
        Privilege::Root => process::command("sh", &["-c", &install]),
        Privilege::Sudo => process::command("sudo", &["sh", "-c", &install]),
        Privilege::None => return Ok(report(&install)),
    };
    // A mirror in the middle of an update fails once and works a moment later.
    process::run(&mut command).or_else(|_| process::run(&mut command))?;
    Ok(Fitness::Fit)
}

fn report(install: &str) -> Fitness {
    eprintln!("packages are missing; as root, run:\n  {install}");
    Fitness::Unfit
}

/// What dpkg says of `wanted`; `None` where there is no dpkg. It exits with 1 when it does not know one: no error.
fn dpkg_output(wanted: &[&str]) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", packages::DPKG_FORMAT])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

enum Privilege {
    Root,
    Sudo,
    None,
}

fn privilege() -> Privilege {
    let answers = |program: &str, args: &[&str]| {
        Command::new(program).args(args).stderr(Stdio::null()).output().ok()
    };
    if answers("id", &["-u"]).is_some_and(|output| output.stdout.trim_ascii() == b"0") {
        return Privilege::Root;
    }
    // Without a terminal sudo cannot ask for a password: it must be allowed already.
    let works_unasked =
        answers("sudo", &["-n", "true"]).is_some_and(|output| output.status.success());
    let can_ask = std::io::stdin().is_terminal() && answers("sudo", &["-V"]).is_some();
    if works_unasked || can_ask { Privilege::Sudo } else { Privilege::None }
}
