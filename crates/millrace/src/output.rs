//! What people and programs read: standard output, and standard error beside it. Whoever closes a pipe does not want to read on:
//! that ends no command, and no farm.

use std::{
    fmt::Arguments,
    io::{Write as _, stderr, stdout},
};

/// Writes to standard output, as it is.
pub fn print(text: Arguments<'_>) {
    let _ = stdout().write_fmt(text).and_then(|()| stdout().flush());
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
