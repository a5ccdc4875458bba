//! Sees to it that streams leave the nodes that are to be empty: looks at the registry and at the sessions, and tells a few of
//! them at a time to move. Which and when is `millrace_lifecycle::Moves`' decision.

use std::{collections::BTreeSet, time::Duration};

use millrace_lifecycle::Moves;
use millrace_registry::{NodeRecord, NodeState, Registry};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::NodeId;
use tokio_util::sync::CancellationToken;

use crate::sessions::Sessions;

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
        let nodes = registry.list::<NodeRecord>();
        let draining = nodes.into_iter().filter(|node| node.state == NodeState::Draining);
        let draining: BTreeSet<NodeId> = draining.map(|node| node.node).collect();
        let leavers = match draining.is_empty() {
            true => Vec::new(),
            false => sessions.made_on(draining).await,
        };
        for stream in moves.due(clock.mono(), &leavers) {
            sessions.move_away(stream).await;
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
