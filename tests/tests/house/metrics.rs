//! `docs/reference/metrics.md` is written from the sources: every metric of every `metrics.rs`, with its help text.
//!
//! The test compares, or writes: see [`crate::tree::assert_page`].

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{assert_clean, tree};

const PREFIX: &str = "millrace_";

const HEAD: &str = "# Metrics\n\n\
Written from the sources by a house test; do not edit. Every program serves these on its admin port under `/metrics`.\n\
Base units, and never a stream's id or key as a label: what concerns one stream is `GET /v1/streams/{id}`.\n";

/// The metrics of one source file, name to help: each text that begins with the prefix, and the text after it.
fn metrics(source: &str) -> BTreeMap<String, String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim().starts_with("//")).collect();
    let code = code.join("\n");
    let before_tests = code.split("#[cfg(test)]").next().unwrap_or_default();
    let texts: Vec<&str> = before_tests.split('"').skip(1).step_by(2).collect();
    let is_name = |text: &str| {
        text.starts_with(PREFIX) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let pairs = texts.windows(2).filter(|pair| is_name(pair[0]));
    pairs.map(|pair| (pair[0].to_owned(), in_one_line(pair[1]))).collect()
}

/// A text as the compiler reads it: a backslash at a line's end joins it to the next.
fn in_one_line(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// What a name breaks: `millrace_<program>_<noun>_<unit>[_total]`, in base units.
fn fault(name: &str, help: &str) -> Option<String> {
    let scaled = ["_ms", "_us", "_kb", "_mb", "_kbps", "_percent", "_minutes"];
    if name.split('_').count() < 3 {
        return Some(format!("{name}: names no program and noun"));
    }
    if let Some(unit) = scaled.iter().find(|unit| name.trim_end_matches("_total").ends_with(**unit))
    {
        return Some(format!("{name}: {unit} is no base unit"));
    }
    let sentence = help.ends_with('.') && help.contains(' ');
    (!sentence).then(|| format!("{name}: help {help:?} is no sentence"))
}

fn page(all: &BTreeMap<String, String>) -> String {
    let mut page = HEAD.to_owned();
    let mut program = "";
    for (name, help) in all {
        let next = name[PREFIX.len()..].split('_').next().unwrap_or_default();
        if next != program {
            let _ = write!(page, "\n## {next}\n\n| metric | means |\n|---|---|\n");
            program = next;
        }
        let _ = writeln!(page, "| `{name}` | {help} |");
    }
    page
}

#[test]
fn the_reference_lists_exactly_the_metrics_of_the_sources() {
    let sources = tree::texts(&["/metrics.rs", "/src/metrics.rs"]);
    let all: BTreeMap<String, String> = sources
        .iter()
        .filter(|(path, _)| path.starts_with("crates/"))
        .flat_map(|(_, source)| metrics(source))
        .collect();
    assert!(all.contains_key("millrace_build_info"), "the sources are not where they were");
    assert_clean(&all.iter().filter_map(|(name, help)| fault(name, help)).collect::<Vec<_>>());
    tree::assert_page("docs/reference/metrics.md", &page(&all));
}

#[test]
fn metrics_are_read_with_their_help_and_unit_tests_are_left_out() {
    let source = "//! \"millrace_a_doc\", \"no\"\ngauge(\n  \"millrace_node_streams\",\n  \"Streams \\\n   that run.\",\n\
                  &[\"device\"])\n#[cfg(test)]\nmod tests { x(\"millrace_test_only\", \"No.\") }";
    let found = metrics(source);
    assert_eq!(found.len(), 1);
    assert_eq!(found["millrace_node_streams"], "Streams that run.");
    assert!(page(&found).ends_with("## node\n\n| metric | means |\n|---|---|\n| `millrace_node_streams` | Streams that run. |\n"));
}

#[test]
fn the_rule_fails_on_scaled_units_and_on_help_that_is_no_sentence() {
    assert_eq!(fault("millrace_node_start_seconds", "Time to start a worker."), None);
    assert!(fault("millrace_node_start_ms", "Time to start a worker.").is_some());
    assert!(fault("millrace_node_start_seconds", "start time").is_some());
    assert!(fault("millrace_streams", "All the streams.").is_some());
}
