//! What a part costs the origin, beside nginx, by the benchmark in few rounds. Both are compared as they stand in this build.

use std::process::Command;

use millrace_tests::program;

/// Enough for a median that the neighbours of a busy machine do not move; a round takes a fifth of a second.
const ROUNDS: &str = "15";

#[test]
fn timing_a_part_costs_the_origin_no_more_than_nginx() {
    let mut benchmark = Command::new(program("origin_parts").unwrap());
    let done = benchmark.args(["--rounds", ROUNDS, "--bound-only"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let complaints = String::from_utf8_lossy(&done.stderr);
    println!("{said}");
    assert!(done.status.success(), "{said}{complaints}");
}
