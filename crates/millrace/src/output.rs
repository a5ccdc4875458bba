//! What people and programs read: standard output, and standard error beside it. Whoever closes a pipe does not want to read on:
//! that ends no command, and no farm.

use std::{
    fmt::Arguments,
    io::{ErrorKind, Write as _, stderr, stdout},
};

use anyhow::Context as _;

/// Writes to standard output, as it is.
pub fn print(text: Arguments<'_>) {
    let _ = stdout().write_fmt(text).and_then(|()| stdout().flush());
}

/// The same with an answer that is asked for once: a key, a token, a list.
///
/// # Errors
/// When it went nowhere and nobody has closed a pipe: a full disk.
pub fn deliver(answer: Arguments<'_>) -> anyhow::Result<()> {
    match stdout().write_fmt(answer).and_then(|()| stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let why = "the answer was not written to standard output; a key or token in it is lost: make another";
            Err(error).context(why)
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard output.
pub fn say(line: Arguments<'_>) {
    print(format_args!("{line}\n"));
}

/// Writes whole lines to standard error.
pub fn warn(lines: &str) {
    let _ = stderr().write_all(lines.as_bytes());
}

/// Writes a line to standard error.
pub fn note(line: Arguments<'_>) {
    warn(&format!("{line}\n"));
}
