//! What others made and we ship as released is what NOTICE says: the file has the checksum that stands there.

use std::process::Command;

use crate::{assert_clean, tree};

/// Files that NOTICE calls unchanged, with their SHA-256: `NAME VERSION (PATH, unchanged)`, and `SHA-256 HEX` in the next line.
fn shipped(notice: &str) -> Vec<(&str, Option<&str>)> {
    let lines: Vec<&str> = notice.lines().collect();
    let paths = lines.iter().zip(lines.iter().skip(1)).filter_map(|(line, next)| {
        let (_, path) = line.strip_suffix(", unchanged)")?.rsplit_once('(')?;
        Some((path, next.strip_prefix("SHA-256 ")))
    });
    paths.collect()
}

fn faults(notice: &str, sum: impl Fn(&str) -> String) -> Vec<String> {
    let faults = shipped(notice).into_iter().filter_map(|(path, said)| match (said, sum(path)) {
        (None, _) => Some(format!("NOTICE: {path} has no line `SHA-256 HEX`")),
        (Some(said), is) if said != is => Some(format!("NOTICE: {path} has the SHA-256 {is}")),
        _ => None,
    });
    faults.collect()
}

/// By coreutils, which every host has.
fn sum(path: &str) -> String {
    let output = Command::new("sha256sum").arg(tree::root().join(path)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_shipped_as_released_is_what_was_released() {
    let notice = std::fs::read_to_string(tree::root().join("NOTICE")).unwrap();
    assert!(shipped(&notice).iter().any(|(path, _)| path.ends_with("hls.min.js")), "{notice}");
    assert_clean(&faults(&notice, sum));
}

#[test]
fn the_rule_fails_on_a_file_that_was_changed_and_on_one_without_checksum() {
    let notice = "a 1.0 (a.js, unchanged)\nSHA-256 7\nb 1.0 (b.js, unchanged)\nby b\n";
    let found = faults(notice, |path| if path == "a.js" { "8".to_owned() } else { "9".to_owned() });
    assert_eq!(found, ["NOTICE: a.js has the SHA-256 8", "NOTICE: b.js has no line `SHA-256 HEX`"]);
}
