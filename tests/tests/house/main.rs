//! The rules of the house, checked by reading the repository: which crate may depend on which, what a pure crate
//! may use, how long a file may be, what the documents must say.
//!
//! Each file here holds one rule: a function from text to findings, tests that it can fail, and the test that
//! applies it to this repository. Nothing of Millrace is started.

#![allow(clippy::unwrap_used, reason = "what surprises a test ends it")]

mod arrows;
mod bans;
mod configuration;
mod links;
mod manifests;
mod messages;
mod metrics;
mod notice;
mod reasons;
mod sources;
mod specification;
mod tree;
mod untested;
mod words;
mod written;

/// Fails with one finding per line.
fn assert_clean(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
