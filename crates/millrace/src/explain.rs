//! `millrace explain STREAM`: where a stream is and why, what else was considered, and what happened to it as a time line.

use std::process::ExitCode;

use serde_json::Value;

use crate::{
    api_client::ask,
    arguments::ExplainArguments,
    live::silent,
    table::{items, show, table, text},
};

/// Explains a stream.
///
/// # Errors
/// The API does not answer, or nothing is known of the stream.
pub async fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/streams/{}/explain", arguments.id);
    show(&arguments.farm, &ask(&arguments.farm, &path).await?, explained)
}

fn explained(answer: &Value) -> String {
    let mut shown = format!("{}\n", place(answer));
    shown.push_str(&second(answer));
    shown.push_str(&because("node", &answer["why_node"]));
    shown.push_str(&because("second node", &answer["why_second"]));
    shown.push_str(&because("origin", &answer["why_origin"]));
    shown.push_str(&format!("\n{}", timeline(&answer["timeline"])));
    shown.push_str(&sources(answer));
    shown
}

/// Decisions, a line each.
pub fn timeline(decisions: &Value) -> String {
    let rows: Vec<_> = items(decisions).map(row).collect();
    table(["AT (UTC)", "PROGRAM", "EPOCH", "WHAT", "WHO", "REASON", "DETAIL"], &rows)
}

/// Where the stream is now.
fn place(answer: &Value) -> String {
    let stream = text(&answer["stream"]);
    match answer["node"].as_str() {
        Some(node) => format!(
            "{stream} is {}: worker {} on {node}, epoch {}, router {}, origin {}",
            text(&answer["state"]),
            text(&answer["worker_pid"]),
            text(&answer["epoch"]),
            text(&answer["router"]),
            text(&answer["origin"]),
        ),
        None => match answer["state"].as_str() {
            Some(state) => format!("{stream} is {state}: no node makes it now"),
            None => match silent(answer) {
                silent if silent.is_empty() => {
                    format!("{stream} is not live; this is what the programs remember")
                }
                silent => format!(
                    "no program that answers has {stream} live, {silent} gives no answer; this is what the others remember"
                ),
            },
        },
    }
}

/// The second encoder of a stream that is to have two, or why it has none.
fn second(answer: &Value) -> String {
    let second = &answer["second"];
    match (second["node"].as_str(), answer["single_because"].as_str()) {
        (Some(node), _) => format!(
            "second encoder: worker {} on {node}, epoch {}, since {}: {}{}\n",
            text(&second["worker_pid"]),
            text(&second["epoch"]),
            moment(&second["since"]),
            text(&answer["two_because"]),
            if second["paired"] == true { "" } else { "; not in step yet" },
        ),
        (None, Some(why)) => {
            format!("one encoder, though {}: {why}\n", text(&answer["two_because"]))
        }
        (None, None) => String::new(),
    }
}

/// Why one program has the stream, and a line for each that has not.
fn because(what: &str, decision: &Value) -> String {
    let Some(chosen) = decision["subject"].as_str() else { return String::new() };
    let reason = text(&decision["reason"]);
    let mut lines = format!("{what} {chosen}: {}\n", in_words(&reason));
    for other in items(&decision["alternatives"]) {
        let (name, reason) = (text(&other["name"]), text(&other["reason"]));
        let more = other["text"].as_str().map(|text| format!(": {text}")).unwrap_or_default();
        lines.push_str(&format!("  not {name}: {}{more}\n", in_words(&reason)));
    }
    if let Some(count) = decision["alternatives_left_out"].as_u64() {
        lines.push_str(&format!("  and {count} more\n"));
    }
    lines
}

/// The reasons of a choice as people say them; all others stand for themselves, and in the reference.
fn in_words(reason: &str) -> &str {
    match reason {
        "most_free" => "the largest share of what is scarce stays free on it (most_free)",
        "was_here" => "the stream was there already (was_here)",
        "next_best" => "those that were asked before it did not take the stream (next_best)",
        "just_failed" => "only nodes that have just failed were left (just_failed)",
        "not_asked" => "another was chosen before it (not_asked)",
        "lost_there" => "an encoder of the stream was lost there last (lost_there)",
        "by_name" => "every router chooses it for a stream of this name (by_name)",
        other => other,
    }
}

fn row(decision: &Value) -> [String; 7] {
    let who = match (decision["subject"].as_str(), decision["worker_pid"].as_u64()) {
        (Some(subject), Some(pid)) => format!("{subject}/{pid}"),
        (Some(subject), None) => subject.to_owned(),
        (None, Some(pid)) => pid.to_string(),
        (None, None) => "-".to_owned(),
    };
    [
        moment(&decision["at"]),
        text(&decision["program"]),
        text(&decision["epoch"]),
        text(&decision["kind"]),
        who,
        text(&decision["reason"]),
        detail(decision),
    ]
}

