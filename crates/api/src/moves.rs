//! Operators' orders to streams: `POST` and `DELETE /v1/streams/{id}/move`. An order is a record in the registry; the router that
//! has the stream's session follows it, make before break. Once it holds no longer it is deleted here.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use millrace_registry::{MoveRecord, NodeRecord, NodeState, Registry, StreamRecord};
use millrace_types::{Because, Decision, DecisionKind, NodeId, StreamId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    farm::Farm,
    orders::{NAMES, parsed},
    problem::{Name, NoBody, Problem},
    reports::{not_live, stream_id},
};

type Answer = Result<Json<Value>, Problem>;

/// From one look for orders that hold no longer to the next.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// `?to=NODE`: where to; without it wherever there is room.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveQuery {
    to: Option<String>,
}

/// The stream goes to another node.
pub(crate) async fn order(
    State(farm): State<Farm>,
    Name(id): Name,
    query: Result<Query<MoveQuery>, QueryRejection>,
    NoBody: NoBody,
) -> Answer {
    let Query(MoveQuery { to }) = query?;
    let id = stream_id(&id)?;
    let made = farm.registry.get::<StreamRecord>(id.as_str())?.and_then(|stream| {
        let generation = stream.epoch.generation;
        stream.node.map(|from| (from, generation))
    });
    let Some((from, generation)) = made else { return Err(not_live(&id)) };
    let to = to.map(|to| takes(&farm, &to, &id, &from)).transpose()?;
    let record = MoveRecord { stream: id, generation, from, to, since: farm.now() };
    farm.registry.put(&record).await?;
    let to = record.to.as_ref().map_or("another node", NodeId::as_str);
    info!(stream = %record.stream, from = %record.from, to, "stream told to move");
    note(&farm, &record.stream, &record.from, &format!("the stream is to go to {to}"));
    Ok(Json(json!(record)))
}

/// The stream stays where it is.
pub(crate) async fn take_back(State(farm): State<Farm>, Name(id): Name, NoBody: NoBody) -> Answer {
    let id = stream_id(&id)?;
    if let Some(record) = farm.registry.get::<MoveRecord>(id.as_str())? {
        farm.registry.delete::<MoveRecord>(id.as_str()).await?;
        info!(stream = %id, "order to move taken back");
        note(&farm, &id, &record.from, "none: the stream may stay");
    }
    Ok(Json(json!({ "stream": id, "move": null })))
}

/// The node of that name, if it takes the stream as far as the registry knows.
fn takes(farm: &Farm, to: &str, stream: &StreamId, from: &NodeId) -> Result<NodeId, Problem> {
    let name = parsed(to)?;
    let Some(to) = farm.registry.get::<NodeRecord>(name.as_str())? else {
        let error = format!("no node {name} is registered");
        let see = "see /v1/nodes for the names";
        return Err(Problem::new(StatusCode::NOT_FOUND, error, see).command(NAMES));
    };
    let conflict = |error, what_to_do: &str| Problem::new(StatusCode::CONFLICT, error, what_to_do);
    if to.node == *from {
        let error = format!("stream {stream} is made on {from} already");
        return Err(conflict(error, "name another node, or none"));
    }
    if to.state != NodeState::Ready {
        let error = format!("node {} takes no new streams: it is {}", to.node, to.state.as_str());
        return Err(conflict(error, "name another node, or none, or uncordon that one"));
    }
    Ok(to.node)
}

/// Keeps what was ordered, for operators.
fn note(farm: &Farm, stream: &StreamId, from: &NodeId, text: &str) {
    let order = Decision::of(DecisionKind::OrderGiven).stream(stream).subject(from);
    farm.decisions.record(order.because(Because::Ordered).saying(text.to_owned()));
}

/// Deletes orders that hold no longer, for ever: several APIs may.
pub(crate) async fn tidy(registry: Registry) {
    let mut look = interval(TIDY_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        for order in registry.list::<MoveRecord>() {
            let stream = registry.get::<StreamRecord>(order.stream.as_str());
            let Ok(stream) = stream else { continue };
            if order.holds(stream.as_ref()) {
                continue;
            }
            if let Err(error) = registry.delete::<MoveRecord>(order.stream.as_str()).await {
                warn!(%error, stream = %order.stream, "an order to move that is done stays for now");
            }
        }
    }
}
