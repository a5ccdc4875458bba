//! Sees to it that streams leave the nodes that are to be empty, and those that an operator moves them from: looks at the registry
//! and at the sessions, and tells a few of them at a time to move. Which and when is `millrace_lifecycle::Moves`' decision.

use std::time::Duration;

use millrace_lifecycle::Moves;
use millrace_registry::{MoveRecord, NodeRecord, NodeState, Registry, StreamRecord};
use millrace_telemetry::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::sessions::{Departures, Sessions};

/// From one look to the next while streams have to leave; without any, only changes in the registry are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs until the router stops.
pub async fn run(
    registry: Registry,
    sessions: Sessions,
    clock: SystemClock,
    stop: CancellationToken,
) {
    let (mut changes, mut moves) = (registry.changes(), Moves::default());
    loop {
        let departures = departures(&registry);
        let leavers = match departures.is_empty() {
            true => Vec::new(),
            false => sessions.leaving(departures).await,
        };
        for leaver in moves.due(clock.mono(), &leavers) {
            sessions.move_away(leaver.clone()).await;
        }
        let look_again = async {
            match leavers.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = look_again => {}
        }
    }
}

/// What is to leave, of all routers' streams.
fn departures(registry: &Registry) -> Departures {
    let draining = registry.list::<NodeRecord>().into_iter();
    let draining = draining.filter(|node| node.state == NodeState::Draining).map(|node| node.node);
    let ordered = registry.list::<MoveRecord>().into_iter();
    let ordered = ordered.filter(|order| {
        let stream = registry.get::<StreamRecord>(order.stream.as_str());
        order.holds(stream.ok().flatten().as_ref())
    });
    Departures {
        draining: draining.collect(),
        ordered: ordered.map(|order| (order.stream, order.to)).collect(),
    }
}
