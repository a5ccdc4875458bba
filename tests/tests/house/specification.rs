//! Every promise in `docs/SPECIFICATION.md` is either linked to what proves it, or says that nothing does yet.
//!
//! A row is proven by a link whose text is a test's name in backticks and whose target holds that test, or
//! by a link to a benchmark's file.

use std::{fs, path::Path};

use crate::{assert_clean, tree};

const PENDING: &str = "[test pending]";

/// The rows of all tables, without their heads, each with its line number.
fn rows(markdown: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = markdown.lines().collect();
    let is_rule = |line: &&str| line.starts_with("|--") || line.starts_with("| --");
    let is_head = |at: usize| lines.get(at + 1).is_some_and(is_rule);
    lines
        .iter()
        .enumerate()
        .filter(|(at, line)| line.starts_with('|') && !is_rule(line) && !is_head(*at))
        .map(|(at, line)| (at + 1, *line))
        .collect()
}

/// Why one row proves nothing; `None` when it does or admits it.
fn fault(dir: &Path, row: &str) -> Option<String> {
    if row.contains(PENDING) {
        return None;
    }
    let mut proofs = 0;
    for link in row.split('[').skip(1) {
        let Some((text, rest)) = link.split_once("](") else { continue };
        let Some((target, _)) = rest.split_once(')') else { continue };
        if !target.ends_with(".rs") {
            continue;
        }
        let Ok(source) = fs::read_to_string(dir.join(target)) else {
            return Some(format!("{target} does not exist"));
        };
        let name = text.trim_matches('`');
        if !name.contains('.') && !holds_test(&source, name) {
            return Some(format!("{target} holds no test {name}"));
        }
        proofs += 1;
    }
    (proofs == 0).then(|| format!("no link to a test, and not {PENDING}"))
}

fn holds_test(source: &str, name: &str) -> bool {
    source.contains(&format!("fn {name}("))
}

#[test]
fn every_promise_links_its_test_or_says_it_is_pending() {
    let docs = tree::root().join("docs");
    let text = fs::read_to_string(docs.join("SPECIFICATION.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 20, "the specification has lost its rows");
    let findings: Vec<String> = rows
        .iter()
        .filter_map(|(line, row)| Some(format!("SPECIFICATION.md:{line}: {}", fault(&docs, row)?)))
        .collect();
    assert_clean(&findings);
}

#[test]
fn the_rule_fails_on_a_promise_without_proof_and_on_a_proof_that_is_gone() {
    let docs = tree::root().join("docs");
    let here = "../tests/tests/house/specification.rs";
    let name = "every_promise_links_its_test_or_says_it_is_pending";
    assert_eq!(fault(&docs, &format!("| a | [`{name}`]({here}) |")), None);
    assert_eq!(fault(&docs, &format!("| a | [specification.rs]({here}) |")), None);
    assert_eq!(fault(&docs, "| a | [test pending] |"), None);
    assert!(fault(&docs, "| a | believe us |").is_some());
    assert!(fault(&docs, "| a | [issue](https://example.org) |").is_some());
    assert!(fault(&docs, &format!("| a | [`{}`]({here}) |", "no_such_test")).is_some());
    assert!(fault(&docs, "| a | [`a`](../tests/none.rs) |").is_some());
}

#[test]
fn heads_and_rules_of_tables_are_no_promises() {
    assert_eq!(rows("text\n\n| a | b |\n|---|---|\n| c | d |\n"), [(5, "| c | d |")]);
}
