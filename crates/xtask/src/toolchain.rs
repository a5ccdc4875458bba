//! What of Rust comes apart from cargo: clippy and rustfmt, which a minimal toolchain lacks.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::process;

/// Cargo's name of each, and rustup's.
const COMPONENTS: [(&str, &str); 2] = [("clippy", "clippy"), ("fmt", "rustfmt")];

/// Adds with rustup what cargo does not know. Fails where there is no rustup, and says what is missing.
pub fn ensure() -> Result<()> {
    let missing = missing(|verb| {
        process::cargo(&[verb, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    if missing.is_empty() {
        return Ok(());
    }
    let mut add = process::command("rustup", &["component", "add"]);
    process::run(add.args(&missing)).with_context(|| {
        format!("missing: {}; install them from where Rust came from", missing.join(", "))
    })
}

fn missing(known: impl Fn(&str) -> bool) -> Vec<&'static str> {
    COMPONENTS.iter().filter(|(verb, _)| !known(verb)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_does_not_know_is_called_as_rustup_does() {
        assert_eq!(missing(|_| true), Vec::<&str>::new());
        assert_eq!(missing(|verb| verb == "clippy"), ["rustfmt"]);
        assert_eq!(missing(|_| false), ["clippy", "rustfmt"]);
    }
}
