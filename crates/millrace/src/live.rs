//! `millrace streams` and `millrace nodes`: what the farm's API says, as tables or as JSON.

use std::process::ExitCode;

use serde_json::Value;

use crate::{
    api_client::{ask, is_of_the_api},
    arguments::{NodesArguments, StreamsArguments},
    explain::timeline,
    table::{items, show, table, text},
};

/// Shows the live streams, or one.
///
/// # Errors
/// The API does not answer or does not know the stream.
pub async fn streams(arguments: &StreamsArguments) -> anyhow::Result<ExitCode> {
    match &arguments.id {
        Some(id) => {
            let stream = ask(&arguments.farm, &format!("/v1/streams/{id}")).await?;
            show(&arguments.farm, &stream, one_stream)
        }
        None => {
            let answer = ask(&arguments.farm, "/v1/streams").await?;
            is_of_the_api(&arguments.farm, &answer, "streams")?;
            crate::output::warn(&faults(&answer));
            show(&arguments.farm, &answer, all_streams)
        }
    }
}

/// Shows the nodes.
///
/// # Errors
/// The API does not answer.
pub async fn nodes(arguments: &NodesArguments) -> anyhow::Result<ExitCode> {
    let answer = ask(&arguments.farm, "/v1/nodes").await?;
    is_of_the_api(&arguments.farm, &answer, "nodes")?;
    crate::output::warn(&faults(&answer));
    show(&arguments.farm, &answer, all_nodes)
}

/// What of the farm is down, a line each.
fn faults(answer: &Value) -> String {
    items(&answer["faults"]).map(|fault| format!("warning: {}\n", text(&fault["text"]))).collect()
}

fn all_streams(answer: &Value) -> String {
    let rows: Vec<_> = items(&answer["streams"])
        .map(|stream| {
            let health = measured(stream);
            [
                text(&stream["stream"]),
                state(stream),
                of_both(stream, "node"),
                of_both(stream, "worker_pid"),
                text(&stream["restarts"]),
                names(&stream["rungs"]),
                text(&health["bitrate_kbps"]),
                rounded(&health["fps"]),
                text(&stream["publisher"]["address"]),
            ]
        })
        .collect();
    let head =
        ["STREAM", "STATE", "NODE", "WORKER", "RESTARTS", "RUNGS", "KBIT/S", "FPS", "PUBLISHER"];
    match rows.is_empty() {
        true => match silent(answer).as_str() {
            "" => "no stream is live\n".to_owned(),
            silent => {
                format!("no router that answers has a live stream; {silent} does not answer\n")
            }
        },
        false => table(head, &rows),
    }
}

fn one_stream(stream: &Value) -> String {
    let health = measured(stream);
    let facts = [
        ("stream", text(&stream["stream"])),
        ("state", state(stream)),
        ("publisher", text(&stream["publisher"]["address"])),
        ("since", text(&stream["session_since"])),
        ("node", text(&stream["node"])),
        ("epoch", text(&stream["epoch"])),
        ("worker", text(&stream["worker_pid"])),
        ("lag", format!("{} ms", text(&stream["worker"]["lag_ms"]))),
        ("restarts", text(&stream["restarts"])),
        ("bitrate", format!("{} kbit/s", text(&health["bitrate_kbps"]))),
        ("rate", format!("{} fps", rounded(&health["fps"]))),
        ("keyframes", format!("{} s apart", text(&health["keyframe_interval_s"]))),
    ];
    let mut shown: String =
        facts.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    shown.push_str(&second(stream));
    for advice in items(&health["advice"]) {
        shown.push_str(&format!("{:<10} {}\n", "advice", text(advice)));
    }
    shown.push('\n');
    let rungs: Vec<_> = items(&stream["rungs"]).map(rung).collect();
    shown.push_str(&table(["RUNG", "PICTURE", "KBIT/S", "PUBLISHED (SEGMENT.PART)"], &rungs));
    if let Some(sandbox) = stream["worker"]["sandbox"].as_object() {
        let rows: Vec<_> =
            sandbox.iter().map(|(name, state)| [name.clone(), text(state)]).collect();
        shown.push_str(&format!("\n{}", table(["SANDBOX", "STATE"], &rows)));
    }
    shown.push_str(&format!("\n{}", timeline(&stream["events"])));
    shown
}

/// What both encoders have, the first one's first.
fn of_both(stream: &Value, name: &str) -> String {
    let first = text(&stream[name]);
    match stream["second"][name].is_null() {
        true => first,
        false => format!("{first}+{}", text(&stream["second"][name])),
    }
}

