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

/// How an operator moves a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// From there. Once it is elsewhere it stays, though the registry may not know yet.
    pub from: NodeId,
    /// To that node, or wherever there is room.
    pub to: Option<NodeId>,
}

/// What is to leave.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// These nodes are to be empty.
    pub draining: BTreeSet<NodeId>,
    /// These streams are to leave a node.
    pub ordered: BTreeMap<StreamId, Ordered>,
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
        let is_left = |node: &&NodeId| {
            ordered.is_some_and(|order| order.from == **node) || self.draining.contains(*node)
        };
        let from = report.node.iter().chain(second).find(is_left)?.clone();
        let to = ordered.filter(|order| order.from == from).and_then(|order| order.to.clone());
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
        ordered: ordered
            .map(|MoveRecord { stream, from, to, .. }| (stream, Ordered { from, to }))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::Wall;

    use super::*;

    #[test]
    fn an_order_moves_a_stream_from_where_it_was_given_for_and_from_nowhere_else() {
        let name = |name: &str| name.parse::<NodeId>().unwrap();
        let stream: StreamId = "live".parse().unwrap();
        let order = Ordered { from: name("a"), to: Some(name("c")) };
        let departures = Departures {
            draining: BTreeSet::from([name("d")]),
            ordered: BTreeMap::from([(stream.clone(), order)]),
        };
        let on = |node: &str| {
            let unknown = StreamReport::new(stream.clone(), Wall(0));
            let report = StreamReport { node: Some(name(node)), ..unknown };
            let leaver = departures.leaver(&stream, &report);
            leaver.map(|leaver| (leaver.from.to_string(), leaver.to.map(|to| to.to_string())))
        };
        assert_eq!(on("a"), Some(("a".to_owned(), Some("c".to_owned()))));
        assert_eq!(on("b"), None, "it has left, and the registry does not know yet");
        assert_eq!(on("d"), Some(("d".to_owned(), None)), "which is to be empty");
    }
}
