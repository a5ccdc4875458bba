//! `docs/reference/reasons.md` lists every reason and exit code that the programs can say, and no other;
//! `docs/reference/decisions.md` every kind of decision.

use std::{collections::BTreeSet, fs};

use millrace_types::{
    Because, DecisionKind, EndReason, MoveEnd, PairEnd, RefusalReason, WorkerExit,
};

use crate::{assert_clean, tree};

/// What stands in backticks in the first column of the table under `heading`.
fn documented(markdown: &str, heading: &str) -> BTreeSet<String> {
    markdown
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect()
}

fn differences(markdown: &str, heading: &str, said: impl Iterator<Item = String>) -> Vec<String> {
    let said: BTreeSet<String> = said.collect();
    let documented = documented(markdown, heading);
    let missing = said.difference(&documented).map(|word| format!("{heading}: {word} is missing"));
    let extra = documented.difference(&said).map(|word| format!("{heading}: {word} is never said"));
    missing.chain(extra).collect()
}

#[test]
fn the_reference_lists_exactly_the_reasons_that_programs_say() {
    let text = fs::read_to_string(tree::root().join("docs/reference/reasons.md")).unwrap();
    let refusals = RefusalReason::ALL.iter().map(|reason| reason.as_str().to_owned());
    let ends = EndReason::ALL.iter().map(|reason| reason.as_str().to_owned());
    let moves = MoveEnd::ALL.iter().map(|end| end.as_str().to_owned());
    let pairs = PairEnd::ALL.iter().map(|end| end.as_str().to_owned());
    let codes = (0..256).filter(|&code| WorkerExit::from_code(code).code() == code);
    let mut findings = differences(&text, "## Why a publisher is refused", refusals);
    findings.extend(differences(&text, "## Why a worker ended", ends));
    findings.extend(differences(&text, "## What came of a move", moves));
    findings.extend(differences(&text, "## Why a stream has one encoder", pairs));
    findings.extend(differences(&text, "## Exit codes of a worker", codes.map(|c| c.to_string())));
    assert_clean(&findings);
}

#[test]
fn the_reference_lists_exactly_the_decisions_that_programs_keep() {
    let text = fs::read_to_string(tree::root().join("docs/reference/decisions.md")).unwrap();
    let kinds = DecisionKind::ALL.iter().map(|kind| kind.as_str().to_owned());
    let reasons = Because::ALL.iter().map(|reason| reason.as_str().to_owned());
    let mut findings = differences(&text, "## What is decided", kinds);
    findings.extend(differences(&text, "## Why", reasons));
    assert_clean(&findings);
}

#[test]
fn the_rule_fails_on_a_reason_that_only_one_side_knows() {
    let text = "## A\n\n| reason | means |\n|---|---|\n| `one` | 1 |\n| `two` | 2 |\n## B\n| `three` | 3 |\n";
    let said = |words: &[&str]| differences(text, "## A", words.iter().map(|&w| w.to_owned()));
    assert_eq!(said(&["one", "two"]), Vec::<String>::new());
    assert_eq!(said(&["one", "two", "three"]), ["## A: three is missing"]);
    assert_eq!(said(&["one"]), ["## A: two is never said"]);
}