/// The second encoder of a stream that is to have two, or why it has none.
fn second(stream: &Value) -> String {
    let line = |name: &str, value: String| format!("{name:<10} {value}\n");
    let (wanted, second) = (text(&stream["two_because"]), &stream["second"]);
    match stream["single_because"].as_str() {
        Some(why) => line("encoders", format!("one, though {wanted}: {why}")),
        None if second.is_null() => String::new(),
        None => {
            let step = if second["paired"] == true { "in step" } else { "not in step yet" };
            let (pid, epoch) = (text(&second["worker_pid"]), text(&second["epoch"]));
            let worker = format!("{} worker {pid}, epoch {epoch}", text(&second["node"]));
            let since = text(&second["since"]);
            line("encoders", format!("two: {wanted}"))
                + &line("second", format!("{worker}, since {since}, {step}"))
        }
    }
}

/// The state, why nothing is encoded if so, and for how long the stream has gone on without its publisher.
fn state(stream: &Value) -> String {
    let mut state = text(&stream["state"]);
    if let Some(why) = stream["unencoded_because"].as_str() {
        state.push_str(&format!(", not encoded: {why}"));
    }
    if let Some(seconds) = stream["publisher"]["away_s"].as_u64() {
        state.push_str(&format!(", publisher away {seconds} s"));
    }
    state
}

/// The source's health; nothing while the publisher is away, of whom it would speak.
fn measured(stream: &Value) -> &Value {
    match stream["publisher"]["away_s"].is_u64() {
        true => &Value::Null,
        false => &stream["health"],
    }
}

/// A rung is `{id, kind, published}`; the kind of an encoded one is `{video: {…}}`.
fn rung(rung: &Value) -> [String; 4] {
    let (video, published) = (&rung["kind"]["video"], &rung["published"]);
    let picture = match video["width"].as_u64() {
        Some(width) => format!("{width}x{}", text(&video["height"])),
        None => text(&rung["kind"]),
    };
    let at = match published["msn"].as_u64() {
        Some(msn) => format!("{msn}.{}", text(&published["part"])),
        None => text(published),
    };
    [text(&rung["id"]), picture, text(&video["bitrate_kbps"]), at]
}

fn all_nodes(answer: &Value) -> String {
    let mega =
        |value: &Value| value.as_u64().map_or("-".to_owned(), |v| (v / 1_000_000).to_string());
    // Left out where it is not limited: nobody knows, or there is no end to it.
    let open = |value: &Value, shown: fn(u64) -> String| {
        value.as_u64().map_or("no limit".to_owned(), shown)
    };
    let rows: Vec<_> = items(&answer["nodes"])
        .map(|node| {
            let reachable = node["reachable"] == true;
            let state = text(&node["state"]);
            [
                text(&node["node"]),
                if reachable { state } else { format!("{state}, no answer") },
                node["streams"]
                    .as_array()
                    .map_or("-".to_owned(), |streams| streams.len().to_string()),
                mega(&node["decode_pixels_per_second"]),
                mega(&node["encode_pixels_per_second"]),
                open(&node["host_cpu_millicores"], |it| format!("{:.1}", it as f64 / 1_000.0)),
                open(&node["egress_bits_per_second"], |it| (it / 1_000_000).to_string()),
                text(&node["link"]),
                text(&node["version"]),
            ]
        })
        .collect();
    let head = [
        "NODE",
        "STATE",
        "STREAMS",
        "DECODE MPX/S",
        "ENCODE MPX/S",
        "HOST CPU",
        "EGRESS MBIT/S",
        "LINK",
        "BUILD",
    ];
    let mut shown = table(head, &rows);
    for order in items(&answer["orders_waiting"]) {
        let (node, order) = (text(&order["node"]), text(&order["order"]));
        shown.push_str(&format!(
            "{node} is not registered, and told to {order} when it comes back; to take that back: millrace uncordon {node}\n"
        ));
    }
    shown
}

fn names(rungs: &Value) -> String {
    let names: Vec<_> = items(rungs).map(|rung| text(&rung["id"])).collect();
    names.join(",")
}

/// Programs that gave no answer.
pub fn silent(answer: &Value) -> String {
    let names: Vec<_> = items(&answer["missing"]).map(|program| text(&program["name"])).collect();
    names.join(", ")
}

