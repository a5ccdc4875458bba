//! Why things are as they are: `/v1/decisions` and `/v1/streams/{id}/explain`. Merges the decision logs of all programs by time.
//!
//! Each program keeps its own and nobody keeps the whole: what a dead program knew is gone. The answer therefore says who
//! could not be asked, and since when each of the others remembers.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use millrace_registry::StreamRecord;
use millrace_telemetry::DecisionQuery;
use millrace_types::{DecisionKind, Epoch, StreamId};
use serde_json::{Value, json};

use crate::{
    farm::{Farm, Missing},
    problem::{Name, Problem},
    reports,
};

type Answer = Result<Json<Value>, Problem>;

/// What all programs decided, oldest first.
#[derive(Debug, Default)]
struct Merged {
    decisions: Vec<Value>,
    /// Who answered: name, and since when it remembers.
    sources: Vec<Value>,
    missing: Vec<Missing>,
}

/// All decisions that fit, oldest first.
pub(crate) async fn list(
    State(farm): State<Farm>,
    query: Result<Query<DecisionQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query?;
    let Merged { decisions, sources, missing } = merged(&farm, &query).await;
    Ok(Json(json!({ "decisions": decisions, "sources": sources, "missing": missing })))
}

/// Why a stream is where it is, and what happened to it.
pub(crate) async fn explain(State(farm): State<Farm>, Name(id): Name) -> Answer {
    let stream = reports::stream_id(&id)?;
    let query = DecisionQuery { stream: Some(stream.clone()), ..DecisionQuery::default() };
    let report = reports::newest_report(&farm, &stream);
    let (report, mut merged) = tokio::join!(report, merged(&farm, &query));
    let report = report.found;
    if report.is_none() && merged.decisions.is_empty() {
        return Err(match merged.missing.first() {
            Some(missing) => Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("no program that answers knows stream {id}; {} does not", missing.name),
                format!("look at that program: {}", missing.error),
            ),
            None => Problem::new(
                StatusCode::NOT_FOUND,
                format!("nothing is known of stream {id}"),
                "see /v1/streams for what is live",
            )
            .command(reports::LIVE),
        });
    }
    let gone = gone(&merged);
    merged.missing.extend(gone);
    let record = farm.registry.get::<StreamRecord>(stream.as_str())?;
    Ok(Json(explained(&stream, report, record.as_ref(), merged)))
}

/// Puts it together: where the stream is, the newest decision for it, and the time line.
fn explained(
    stream: &StreamId,
    report: Option<Value>,
    record: Option<&StreamRecord>,
    merged: Merged,
) -> Value {
    let Merged { decisions, sources, missing } = merged;
    let newest = |kinds: &[DecisionKind]| {
        let is_one = |kind: &Value| kinds.iter().any(|wanted| *kind == wanted.as_str());
        let of_kind = decisions.iter().filter(|decision| is_one(&decision["kind"]));
        of_kind.max_by_key(|decision| epoch(decision)).cloned()
    };
    let live = report.unwrap_or_default();
    let (node, second) = (&live["node"], &live["second"]["node"]);
    // The one that makes it too was not asked then, and is no other choice now.
    let instead = |why: Option<Value>| {
        why.map(|mut why| {
            if let Value::Array(others) = &mut why["alternatives"] {
                others.retain(|other| other["name"] != *node && other["name"] != *second);
            }
            why
        })
    };
    let why_second = newest(&[DecisionKind::Paired]);
    let why_second = why_second.filter(|why| second.is_string() && why["subject"] == *second);
    let why_node = newest(&[DecisionKind::Placed, DecisionKind::Moved, DecisionKind::Promoted]);
    let why_origin = newest(&[DecisionKind::OriginChosen, DecisionKind::OriginChanged]);
    json!({
        "stream": stream,
        "state": live["state"],
        "node": live["node"],
        "worker_pid": live["worker_pid"],
        "epoch": live["epoch"],
        "two_because": live["two_because"],
        "second": live["second"],
        "single_because": live["single_because"],
        "router": record.map(|record| &record.router),
        "origin": record.and_then(|record| record.origin.as_ref()),
        "why_node": instead(why_node),
        "why_second": instead(why_second),
        "why_origin": why_origin,
        "timeline": decisions,
        "sources": sources,
        "missing": missing,
    })
}

/// Asks everybody, the API itself included.
async fn merged(farm: &Farm, query: &DecisionQuery) -> Merged {
    let mut answers = farm.ask_everybody(&format!("/v1/decisions?{}", query.to_url())).await;
    answers.found.push(json!(farm.decisions.page(query)));
    let mut merged = Merged { missing: answers.missing, ..Merged::default() };
    for mut page in answers.found {
        merged.sources.push(json!({ "name": page["program"], "since": page["since"] }));
        if let Value::Array(decisions) = page["decisions"].take() {
            merged.decisions.extend(decisions);
        }
    }
    merged.decisions.sort_by(|a, b| order(a).cmp(&order(b)));
    let limit = query.limit();
    merged.decisions.drain(..merged.decisions.len().saturating_sub(limit));
    merged
}

