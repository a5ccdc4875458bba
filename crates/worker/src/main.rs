//! `millrace-worker`: repackages one stream. Pure Rust: no C library but the system's own is mapped into it.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_worker::run("millrace-worker", millrace_worker::NoBackend)
}