fn rounded(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_does_not_know_its_egress_says_no_limit_and_not_nothing() {
        let node = |host_cpu: Value, egress: Value| {
            json!({ "node": "node-1", "state": "ready", "reachable": true, "link": "192.0.2.1:7001",
                "host_cpu_millicores": host_cpu, "egress_bits_per_second": egress })
        };
        let shown = |nodes: Value| all_nodes(&json!({ "nodes": [nodes] }));
        let known = shown(node(json!(3_400), json!(850_000_000)));
        assert!(known.contains("3.4       850"), "{known}");
        let unknown = shown(node(Value::Null, Value::Null));
        assert!(unknown.contains("no limit  no limit"), "{unknown}");
    }

    #[test]
    fn a_stream_whose_publisher_is_away_says_for_how_long_and_shows_no_old_bitrate() {
        let mut stream = json!({
            "stream": "demo", "state": "live",
            "publisher": { "address": "192.0.2.1:7", "connected": false, "away_s": 12 },
            "health": { "bitrate_kbps": 2500, "fps": 29.97, "advice": ["keyframes are 9 s apart"] },
        });
        for shown in [all_streams(&json!({ "streams": [stream] })), one_stream(&stream)] {
            assert!(shown.contains("live, publisher away 12 s"), "{shown}");
            assert!(!shown.contains("2500") && !shown.contains("30.0"), "{shown}");
            assert!(!shown.contains("9 s apart"), "{shown}");
        }
        stream["publisher"] =
            json!({ "address": "192.0.2.1:7", "connected": true, "away_s": null });
        let shown = all_streams(&json!({ "streams": [stream] }));
        assert!(!shown.contains("away") && shown.contains("2500"), "{shown}");
    }

    #[test]
    fn both_encoders_are_shown_or_why_there_is_one() {
        let mut stream = json!({ "stream": "live", "node": "node-1", "worker_pid": 8,
            "epoch": "1.3", "two_because": "pinned", "second": { "node": "node-3", "worker_pid": 9,
            "epoch": "1.4", "since": "2026-11-21T14:00:01Z", "paired": true } });
        let all = all_streams(&json!({ "streams": [stream] }));
        assert!(all.contains("node-1+node-3  8+9"), "{all}");
        let one = one_stream(&stream);
        assert!(one.contains("encoders   two: pinned\n"), "{one}");
        let second = "second     node-3 worker 9, epoch 1.4, since 2026-11-21T14:00:01Z, in step\n";
        assert!(one.contains(second), "{one}");
        stream["second"] = Value::Null;
        assert!(!one_stream(&stream).contains("encoders"));
        stream["single_because"] = json!("refused: node-2: no_capacity");
        let one = one_stream(&stream);
        let why = "encoders   one, though pinned: refused: node-2: no_capacity\n";
        assert!(one.contains(why), "{one}");
    }

    #[test]
    fn what_is_down_and_orders_to_nodes_that_are_gone_are_said() {
        let answer = json!({
            "nodes": [], "orders_waiting": [{ "node": "node-7", "order": "cordon" }],
            "faults": [{ "what": "origin", "text": "origin origin-1 does not answer: refused" }],
        });
        assert_eq!(faults(&answer), "warning: origin origin-1 does not answer: refused\n");
        let shown = all_nodes(&answer);
        assert!(shown.contains("node-7 is not registered, and told to cordon"), "{shown}");
        assert_eq!(faults(&json!({ "nodes": [] })), "");
    }

    #[test]
    fn a_stream_without_a_worker_yet_is_shown_with_dashes() {
        let stream = json!({
            "stream": "demo", "state": "placing", "node": null, "worker_pid": null, "restarts": 0,
            "rungs": [{ "id": "source", "kind": "source", "published": null },
                { "id": "360p", "kind": { "video": { "width": 640, "height": 360, "bitrate_kbps": 700 } },
                  "published": { "msn": 12, "part": 3 } }],
            "health": { "bitrate_kbps": 2500, "fps": 29.97 },
        });
        let shown = all_streams(&json!({ "streams": [stream], "missing": [] }));
        let line = shown.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["demo", "placing", "-", "-", "0", "source,360p", "2500", "30.0", "-"]);
        let one = one_stream(&stream);
        assert!(one.contains("640x360  700     12.3"), "{one}");
        assert_eq!(all_streams(&json!({ "streams": [] })), "no stream is live\n");
        let unknown = all_streams(&json!({ "streams": [], "missing": [{ "name": "router-2" }] }));
        assert!(unknown.contains("router-2 does not answer"), "{unknown}");
    }
}
