//! `millrace drain`, `cordon`, `uncordon`: gives an order by the farm's API, and waits until the node follows it; when it is
//! drained, until it is empty.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode, time::Duration};

use anyhow::bail;
use millrace_types::NodeId;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api_client::{ask, tell},
    arguments::{CordonArguments, DrainArguments, FarmArguments, OrderArguments},
    prerequisite::Prerequisite,
    table::{items, table, text},
};

/// From one look at the farm to the next while a node is drained.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a node may take to follow an order that moves nothing.
const FOLLOW: Duration = Duration::from_secs(10);

/// A node that has not followed its order for so long, and did before, has another: one that starts anew reads it again.
const ANOTHER_ORDER: Duration = Duration::from_secs(3);

/// Before an API that gave no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A stream that the node still makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    stream: String,
    moving: bool,
    /// Why it could not be moved so far.
    why: Option<String>,
}

/// What the farm says of a node that is drained.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    /// The node follows the order, or is gone.
    obeys: bool,
    /// What it says of itself.
    state: Option<String>,
    left: BTreeSet<Left>,
    /// Whom the answer lacks.
    missing: Vec<String>,
}

impl Progress {
    /// From the answers to `/v1/nodes` and `/v1/streams`.
    fn of(node: &str, nodes: &Value, streams: &Value) -> Self {
        let record = items(&nodes["nodes"]).find(|record| record["node"] == node);
        let of_routers =
            items(&streams["streams"]).filter(|stream| stream["node"] == node).map(|stream| Left {
                stream: text(&stream["stream"]),
                moving: stream["moving"] == true,
                why: stream["stays"].as_str().map(str::to_owned),
            });
        let mut left: BTreeSet<Left> = of_routers.collect();
        // What only the node knows of: its router does not answer, or has just let go of it.
        for stream in record.into_iter().flat_map(|record| items(&record["streams"])) {
            let stream = text(&stream["stream"]);
            if !left.iter().any(|left| left.stream == stream) {
                left.insert(Left { stream, moving: false, why: None });
            }
        }
        let missing = items(&streams["missing"]).map(|router| text(&router["name"])).collect();
        let obeys = record.is_none_or(|record| record["state"] == "draining");
        let state = record.map(|record| text(&record["state"]));
        Self { obeys, state, left, missing }
    }

    fn is_done(&self) -> bool {
        self.obeys && self.left.is_empty()
    }

    fn line(&self, node: &str) -> String {
        if !self.obeys {
            return format!("{node} has not followed the order yet");
        }
        let moving = self.left.iter().filter(|left| left.moving).count();
        let stay = self.left.iter().filter(|left| !left.moving && left.why.is_some()).count();
        let missing = match self.missing.is_empty() {
            true => String::new(),
            false => format!("; no answer from {}", self.missing.join(", ")),
        };
        format!("{node}: {} left, {moving} moving, {stay} could not yet{missing}", self.left.len())
    }

    fn to_json(&self, node: &str) -> Value {
        let left = self
            .left
            .iter()
            .map(|left| json!({ "stream": left.stream, "moving": left.moving, "why": left.why }));
        json!({
            "node": node,
            "empty": self.is_done(),
            "left": left.collect::<Vec<_>>(),
            "missing": self.missing,
        })
    }

    /// Why a stream is still there.
    fn why(&self, left: &Left) -> String {
        match (&left.why, self.missing.is_empty()) {
            (Some(why), _) => why.clone(),
            (None, true) => "-".to_owned(),
            (None, false) => format!("no answer from {}", self.missing.join(", ")),
        }
    }
}

