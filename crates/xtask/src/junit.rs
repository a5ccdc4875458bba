//! Reads nextest's JUnit report: how many tests passed, how long each took, and what those that measure printed. Reads no other XML.

use std::fmt::Write as _;

/// One test that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct TestCase {
    /// Package, binary and test, as nextest prints them.
    pub name: String,
    /// Wall-clock seconds of its last try.
    pub seconds: f64,
    /// Whether it failed in the end.
    pub failed: bool,
    /// Whether it failed first and passed when tried again.
    pub flaky: bool,
    /// What it printed, if `.config/nextest.toml` has that kept.
    pub printed: String,
}

/// The tests of a report, in its order.
pub fn test_cases(xml: &str) -> Vec<TestCase> {
    let mut cases = Vec::new();
    for chunk in xml.split("<testcase ").skip(1) {
        let (tag, rest) = chunk.split_once('>').unwrap_or((chunk, ""));
        let body =
            if tag.ends_with('/') { "" } else { rest.split("</testcase>").next().unwrap_or("") };
        let (Some(name), Some(class)) = (attribute(tag, "name"), attribute(tag, "classname"))
        else {
            continue;
        };
        cases.push(TestCase {
            name: format!("{class} {name}"),
            seconds: attribute(tag, "time").and_then(|time| time.parse().ok()).unwrap_or(0.0),
            failed: body.contains("<failure") || body.contains("<error"),
            flaky: body.contains("<flakyFailure") || body.contains("<flakyError"),
            printed: body.rsplit_once("<system-out>").map_or_else(String::new, |(_, rest)| {
                unescaped(rest.split("</system-out>").next().unwrap_or(""))
            }),
        });
    }
    cases
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let opening = format!("{name}=\"");
    tag.match_indices(&opening)
        .find(|&(at, _)| at == 0 || tag.as_bytes()[at - 1] == b' ')
        .and_then(|(at, _)| tag[at + opening.len()..].split('"').next())
}

/// The `count` slowest tests and every flaky one, a line each.
pub fn slowest(cases: &[TestCase], count: usize) -> String {
    let mut by_time: Vec<_> = cases.iter().collect();
    by_time.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut text = String::new();
    for case in by_time.iter().take(count) {
        let _ = writeln!(text, "{:>9.3} s  {}", case.seconds, case.name);
    }
    for case in cases.iter().filter(|case| case.flaky) {
        let _ = writeln!(text, "    flaky    {} (passed when tried again)", case.name);
    }
    text
}

/// Text as it was before XML.
fn unescaped(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, meant)| text.replace(name, meant))
}

/// What tests that passed printed: times, tables and seeds, below the name of each, without the words of Rust's own test harness.
pub fn measured(cases: &[TestCase]) -> String {
    let is_of_harness =
        |line: &str| line.starts_with("running 1 test") || line.starts_with("test ");
    let mut text = String::new();
    for case in cases.iter().filter(|case| !case.failed) {
        let lines = case.printed.lines().map(str::trim_end);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !is_of_harness(line)).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "{}\n    {}", case.name, lines.join("\n    "));
        }
    }
    text
}

/// `N passed, N failed`: the line by which machines read the outcome.
pub fn count_line(cases: &[TestCase]) -> String {
    let failed = cases.iter().filter(|case| case.failed).count();
    format!("{} passed, {failed} failed", cases.len() - failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0" time="1.5">
  <testsuite name="millrace-types" tests="4" failures="1">
    <testcase name="clock::tests::a" classname="millrace-types" timestamp="2026" time="0.003"/>
    <testcase name="clock::tests::b" classname="millrace-types" time="1.250">
      <failure message="thread panicked" type="test failure">boom</failure>
      <system-out>a &lt;b&gt;</system-out>
    </testcase>
    <testcase name="timing_c" classname="millrace-tests::latency" time="0.100">
      <flakyFailure timestamp="2026" type="test failure">late</flakyFailure>
    </testcase>
    <testcase name="d" classname="millrace-types" time="0.001">
      <system-out>
running 1 test
seed 7, 0.3 s &lt; 1 s
| a | b |
test d ... ok

test result: ok. 1 passed; 0 failed
</system-out>
    </testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn passed_failed_and_flaky_tests_are_told_apart() {
        let cases = test_cases(REPORT);
        assert_eq!(count_line(&cases), "3 passed, 1 failed");
        assert!(cases[1].failed && !cases[1].flaky);
        assert!(cases[2].flaky && !cases[2].failed);
        assert_eq!(cases[0].name, "millrace-types clock::tests::a");
    }

    #[test]
    fn the_slowest_come_first_and_the_flaky_are_always_named() {
        let text = slowest(&test_cases(REPORT), 1);
        assert!(text.starts_with("    1.250 s  millrace-types clock::tests::b\n"));
        assert!(text.contains("flaky    millrace-tests::latency timing_c"));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn what_tests_that_passed_printed_is_told_without_the_harness() {
        let text = measured(&test_cases(REPORT));
        assert_eq!(text, "millrace-types d\n    seed 7, 0.3 s < 1 s\n    | a | b |\n");
    }

    #[test]
    fn an_empty_report_counts_nothing() {
        assert_eq!(count_line(&test_cases("")), "0 passed, 0 failed");
        assert_eq!(measured(&test_cases("")), "");
    }
}
