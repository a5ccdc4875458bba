//! Sees to it that streams that were placed without their ladder get it: looks at the nodes and at the sessions, and tells one session
//! at a time. Which and when is `millrace_lifecycle::Regains`' decision.

use std::time::Duration;

use millrace_lifecycle::{Regains, Unencoded};
use millrace_registry::{NodeRecord, Registry};
use millrace_sched::{Constraints, Demand, place};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{NodeId, StreamId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{placement::candidate, sessions::Sessions};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a stream would need that goes on without encoders for want of room.
#[derive(Clone, Debug, PartialEq)]
pub struct Lack {
    /// For all that it is to have.
    pub full: Demand,
    /// What it has reserved now,
    pub held: Demand,
    /// on this node.
    pub node: Option<NodeId>,
    /// It was told to change its ladder, and has not yet.
    pub is_changing: bool,
}

impl Lack {
    fn has_room(&self, nodes: &[NodeRecord]) -> bool {
        let seen = |node: &NodeRecord| {
            candidate(node, &self.held, self.node.as_ref() == Some(&node.node), true)
        };
        let candidates: Vec<_> = nodes.iter().map(seen).collect();
        !place(&candidates, &self.full, &Constraints::default()).order.is_empty()
    }
}

/// Runs until the router stops.
pub async fn run(
    registry: Registry,
    sessions: Sessions,
    clock: SystemClock,
    stop: CancellationToken,
) {
    let (mut tick, mut regains) = (interval(LOOK_EVERY), Regains::default());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let lacking = sessions.lacking().await;
        // What nodes said before the registry was lost is old.
        let nodes = match lacking.is_empty() || !registry.is_reachable() {
            true => Vec::new(),
            false => registry.list::<NodeRecord>(),
        };
        let unencoded = |(stream, lack): (StreamId, Lack)| Unencoded {
            stream,
            has_room: lack.has_room(&nodes),
            is_changing: lack.is_changing,
        };
        let unencoded: Vec<_> = lacking.into_iter().map(unencoded).collect();
        if let Some(stream) = regains.due(clock.mono(), &unencoded) {
            sessions.regain(stream).await;
        }
    }
}