/// By time; what one program decided stays in its own order.
fn order(decision: &Value) -> (Option<&str>, Option<&str>, Option<u64>) {
    (decision["at"].as_str(), decision["program"].as_str(), decision["seq"].as_u64())
}

fn epoch(decision: &Value) -> Option<Epoch> {
    decision["epoch"].as_str()?.parse().ok()
}

/// Programs that the decisions name, and that nobody could ask because they are not registered any more.
fn gone(merged: &Merged) -> Vec<Missing> {
    let asked = merged.sources.iter().filter_map(|source| source["name"].as_str());
    let silent = merged.missing.iter().map(|missing| missing.name.as_str());
    let known: BTreeSet<&str> = asked.chain(silent).collect();
    let subjects = merged.decisions.iter().filter_map(|decision| decision["subject"].as_str());
    let named: BTreeSet<&str> = subjects.filter(|name| !known.contains(name)).collect();
    let error = "not registered any more: what it decided is lost with it";
    let missing = |name: &&str| Missing {
        name: (*name).to_owned(),
        error: error.to_owned(),
        has_nothing: false,
    };
    named.iter().map(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(program: &str, decisions: &[(&str, &str, &str, &str)]) -> Vec<Value> {
        let numbered = decisions.iter().enumerate();
        let decision = |(seq, (at, kind, epoch, subject)): (usize, &(&str, &str, &str, &str))| {
            json!({ "at": at, "seq": seq, "program": program, "kind": kind, "epoch": epoch,
                "subject": subject })
        };
        numbered.map(decision).collect()
    }

    #[test]
    fn the_newest_placement_by_epoch_says_why_the_stream_is_there() {
        let mut decisions = page(
            "router-1",
            &[("1", "placed", "1.9", "node-1"), ("2", "placed", "1.10", "node-2")],
        );
        // A host whose clock is behind.
        decisions.extend(page("router-2", &[("0", "placed", "1.2", "node-3")]));
        let merged = Merged { decisions, ..Merged::default() };
        let shown = explained(&"live".parse().unwrap(), None, None, merged);
        assert_eq!(shown["why_node"]["subject"], "node-2");
        assert_eq!(shown["state"], Value::Null);
    }

    #[test]
    fn of_two_encoders_neither_is_listed_among_the_nodes_that_have_not_got_the_stream() {
        let others = json!([{ "name": "a", "reason": "not_asked" },
            { "name": "b", "reason": "not_asked" }, { "name": "c", "reason": "not_asked" }]);
        let mut decisions =
            page("router-1", &[("1", "placed", "1.1", "a"), ("2", "paired", "1.2", "b")]);
        decisions.iter_mut().for_each(|decision| decision["alternatives"] = others.clone());
        let explain = |second: Value| {
            let report = json!({ "node": "a", "second": second });
            let merged = Merged { decisions: decisions.clone(), ..Merged::default() };
            explained(&"live".parse().unwrap(), Some(report), None, merged)
        };
        let paired = explain(json!({ "node": "b" }));
        for why in ["why_node", "why_second"] {
            let left = json!([{ "name": "c", "reason": "not_asked" }]);
            assert_eq!(paired[why]["alternatives"], left, "{why}");
        }
        assert_eq!(paired["timeline"][0]["alternatives"], others, "what was then stays");
        assert!(explain(Value::Null)["why_second"].is_null());
        assert!(explain(json!({ "node": "c" }))["why_second"].is_null(), "it is not in step yet");
    }

    #[test]
    fn after_a_change_of_origin_the_change_says_why_it_is_there() {
        let decisions = page(
            "router-1",
            &[
                ("1", "origin_chosen", "1.1", "origin-1"),
                ("2", "origin_changed", "1.1", "origin-2"),
            ],
        );
        let merged = Merged { decisions, ..Merged::default() };
        let shown = explained(&"live".parse().unwrap(), None, None, merged);
        assert_eq!(shown["why_origin"]["subject"], "origin-2");
    }

    #[test]
    fn a_program_that_is_named_but_was_not_asked_is_missing() {
        let merged = Merged {
            decisions: page(
                "router-1",
                &[("1", "placed", "1.1", "a"), ("2", "placed", "1.2", "b")],
            ),
            sources: vec![json!({ "name": "router-1" }), json!({ "name": "b" })],
            missing: Vec::new(),
        };
        let names: Vec<String> = gone(&merged).into_iter().map(|missing| missing.name).collect();
        assert_eq!(names, ["a"]);
    }
}
