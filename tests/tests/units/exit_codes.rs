//! Settings that a person must change first end every program with 2, which its unit does not start again.

use std::{
    fs,
    process::{Command, Stdio},
};

use millrace_testkit::Scratch;
use millrace_tests::program;

#[test]
fn settings_that_cannot_be_used_end_a_program_with_2_and_name_what_is_wrong() {
    let scratch = Scratch::new("exit-codes").unwrap();
    let file = scratch.path().join("settings.toml");
    let registry = "[registry]\nendpoints = ['http://127.0.0.1:9']\n";
    for (settings, at_fault) in [
        (format!("nmae = 'a'\n{registry}"), "nmae"),
        (registry.replace("http", "ftp"), "ftp://127.0.0.1:9"),
        (format!("{registry}lease_seconds = 1\n"), "lease_seconds 1"),
        (String::new(), "no registry"),
        ("name = \n".to_owned(), "settings.toml"),
    ] {
        fs::write(&file, &settings).unwrap();
        for kind in ["router", "node", "origin", "api"] {
            let mut command = Command::new(program(&format!("millrace-{kind}")).unwrap());
            command.arg("--config").arg(&file).stdin(Stdio::null());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{kind} with {settings:?}: {said}");
            assert!(said.contains(at_fault), "{kind} with {settings:?}: {said}");
        }
    }
}