/// Drains a node.
///
/// # Errors
/// The API refuses, or the node is not empty in time.
pub async fn drain(arguments: &DrainArguments) -> anyhow::Result<ExitCode> {
    let farm = &arguments.farm;
    let node = match (&arguments.node, &arguments.config) {
        (Some(node), _) => node.clone(),
        (None, config) => name_in(config.as_deref())?,
    };
    let only_run = if arguments.until_restart { "?only_run=true" } else { "" };
    let order = give(farm, &node, &format!("drain{only_run}")).await?;
    if arguments.no_wait {
        return Ok(said(farm, &order, &format!("{node} is told to drain")));
    }
    let until = Instant::now() + Duration::from_secs(arguments.timeout);
    let (mut shown, mut obeyed_at) = (String::new(), None);
    loop {
        let progress = match progress_of(farm, &node).await {
            Ok(progress) => progress,
            // The order stands, and an API that is restarted is back in a moment.
            Err(error) if Instant::now() < until => {
                crate::output::note(format_args!(
                    "{error:#}; {node} goes on draining, asking again"
                ));
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            }
            Err(error) => return Err(error.context(format!("{node} goes on draining"))),
        };
        if progress.obeys {
            obeyed_at = Some(Instant::now());
        } else if obeyed_at.is_some_and(|at| at.elapsed() >= ANOTHER_ORDER) {
            let state = progress.state.unwrap_or_default();
            bail!("{node} is {state} by now: somebody took the order back or gave another");
        }
        let line = progress.line(node.as_str());
        let is_new = progress.obeys && shown != line;
        if is_new && !progress.is_done() {
            crate::output::note(format_args!("{line}"));
            shown = line;
        }
        if progress.is_done() {
            let empty = progress.to_json(node.as_str());
            return Ok(said(farm, &empty, &format!("{node} is empty")));
        }
        if Instant::now() >= until {
            if farm.json {
                crate::output::say(format_args!("{:#}", progress.to_json(node.as_str())));
            }
            bail!("{}", late(&node, arguments.timeout, &progress));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn progress_of(farm: &FarmArguments, node: &NodeId) -> anyhow::Result<Progress> {
    let (nodes, streams) = (ask(farm, "/v1/nodes").await?, ask(farm, "/v1/streams").await?);
    Ok(Progress::of(node.as_str(), &nodes, &streams))
}

/// Cordons a node.
///
/// # Errors
/// The API refuses, or the node does not follow in time.
pub async fn cordon(arguments: &CordonArguments) -> anyhow::Result<ExitCode> {
    let order = if arguments.away { "cordon?away=true" } else { "cordon" };
    followed(&arguments.order, order, "cordoned", "takes no new streams").await
}

/// Takes an order back.
///
/// # Errors
/// As [`cordon`].
pub async fn uncordon(arguments: &OrderArguments) -> anyhow::Result<ExitCode> {
    followed(arguments, "uncordon", "ready", "takes streams again").await
}

/// Gives an order and waits until the node says of itself that it is in that state.
async fn followed(
    arguments: &OrderArguments,
    order: &str,
    state: &str,
    sentence: &str,
) -> anyhow::Result<ExitCode> {
    let OrderArguments { farm, node } = arguments;
    let answer = give(farm, node, order).await?;
    let until = Instant::now() + FOLLOW;
    loop {
        let looked = ask(farm, "/v1/nodes").await;
        let seen = looked.as_ref().ok().map(|nodes| state_of(node.as_str(), nodes));
        match seen {
            Some(None) => {
                let gone = format!("{node} is not there now; whenever it is, it {sentence}");
                return Ok(said(farm, &answer, &gone));
            }
            Some(Some(is)) if is == state => {
                return Ok(said(farm, &answer, &format!("{node} {sentence}")));
            }
            _ if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
            seen => {
                let is = seen.flatten().unwrap_or("not known");
                bail!(
                    "the order stands, but {node} has not followed it after {} s: its state is {is}",
                    FOLLOW.as_secs()
                )
            }
        }
    }
}

/// What a node says of itself; `None` when it is not registered.
fn state_of<'a>(node: &str, nodes: &'a Value) -> Option<&'a str> {
    items(&nodes["nodes"]).find(|record| record["node"] == node)?["state"].as_str()
}

fn said(farm: &FarmArguments, answer: &Value, sentence: &str) -> ExitCode {
    match farm.json {
        true => crate::output::say(format_args!("{answer:#}")),
        false => crate::output::say(format_args!("{sentence}")),
    }
    ExitCode::SUCCESS
}

/// The node that a file of settings names. Only that is looked at: a host that goes down is drained whatever else is wrong there.
fn name_in(config: Option<&Path>) -> Result<NodeId, Prerequisite> {
    let path = config.unwrap_or(Path::new("/etc/millrace/node.toml"));
    let wrong = |error: &dyn std::fmt::Display| {
        Prerequisite(format!("--config {}: {error}", path.display()))
    };
    let file = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let table: toml::Table = file.parse().map_err(|error| wrong(&error))?;
    let name = table.get("name").and_then(toml::Value::as_str).unwrap_or("node-1");
    name.parse().map_err(|error| wrong(&error))
}

async fn give(farm: &FarmArguments, node: &NodeId, order: &str) -> anyhow::Result<Value> {
    tell(farm, &format!("/v1/nodes/{node}/{order}"), None).await
}

fn late(node: &NodeId, timeout: u64, progress: &Progress) -> String {
    if progress.left.is_empty() {
        return format!(
            "after {timeout} s {}; the order stays in force",
            progress.line(node.as_str())
        );
    }
    let rows: Vec<[String; 2]> =
        progress.left.iter().map(|left| [left.stream.clone(), progress.why(left)]).collect();
    format!(
        "{node} is not empty after {timeout} s; the order stays in force, and streams go on where they are\n\n{}",
        table(["STREAM", "WHY IT IS STILL THERE"], &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_empty_once_it_drains_and_neither_routers_nor_itself_know_of_a_stream() {
        let nodes = |state: &str, streams: Value| {
            json!({ "nodes": [
            { "node": "node-1", "state": state, "streams": streams },
            { "node": "node-2", "state": "ready", "streams": [{ "stream": "b" }] },
        ] })
        };
        let none = json!({ "streams": [{ "stream": "b", "node": "node-2" }], "missing": [] });
        let one = json!({ "streams": [
            { "stream": "a", "node": "node-1", "moving": false, "stays": "refused: node-2: full" },
        ], "missing": [{ "name": "router-2" }] });
        let of = |nodes: Value, streams: &Value| Progress::of("node-1", &nodes, streams);
        assert!(of(nodes("draining", json!([])), &none).is_done());
        assert!(!of(nodes("ready", json!([])), &none).is_done());
        assert!(!of(nodes("draining", json!([{ "stream": "c" }])), &none).is_done());
        assert!(of(json!({ "nodes": [] }), &none).is_done(), "gone is empty");
        assert_eq!(state_of("node-1", &nodes("cordoned", json!([]))), Some("cordoned"));
        assert_eq!(state_of("node-3", &nodes("cordoned", json!([]))), None);
        let left = of(nodes("draining", json!([{ "stream": "a" }])), &one);
        assert_eq!(left.left.len(), 1);
        assert_eq!(
            left.line("node-1"),
            "node-1: 1 left, 0 moving, 1 could not yet; no answer from router-2"
        );
        let late = late(&"node-1".parse().unwrap(), 5, &left);
        assert!(late.contains("a       refused: node-2: full"), "{late}");
        let of_silent = json!({ "streams": [], "missing": [{ "name": "router-2" }] });
        let silent = of(nodes("draining", json!([{ "stream": "c" }])), &of_silent);
        let late = super::late(&"node-1".parse().unwrap(), 5, &silent);
        assert!(late.contains("c       no answer from router-2"), "{late}");
        assert_eq!(silent.to_json("node-1")["missing"], json!(["router-2"]));
        let early = of(nodes("ready", json!([])), &none);
        let text = super::late(&"node-1".parse().unwrap(), 0, &early);
        assert_eq!(
            text,
            "after 0 s node-1 has not followed the order yet; the order stays in force"
        );
    }
}
