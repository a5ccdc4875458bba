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
