//! Every crate inherits what the workspace decides: its lints above all, since a crate that forgets them is unwatched.

use crate::{assert_clean, tree};

const INHERITED: &[&str] = &[
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "publish.workspace = true",
    "[lints]\nworkspace = true",
];

fn faults(path: &str, manifest: &str) -> Vec<String> {
    let missing = INHERITED.iter().filter(|line| !manifest.contains(**line));
    let mut findings: Vec<String> =
        missing.map(|line| format!("{path}: {} is missing", line.replace('\n', " "))).collect();
    if !manifest.contains("\ndescription = \"") {
        findings.push(format!("{path}: no description"));
    }
    findings
}

#[test]
fn every_crate_inherits_lints_licence_and_edition() {
    let manifests = tree::texts(&["Cargo.toml"]);
    let ours =
        manifests.iter().filter(|(path, _)| path != "Cargo.toml" && !path.starts_with("fuzz/"));
    let findings: Vec<String> = ours.flat_map(|(path, text)| faults(path, text)).collect();
    assert_clean(&findings);
}

#[test]
fn the_rule_fails_on_a_crate_that_forgets_the_lints() {
    let whole = format!("[package]\ndescription = \"a\"\n{}\n", INHERITED.join("\n"));
    assert_eq!(faults("a", &whole), Vec::<String>::new());
    let unwatched = whole.replace("[lints]\nworkspace = true", "");
    assert_eq!(faults("a", &unwatched), ["a: [lints] workspace = true is missing"]);
}

/// What lies in `tests/tests` and nobody compiles: the files there are modules of one program, not found by cargo.
fn forgotten(paths: &[&str], program: &str) -> Vec<String> {
    let module = |path: &str| {
        let rest = path.strip_prefix("tests/tests/")?;
        let name = rest.strip_suffix("/mod.rs").or_else(|| rest.strip_suffix(".rs"))?;
        (!name.contains('/') && name != "main").then(|| name.to_owned())
    };
    let unnamed = |name: &String| !program.lines().any(|line| line == format!("mod {name};"));
    let modules = paths.iter().filter_map(|path| module(path)).filter(unnamed);
    modules.map(|name| format!("tests/tests/main.rs: mod {name}; is missing")).collect()
}

#[test]
fn every_system_test_is_part_of_the_program() {
    let sources = tree::texts(&[".rs"]);
    let paths: Vec<&str> = sources.iter().map(|(path, _)| path.as_str()).collect();
    let program = sources.iter().find(|(path, _)| path == "tests/tests/main.rs");
    assert_clean(&forgotten(&paths, &program.expect("the program of the system tests").1));
}

#[test]
fn the_rule_fails_on_a_test_that_nobody_compiles() {
    let paths = ["tests/tests/main.rs", "tests/tests/drain.rs", "tests/tests/units/mod.rs"];
    assert_eq!(forgotten(&paths, "mod drain;\nmod units;\n"), Vec::<String>::new());
    assert_eq!(forgotten(&paths, "mod units;\n"), ["tests/tests/main.rs: mod drain; is missing"]);
}
