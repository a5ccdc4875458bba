//! What is live: `/v1/streams`, `/v1/events`, `/v1/nodes`, `/v1/origins`. Puts the routers' and nodes' words together.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use millrace_registry::{NodeRecord, OrderRecord, OriginRecord};
use millrace_types::{Epoch, StreamId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    farm::{Answers, Farm, Missing, REMEMBERS},
    faults::faults,
    problem::{Name, Problem},
};

type Answer = Result<Json<Value>, Problem>;

/// Events given when nobody says how many.
const EVENTS: usize = 1_000;

/// All live streams, by name, and what of the farm is down.
pub(crate) async fn streams(State(farm): State<Farm>) -> Answer {
    let answers = farm.ask_routers("/v1/streams").await;
    let silent = answers.missing.clone();
    let (mut streams, missing) = concatenated(answers);
    streams.sort_by(|a, b| a["stream"].as_str().cmp(&b["stream"].as_str()));
    let faults = faults(&farm, &streams, &silent).await;
    Ok(Json(json!({ "streams": streams, "missing": missing, "faults": faults })))
}

/// One live stream, with what its node says of its worker.
pub(crate) async fn stream(State(farm): State<Farm>, Name(id): Name) -> Answer {
    let id = stream_id(&id)?;
    let Newest { found, missing } = newest_report(&farm, &id).await;
    let Some(mut report) = found else {
        return Err(match missing.first() {
            Some(router) => Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("stream {id} is on no router that answers; {} does not", router.name),
                format!("look at that router: {}", router.error),
            ),
            None => not_live(&id),
        });
    };
    if let Some(fields) = report.as_object_mut() {
        let worker = worker_of(&farm, &id, fields).await?;
        fields.insert("worker".to_owned(), worker);
    }
    Ok(Json(report))
}

/// Where an operator finds a stream's name.
pub(crate) const LIVE: &str = "`millrace streams` shows what is live";

/// Nobody makes it.
pub(crate) fn not_live(id: &StreamId) -> Problem {
    let error = format!("stream {id} is not live");
    Problem::new(StatusCode::NOT_FOUND, error, "see /v1/streams for what is").command(LIVE)
}

/// The name of a stream as it stands in a path.
pub(crate) fn stream_id(text: &str) -> Result<StreamId, Problem> {
    text.parse().map_err(|error: millrace_types::IdError| {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), "see /v1/streams for the names")
            .command(LIVE)
    })
}

/// What the router with the newest right to a stream says of it.
pub(crate) struct Newest {
    pub(crate) found: Option<Value>,
    pub(crate) missing: Vec<Missing>,
}

/// Asks all routers: one that has lost the stream to another may not know it yet.
pub(crate) async fn newest_report(farm: &Farm, id: &StreamId) -> Newest {
    let Answers { found, missing } = farm.ask_routers(&format!("/v1/streams/{id}")).await;
    let epoch = |report: &Value| report["epoch"].as_str()?.parse::<Epoch>().ok();
    Newest { found: found.into_iter().max_by_key(epoch), missing }
}

/// What the node that makes the stream says of its worker; null before there is one.
async fn worker_of(
    farm: &Farm,
    id: &StreamId,
    report: &Map<String, Value>,
) -> Result<Value, Problem> {
    let Some(node) = report.get("node").and_then(Value::as_str) else { return Ok(Value::Null) };
    let Some(record) = farm.registry.get::<NodeRecord>(node)? else {
        return Ok(json!({ "unknown": format!("node {node} is not registered") }));
    };
    Ok(match farm.node_streams(&record).await {
        Ok(streams) => {
            let of_stream = streams.iter().find(|stream| stream["stream"] == id.to_string());
            of_stream.map_or(Value::Null, worker)
        }
        Err(error) => json!({ "unknown": error.to_string() }),
    })
}

/// The node's line on a stream, its sandbox as an object from measure to state.
fn worker(line: &Value) -> Value {
    let sandbox: Map<String, Value> = line["sandbox"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].clone())))
        .collect();
    let epoch = Epoch::deserialize(&line["epoch"]).ok();
    json!({
        "pid": line["worker_pid"],
        "epoch": epoch.map(|epoch| epoch.to_string()),
        "lag_ms": line["lag_ms"],
        "sandbox": sandbox,
    })
}

/// `?limit=`: how many of the newest events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    limit: Option<usize>,
}

/// What happened lately, newest last.
pub(crate) async fn events(
    State(farm): State<Farm>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer {
    let limit = query?.limit.unwrap_or(EVENTS);
    let (mut events, missing) = concatenated(farm.ask_routers("/v1/events").await);
    events.sort_by(|a, b| a["at"].as_str().cmp(&b["at"].as_str()));
    events.drain(..events.len().saturating_sub(limit));
    Ok(Json(json!({ "events": events, "missing": missing })))
}

/// Every node, with what it works on, the orders to nodes that are not there, and what of the farm is down.
pub(crate) async fn nodes(State(farm): State<Farm>) -> Answer {
    let records = farm.registry.list::<NodeRecord>();
    let silent = async { farm.ask_routers(REMEMBERS).await.missing };
    let (works, silent) = tokio::join!(farm.all_node_streams(&records), silent);
    let faults = faults(&farm, &[], &silent).await;
    let nodes = records.iter().zip(works).map(|(record, works)| {
        let mut node = json!(record);
        match works {
            Ok(streams) => {
                node["reachable"] = json!(true);
                node["streams"] = Value::Array(streams);
            }
            Err(error) => {
                node["reachable"] = json!(false);
                node["error"] = json!(error.to_string());
            }
        }
        node
    });
    let is_there = |order: &OrderRecord| records.iter().any(|record| record.node == order.node);
    let mut waiting = farm.registry.list::<OrderRecord>();
    waiting.retain(|order| !is_there(order));
    let nodes: Vec<_> = nodes.collect();
    Ok(Json(json!({ "nodes": nodes, "orders_waiting": waiting, "faults": faults })))
}

/// Every origin: where players connect.
pub(crate) async fn origins(State(farm): State<Farm>) -> Answer {
    let origins = farm.registry.list::<OriginRecord>();
    Ok(Json(json!({ "origins": origins })))
}

fn concatenated(answers: Answers) -> (Vec<Value>, Value) {
    let lists = answers.found.into_iter().filter_map(|list| match list {
        Value::Array(items) => Some(items),
        _ => None,
    });
    (lists.flatten().collect(), json!(answers.missing))
}
