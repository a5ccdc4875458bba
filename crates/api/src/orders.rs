//! Operators' orders to nodes: `POST /v1/nodes/{node}/drain`, `…/cordon`, `…/uncordon`. An order is a record in the
//! registry; the node follows it, and routers what the node then says of itself.

use std::time::SystemTime;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use millrace_registry::{NodeRecord, Order, OrderRecord};
use millrace_types::{Because, Decision, DecisionKind, NodeId, Wall};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{farm::Farm, problem::Problem};

type Answer = Result<Json<Value>, Problem>;

/// `?only_run=true`: the order is void when the node starts again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderQuery {
    #[serde(default)]
    only_run: bool,
}

/// The node takes no new streams, and those it has go elsewhere.
pub(crate) async fn drain(
    State(farm): State<Farm>,
    Path(name): Path<String>,
    query: Result<Query<OrderQuery>, QueryRejection>,
) -> Answer {
    give(&farm, &name, Order::Drain, query?.only_run).await
}

/// The node takes no new streams.
pub(crate) async fn cordon(
    State(farm): State<Farm>,
    Path(name): Path<String>,
    query: Result<Query<OrderQuery>, QueryRejection>,
) -> Answer {
    give(&farm, &name, Order::Cordon, query?.only_run).await
}

/// No order holds for the node any more.
pub(crate) async fn uncordon(State(farm): State<Farm>, Path(name): Path<String>) -> Answer {
    let node = parsed(&name)?;
    let order = farm.registry.get::<OrderRecord>(node.as_str())?;
    if order.is_none() {
        known(&farm, &node)?;
    }
    farm.registry.delete::<OrderRecord>(node.as_str()).await?;
    tracing::info!(%node, "order taken back");
    note(&farm, &node, "none: it takes new streams");
    Ok(Json(json!({ "node": node, "order": null })))
}

async fn give(farm: &Farm, name: &str, order: Order, only_run: bool) -> Answer {
    let node = parsed(name)?;
    let started = known(farm, &node)?.started;
    let only_run = only_run.then_some(started);
    let record = OrderRecord { node, order, since: now(), only_run };
    farm.registry.put(&record).await?;
    let text = match order {
        Order::Drain => "drain: it takes no new streams, and those it has go elsewhere",
        Order::Cordon => "cordon: it takes no new streams",
        Order::Unknown => "something that this build has no word for",
    };
    let until_restart = record.only_run.is_some();
    tracing::info!(node = %record.node, order = text, until_restart, "order given");
    note(farm, &record.node, text);
    Ok(Json(json!(record)))
}

/// Keeps what was ordered, for operators.
fn note(farm: &Farm, node: &NodeId, text: &str) {
    let order = Decision::of(DecisionKind::OrderGiven).subject(node);
    farm.decisions.record(order.because(Because::Ordered).saying(text));
}

fn known(farm: &Farm, node: &NodeId) -> Result<NodeRecord, Problem> {
    farm.registry.get::<NodeRecord>(node.as_str())?.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("no node {node} is registered"),
            "see /v1/nodes for the names; a node that is down has no streams and needs no order",
        )
        .command(
            "`millrace nodes` shows the names; a node that is down has no streams and needs no order",
        )
    })
}

fn parsed(name: &str) -> Result<NodeId, Problem> {
    name.parse().map_err(|error: millrace_types::IdError| {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), "see /v1/nodes for the names")
            .command("`millrace nodes` shows the names")
    })
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
