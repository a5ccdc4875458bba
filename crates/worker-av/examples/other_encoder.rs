//! `millrace-worker-av` with an encoder that is set otherwise: its parameter sets, and so its init sections, are others. For tests of
//! what players are told when such a one takes over.

use std::process::ExitCode;

use millrace_software::{Software, Tuning};

fn main() -> ExitCode {
    let tuning = Tuning { references: 2, ..Tuning::default() };
    millrace_worker::run("millrace-worker-av", Software { tuning })
}