/// The words, how often they were said again, and the nodes that did not take the stream.
fn detail(decision: &Value) -> String {
    let mut detail = decision["text"].as_str().unwrap_or_default().to_owned();
    if let Some(times) = decision["again"]["times"].as_u64() {
        let last = moment(&decision["again"]["last"]);
        detail.push_str(&format!(" (and {times} times more until {last})"));
    }
    let others: Vec<_> = items(&decision["alternatives"])
        .filter(|other| other["reason"] != "not_asked")
        .map(|other| format!("{} {}", text(&other["name"]), text(&other["reason"])))
        .collect();
    if !others.is_empty() {
        detail.push_str(&format!("; not {}", others.join(", ")));
    }
    detail.trim_start_matches("; ").to_owned()
}

/// Milliseconds are enough for people.
fn moment(at: &Value) -> String {
    let at = text(at);
    at.get(..23).map_or_else(|| at.clone(), |short| short.replace('T', " "))
}

/// Whose word is missing: programs that could not be asked, and those that started after the first line.
fn sources(answer: &Value) -> String {
    let first = answer["timeline"][0]["at"].as_str().unwrap_or_default();
    let late = |source: &&Value| source["since"].as_str().is_some_and(|since| since > first);
    let mut lines = String::new();
    for source in items(&answer["sources"]).filter(late) {
        let (name, since) = (text(&source["name"]), moment(&source["since"]));
        lines.push_str(&format!("{name} remembers nothing before {since}, when it started\n"));
    }
    for program in items(&answer["missing"]) {
        let (name, error) = (text(&program["name"]), text(&program["error"]));
        lines.push_str(&format!("no answer from {name}: {error}\n"));
    }
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moved_stream_says_where_it_is_why_and_what_happened_in_order() {
        let at = |second: u32| format!("2026-11-21T14:00:{second:02}.123456Z");
        let placed = json!({ "at": at(9), "program": "router-1", "epoch": "1.2", "kind": "placed",
            "subject": "node-2", "worker_pid": 8, "reason": "next_best", "text": "worker 8 on node-2",
            "alternatives": [{ "name": "node-1", "reason": "node_unavailable", "text": "refused" },
                { "name": "node-3", "reason": "not_asked" }], "alternatives_left_out": 4 });
        let answer = json!({
            "stream": "live", "state": "live", "node": "node-2", "worker_pid": 8, "epoch": "1.2",
            "router": "router-1", "origin": "origin-1", "why_node": placed,
            "timeline": [{ "at": at(8), "program": "router-1", "epoch": "1.1",
                "kind": "placement_lost", "subject": "node-1", "worker_pid": 7,
                "reason": "link_broke", "text": "reset" }, placed],
            "sources": [{ "name": "node-2", "since": at(1) }, { "name": "node-1", "since": at(9) }],
            "missing": [{ "name": "node-0", "error": "gone" }],
        });
        let shown = explained(&answer);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("live is live: worker 8 on node-2, epoch 1.2"), "{shown}");
        assert!(lines[1].starts_with("node node-2: those that were asked before it"), "{shown}");
        assert_eq!(lines[2], "  not node-1: node_unavailable: refused");
        assert!(lines[3].contains("not_asked") && lines[4] == "  and 4 more", "{shown}");
        let order = |word: &str| shown.find(word).unwrap_or_else(|| panic!("{word}: {shown}"));
        assert!(order("node-1/7") < order("node-2/8"), "{shown}");
        assert!(shown.contains("2026-11-21 14:00:08.123  router-1"), "{shown}");
        assert!(shown.contains("worker 8 on node-2; not node-1 node_unavailable\n"), "{shown}");
        assert!(
            shown.contains("node-1 remembers nothing before") && shown.contains("node-0: gone")
        );
        assert!(!shown.contains("node-2 remembers"), "{shown}");
    }

    #[test]
    fn a_stream_that_is_to_have_two_encoders_says_where_the_second_is_or_why_there_is_none() {
        let second = json!({ "node": "node-3", "worker_pid": 9, "epoch": "1.4",
            "since": "2026-11-21T14:00:01.123456Z", "paired": true });
        let why = json!({ "subject": "node-3", "reason": "most_free",
            "alternatives": [{ "name": "node-2", "reason": "lost_there" }] });
        let paired = json!({ "stream": "live", "state": "live", "node": "node-1", "worker_pid": 8,
            "epoch": "1.3", "router": "router-1", "origin": "origin-1", "why_second": why,
            "two_because": "hot, 1,240 viewers", "second": second });
        let expected = "second encoder: worker 9 on node-3, epoch 1.4, since 2026-11-21 14:00:01.123: hot, 1,240 viewers\n";
        let shown = explained(&paired);
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.starts_with("live is live: worker 8 on node-1, epoch 1.3,"), "{shown}");
        assert!(shown.contains("second node node-3: the largest share"), "{shown}");
        assert!(shown.contains("  not node-2: an encoder of the stream was lost there"), "{shown}");
        let single = json!({ "two_because": "pinned", "second": null,
            "single_because": "refused: node-2: no_capacity" });
        let shown = explained(&single);
        assert!(
            shown.contains("one encoder, though pinned: refused: node-2: no_capacity"),
            "{shown}"
        );
        assert!(!explained(&json!({})).contains("encoder"));
    }
}
