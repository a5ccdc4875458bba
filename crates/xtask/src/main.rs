//! The one tool of this repository: `cargo xtask run | test | check | bench | fuzz`.
//!
//! It reads its verb and hands over; each verb is a file. It depends on no crate of the workspace, so that
//! it builds in seconds on a machine that has nothing but Rust. It decides nothing about Millrace itself.

mod arguments;
mod bench;
mod check;
mod fuzz;
mod fuzz_coverage;
mod junit;
mod nextest;
mod packages;
mod previous;
mod process;
mod run;
mod setup;
mod steps;
mod test;
mod toolchain;

use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
cargo xtask run   [--no-install] [--demo] [ARGS…]   set up, build, start `millrace standalone` with ARGS
cargo xtask test  [--no-install] [--full] [FILTER…] set up, then everything CI runs; with FILTER only those tests
cargo xtask check                                   format, clippy and the house rules: a minute, no set-up
cargo xtask bench [NAME] [ARGS…]                    run a benchmark; without NAME, list them
cargo xtask fuzz  [TARGET] [--seconds N]            run the fuzz targets, 60 s each unless told otherwise
cargo xtask fuzz  --coverage                        which lines of the parsers the committed corpus reaches";

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    let outcome = match arguments.word().as_deref() {
        Some("run") => run::run(arguments),
        Some("test") => test::test(arguments),
        Some("check") => check::check(arguments),
        Some("bench") => bench::bench(arguments),
        Some("fuzz") => fuzz::fuzz(arguments),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
