//! How a Rust file looks: it says what it owns, it is short, its name is a noun, it holds `unsafe` only where C and shared pages are.

use crate::{assert_clean, tree};

/// Code lines of the file in the middle, of nine in ten, and of any.
const MEDIAN_LINES: usize = 150;
const MOST_LINES: usize = 350;
const LINES: usize = 500;

const BAD_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "misc", "manager", "handler"];

const MAY_BE_UNSAFE: &[&str] = &[
    "crates/software/",
    "crates/gpu/",
    "crates/sandbox/",
    "crates/gpu-sim/",
    "crates/origin/src/slab.rs",
    "crates/origin/src/pipe.rs",
    "crates/telemetry/src/spare_memory.rs",
];

/// The lines that are code: no comments, no blank lines, and nothing from the module of unit tests on.
fn code_lines(text: &str) -> Vec<&str> {
    let mut in_comment = false;
    let mut code = Vec::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ")) {
            break;
        }
        let opens = !in_comment && line.starts_with("/*");
        let comment = in_comment || opens || line.starts_with("//");
        in_comment = (in_comment || opens) && !line.contains("*/");
        if !comment && !line.is_empty() {
            code.push(line);
        }
    }
    code
}

/// Faults of one file, whatever the others are like.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let code = code_lines(text);
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{path}: does not open with //!"));
    }
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    let folders = path.split('/').rev().skip(1);
    if std::iter::once(stem).chain(folders).any(|name| BAD_NAMES.contains(&name)) {
        findings.push(format!("{path}: a file is called after the noun it holds"));
    }
    if code.len() > LINES {
        findings.push(format!("{path}: {} code lines, at most {LINES}", code.len()));
    }
    let may_be_unsafe = MAY_BE_UNSAFE.iter().any(|allowed| path.starts_with(allowed));
    if !may_be_unsafe && code.iter().any(|line| is_unsafe(line)) {
        findings.push(format!("{path}: holds unsafe code"));
    }
    let library = stem == "lib" && path.starts_with("crates/");
    if library && let Some(line) = code_in_library(&code) {
        findings.push(format!("{path}: a lib.rs is mod and pub use, not {line:?}"));
    }
    findings
}

/// Whether the keyword stands in front of something, outside of a text.
fn is_unsafe(line: &str) -> bool {
    let outside_texts: String = line.split('"').step_by(2).collect();
    let mut words = outside_texts.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word == "unsafe")
        || (outside_texts.contains("allow(unsafe_code")
            || outside_texts.contains("expect(unsafe_code"))
}

/// The first statement of a `lib.rs` that is neither a module, nor a re-export, nor an attribute.
fn code_in_library(code: &[&str]) -> Option<String> {
    let without_attributes: Vec<&str> =
        code.iter().copied().filter(|line| !line.starts_with("#")).collect();
    let belongs = |statement: &str| {
        let words = ["mod ", "pub mod ", "pub use ", "pub(crate) use ", "use "];
        statement.is_empty() || words.iter().any(|word| statement.starts_with(word))
    };
    let text = without_attributes.join(" ");
    text.split(';').map(str::trim).find(|statement| !belongs(statement)).map(str::to_owned)
}

/// Faults of the whole: how the lengths are spread.
fn spread_faults(mut lengths: Vec<usize>) -> Vec<String> {
    lengths.sort_unstable();
    let at =
        |share: f64| lengths.get((lengths.len() as f64 * share) as usize).copied().unwrap_or(0);
    let mut findings = Vec::new();
    for (name, length, limit) in
        [("median", at(0.5), MEDIAN_LINES), ("90th percentile", at(0.9), MOST_LINES)]
    {
        if length > limit {
            findings.push(format!("{name} of code lines per file is {length}, at most {limit}"));
        }
    }
    findings
}

#[test]
fn every_file_says_what_it_owns_stays_short_and_is_safe() {
    let sources = tree::texts(&[".rs"]);
    let mut findings: Vec<String> =
        sources.iter().flat_map(|(path, text)| faults(path, text)).collect();
    let lengths = sources.iter().map(|(_, text)| code_lines(text).len()).collect();
    findings.extend(spread_faults(lengths));
    assert_clean(&findings);
}

#[cfg(test)]
mod the_rule_fails_on {
    use super::*;

    fn text_of(lines: usize) -> String {
        format!("//! Owns.\n{}", "let a = 1;\n".repeat(lines))
    }

    #[test]
    fn a_file_without_an_opening_and_a_name_that_is_no_noun() {
        assert_eq!(faults("crates/a/src/b.rs", "use a;\n").len(), 1);
        assert_eq!(faults("crates/a/src/utils.rs", "//! Owns.\n").len(), 1);
        assert_eq!(faults("crates/a/src/helpers/b.rs", "//! Owns.\n").len(), 1);
        assert_eq!(faults("crates/a/src/b.rs", "//! Owns.\n"), Vec::<String>::new());
    }

    #[test]
    fn long_files_but_comments_blank_lines_and_unit_tests_do_not_count() {
        assert_eq!(faults("a.rs", &text_of(501)).len(), 1);
        let padded = format!("{}\n// a\n/* b\n c */\n", text_of(500));
        let tested = format!("{padded}#[cfg(test)]\nmod tests {{\n{}}}\n", "a();\n".repeat(99));
        assert_eq!(faults("a.rs", &tested), Vec::<String>::new());
        assert_eq!(code_lines("a\n/* b\nc */\nd\n//e\n\n"), ["a", "d"]);
    }

    #[test]
    fn lengths_that_are_spread_too_far_up() {
        assert_eq!(spread_faults(vec![100; 10]), Vec::<String>::new());
        assert_eq!(spread_faults(vec![151; 10]).len(), 1);
        let mut some_long = vec![10; 80];
        some_long.extend([400; 20]);
        assert_eq!(spread_faults(some_long).len(), 1);
    }

    #[test]
    fn unsafe_code_outside_the_crates_that_hold_c() {
        let text = "//! Owns.\nlet a = unsafe { b() };\n";
        assert_eq!(faults("crates/node/src/a.rs", text).len(), 1);
        assert_eq!(faults("crates/sandbox/src/a.rs", text), Vec::<String>::new());
        assert!(is_unsafe("#![allow(unsafe_code)]"));
        assert!(!is_unsafe("#![forbid(unsafe_code)]"));
        assert!(!is_unsafe("let unsafe_names = [\"unsafe\"];"));
    }

    #[test]
    fn a_library_root_that_holds_code() {
        let clean = "//! Owns.\nmod a;\n#[cfg(test)]\npub mod b;\npub use a::{\n  B,\n  C,\n};\n";
        assert_eq!(faults("crates/a/src/lib.rs", clean), Vec::<String>::new());
        assert_eq!(faults("crates/a/src/lib.rs", "//! Owns.\nfn a() {}\n").len(), 1);
    }
}
