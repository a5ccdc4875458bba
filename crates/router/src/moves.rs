//! Sees to it that streams leave the nodes that are to be empty, and those that an operator moves them from: looks at the registry
//! and at the sessions, and tells a few of them at a time to move. Which and when is `millrace_lifecycle::Moves`' decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millrace_lifecycle::{Leaver, Moves};
use millrace_registry::{MoveRecord, NodeRecord, NodeState, Registry, StreamRecord};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{NodeId, StreamId};
use tokio_util::sync::CancellationToken;

use crate::{report::StreamReport, sessions::Sessions};

/// From one look to the next while streams have to leave; without any, only changes in the registry are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to leave.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// These nodes are to be empty.
    pub draining: BTreeSet<NodeId>,
    /// These streams are to go to that node, or wherever there is room.
    pub ordered: BTreeMap<StreamId, Option<NodeId>>,
}

impl Departures {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.draining.is_empty() && self.ordered.is_empty()
    }

    /// What the stream is told, of which that is reported; `None`: it may stay.
    pub fn leaver(&self, stream: &StreamId, report: &StreamReport) -> Option<Leaver> {
        let ordered = self.ordered.get(stream);
        let second = report.second.as_ref().map(|second| &second.node);
        let is_left = |node: &&NodeId| ordered.is_some() || self.draining.contains(*node);
        let from = report.node.iter().chain(second).find(is_left)?.clone();
        let to = ordered.cloned().flatten();
        Some(Leaver { stream: stream.clone(), from, to, moving: report.moving })
    }
}

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
