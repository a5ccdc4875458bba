//! What systemd says of the units: `systemd-analyze verify` and `security`, both without a running systemd.

use std::{
    fs,
    process::{Command, Output},
};

use millrace_testkit::Scratch;
use millrace_tests::program;

use crate::units::unit::{PROGRAMS, Unit};

/// The exposure that `systemd-analyze security` may find at most, in tenths of its scale from 0 to 10.
const EXPOSURE: &[(&str, u32)] = &[
    ("millrace-api.service", 12),
    ("millrace-node-drain.service", 12),
    ("millrace-node.service", 33),
    ("millrace-origin.service", 12),
    ("millrace-router.service", 12),
    ("millrace-standalone.service", 18),
];

fn analyze(arguments: &[&str]) -> Output {
    let mut command = Command::new("systemd-analyze");
    let done = command.args(arguments).env("SYSTEMD_PAGER", "").env("LC_ALL", "C").output();
    done.expect("systemd-analyze of the package systemd")
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

/// Lays the units out with the programs of this build, and verifies them together.
fn verified(units: &[Unit]) -> Output {
    let scratch = Scratch::new("units").unwrap();
    let built = program("millrace").unwrap();
    let built = built.parent().unwrap().to_str().unwrap();
    let paths = units.iter().map(|unit| {
        let path = scratch.path().join(&unit.name);
        fs::write(&path, unit.text.replace(PROGRAMS, built)).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let paths: Vec<String> = paths.collect();
    let mut arguments = vec!["verify", "--man=no", "--recursive-errors=one"];
    arguments.extend(paths.iter().map(String::as_str));
    analyze(&arguments)
}

#[test]
fn systemd_reads_every_unit_without_a_word_of_complaint() {
    let output = verified(&Unit::all());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}

#[test]
fn systemd_complains_of_a_misspelled_key_and_of_a_program_that_is_not_there() {
    for (right, wrong) in [("WatchdogSec", "WatchdogSecs"), ("millrace standalone", "milrace x")] {
        let mut unit = Unit::named("millrace-standalone.service");
        unit.text = unit.text.replace(right, wrong);
        let output = verified(&[unit]);
        assert!(!output.status.success(), "{wrong} was not complained of");
    }
}

#[test]
fn no_unit_exposes_more_than_the_table_says_and_the_table_says_no_more_than_needed() {
    let units = Unit::all();
    let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
    let listed: Vec<_> = EXPOSURE.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, listed, "one row for each unit, in order");
    for (name, tenths) in EXPOSURE {
        let path = crate::units::unit::folder().join(name);
        let allowed = |tenths: u32| {
            let threshold = format!("--threshold={tenths}");
            analyze(&["security", "--offline=yes", &threshold, path.to_str().unwrap()])
        };
        let output = allowed(*tenths);
        assert!(output.status.success(), "{name}: above {tenths} tenths\n{}", said(&output));
        assert!(
            !allowed(tenths - 3).status.success(),
            "{name}: less than {tenths} tenths would do"
        );
    }
}
