//! Operators' orders to nodes: `POST /v1/nodes/{node}/drain`, `…/cordon`, `…/uncordon`. An order is a record in the
//! registry; the node follows it, and routers what the node then says of itself.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use millrace_registry::{NodeRecord, Order, OrderRecord};
use millrace_types::{Because, Decision, DecisionKind, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    farm::Farm,
    problem::{Name, NoBody, Problem},
};

/// Where an operator finds a node's name.
pub(crate) const NAMES: &str = "`millrace nodes` shows the names";

type Answer = Result<Json<Value>, Problem>;

/// `?only_run=true`: the order is void when the node starts again. `?away=true`: the node need not be there; it finds the order
/// when it comes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderQuery {
    #[serde(default)]
    only_run: bool,
    #[serde(default)]
    away: bool,
}

/// The node takes no new streams, and those it has go elsewhere.
pub(crate) async fn drain(
    State(farm): State<Farm>,
    Name(name): Name,
    query: Result<Query<OrderQuery>, QueryRejection>,
    NoBody: NoBody,
) -> Answer {
    let Query(query) = query?;
    give(&farm, &name, Order::Drain, &query).await
}

/// The node takes no new streams.
pub(crate) async fn cordon(
    State(farm): State<Farm>,
    Name(name): Name,
    query: Result<Query<OrderQuery>, QueryRejection>,
    NoBody: NoBody,
) -> Answer {
    let Query(query) = query?;
    give(&farm, &name, Order::Cordon, &query).await
}

/// No order holds for the node any more.
pub(crate) async fn uncordon(State(farm): State<Farm>, Name(name): Name, NoBody: NoBody) -> Answer {
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

async fn give(farm: &Farm, name: &str, order: Order, query: &OrderQuery) -> Answer {
    let node = parsed(name)?;
    if query.away && query.only_run {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "either away or only_run: a node that is not there has no run",
            "leave only_run out; uncordon the node when it is to take streams again",
        ));
    }
    let only_run = match query.away {
        true => None,
        false => Some(known(farm, &node)?.started).filter(|_| query.only_run),
    };
    let record = OrderRecord { node, order, since: farm.now(), only_run };
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
            "see /v1/nodes for the names; with ?away=true the order waits for a node that is not there",
        )
        .command(
            "`millrace nodes` shows the names; `millrace cordon NODE --away` waits for a node that is not there",
        )
    })
}

pub(crate) fn parsed(name: &str) -> Result<NodeId, Problem> {
    name.parse().map_err(|error: millrace_types::IdError| {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), "see /v1/nodes for the names")
            .command(NAMES)
    })
}
