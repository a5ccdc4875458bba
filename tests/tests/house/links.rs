//! Every relative link in a document leads to a file, and to a heading when it names one.

use std::{fs, path::Path};

use crate::{assert_clean, tree};

/// The targets of `[text](target)` outside of code blocks, each with its line number.
fn targets(markdown: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut found = Vec::new();
    for (at, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let ends = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(ends.map(|(target, _)| (at + 1, target)));
    }
    found
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn has_anchor(markdown: &str, wanted: &str) -> bool {
    markdown.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == wanted)
}

/// Links of `path` (from `root`) that lead nowhere.
fn broken(root: &Path, path: &str, markdown: &str) -> Vec<String> {
    let dir = root.join(path).parent().unwrap_or(root).to_owned();
    let mut findings = Vec::new();
    for (line, target) in targets(markdown) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let linked = dir.join(file);
        let leads = if file.is_empty() {
            has_anchor(markdown, heading)
        } else if heading.is_empty() {
            linked.exists()
        } else {
            fs::read_to_string(&linked).is_ok_and(|text| has_anchor(&text, heading))
        };
        if !leads {
            findings.push(format!("{path}:{line}: {target} leads nowhere"));
        }
    }
    findings
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let root = tree::root();
    let texts = tree::texts(&[".md"]);
    assert!(texts.iter().any(|(path, _)| path == "README.md"), "no README");
    let findings: Vec<String> =
        texts.iter().flat_map(|(path, text)| broken(&root, path, text)).collect();
    assert_clean(&findings);
}

#[test]
fn every_decision_is_in_the_index() {
    let dir = tree::root().join("docs/adr");
    let index = fs::read_to_string(dir.join("README.md")).unwrap();
    let decisions = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name());
    let findings: Vec<String> = decisions
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "README.md" && !index.contains(&format!("({name})")))
        .map(|name| format!("docs/adr/README.md does not list {name}"))
        .collect();
    assert_clean(&findings);
}

#[test]
fn the_rule_fails_on_a_missing_file_and_a_missing_heading() {
    let root = tree::root();
    let ok =
        "[a](tests/tests/house/links.rs) [b](https://example.org/x) [c](#two-words)\n# Two words\n";
    assert_eq!(broken(&root, "README.md", ok), Vec::<String>::new());
    assert_eq!(
        broken(&root, "docs/a.md", "x\n[a](none.md)\n"),
        ["docs/a.md:2: none.md leads nowhere"]
    );
    assert_eq!(broken(&root, "README.md", "[a](#no-such)\n").len(), 1);
    assert_eq!(broken(&root, "README.md", "```\n[a](none.md)\n```\n"), Vec::<String>::new());
}
