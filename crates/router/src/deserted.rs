//! Ends the records of streams whose router has gone for good, so that nobody takes them for live: any router that is there does it.
//! When is `millrace_lifecycle::Deserted`'s decision.
//!
//! A router that lives, and was only cut off from the registry, writes its streams' records again when it is back.

use std::{collections::BTreeSet, time::Duration};

use millrace_lifecycle::{Deserted, Session};
use millrace_registry::{Registry, RouterRecord, StreamRecord};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::{Because, Decision, DecisionKind, NodeId, StreamId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sessions::Sessions;

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is looked at, and by whom.
pub struct Looking {
    pub registry: Registry,
    pub router: NodeId,
    pub decisions: DecisionLog,
    pub clock: SystemClock,
}

impl Looking {
    /// Runs until the router stops.
    pub async fn run(self, sessions: Sessions, stop: CancellationToken) {
        let mut deserted = Deserted::default();
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            // Asked before the records are read: a session that begins meanwhile is then not among the deserted.
            let known = self.without_router(&BTreeSet::new());
            let here = match known.is_empty() {
                true => BTreeSet::new(),
                false => sessions.reports().await.into_iter().map(|it| it.stream).collect(),
            };
            for session in deserted.due(self.clock.mono(), &self.without_router(&here)) {
                self.end(&session).await;
            }
        }
    }

    /// The sessions that are recorded as live, and whose router is not there: another one is not registered, and this one has none
    /// of them among its own, `here`. Nobody is missed by a registry that does not answer.
    fn without_router(&self, here: &BTreeSet<StreamId>) -> BTreeSet<Session> {
        if !self.registry.is_reachable() {
            return BTreeSet::new();
        }
        let routers = self.registry.list::<RouterRecord>().into_iter().map(|it| it.router);
        let routers: BTreeSet<NodeId> = routers.collect();
        let is_without = |record: &StreamRecord| match record.router == self.router {
            true => !here.contains(&record.stream),
            false => !routers.contains(&record.router),
        };
        let live = self.registry.list::<StreamRecord>().into_iter().filter(|it| it.node.is_some());
        live.filter(is_without).map(|it| (it.stream, it.epoch)).collect()
    }

    async fn end(&self, (stream, epoch): &Session) {
        let over = |record: Option<StreamRecord>| {
            record.map(|old| if old.epoch == *epoch { old.over() } else { old })
        };
        match self.registry.update(stream.as_str(), over).await {
            Ok(Some(record)) => {
                let router = record.router;
                info!(%stream, %epoch, %router, "stream over: its router has gone, and no other has it");
                let ended = Decision::of(DecisionKind::Ended).stream(stream).epoch(*epoch);
                let ended = ended.subject(&router).because(Because::Silent);
                let text =
                    format!("its router {router} has gone, and its publisher came to no other");
                self.decisions.record(ended.saying(text));
            }
            Ok(None) => {}
            // The next look finds it again.
            Err(error) => warn!(%stream, %error, "record of a stream without a router not ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::Epoch;

    use super::*;

    #[tokio::test]
    async fn of_streams_recorded_as_live_those_whose_router_is_gone_are_ended_and_keep_their_epoch()
    {
        let (registry, router) = (Registry::in_memory(), "router-1".parse::<NodeId>().unwrap());
        let record = |stream: &str, router: &str, node: Option<&str>| {
            let json = serde_json::json!({
                "stream": stream, "router": router, "node": node, "ladder": { "rungs": [] },
                "epoch": Epoch { generation: 4, placement: 2 }, "since": 1, "hot": true,
            });
            serde_json::from_value::<StreamRecord>(json).unwrap()
        };
        for found in [
            record("own", "router-1", Some("node-1")),
            record("forgotten", "router-1", Some("node-1")),
            record("elsewhere", "router-2", Some("node-1")),
            record("deserted", "router-3", Some("node-1")),
            record("over", "router-3", None),
        ] {
            registry.put(&found).await.unwrap();
        }
        let at = ([127, 0, 0, 1], 1).into();
        let other = RouterRecord {
            router: "router-2".parse().unwrap(),
            admin: at,
            rtmp: at,
            speaks: Default::default(),
        };
        registry.put(&other).await.unwrap();
        let decisions = DecisionLog::new(router.clone());
        let clock = SystemClock::new();
        let looking = Looking { registry: registry.clone(), router, decisions, clock };
        let without = looking.without_router(&BTreeSet::from(["own".parse().unwrap()]));
        let names: Vec<_> = without.iter().map(|(stream, _)| stream.as_str()).collect();
        assert_eq!(names, ["deserted", "forgotten"]);
        for session in &without {
            looking.end(session).await;
        }
        let ended: StreamRecord = registry.get("deserted").unwrap().unwrap();
        assert_eq!((ended.node, ended.hot, ended.epoch.generation), (None, false, 4));
        assert!(looking.without_router(&BTreeSet::from(["own".parse().unwrap()])).is_empty());
        let claimed = StreamRecord {
            epoch: Epoch { generation: 5, placement: 0 },
            ..record("deserted", "router-2", Some("node-2"))
        };
        registry.put(&claimed).await.unwrap();
        looking.end(without.first().unwrap()).await;
        assert_eq!(registry.get("deserted").unwrap(), Some(claimed), "a later session stays");
    }
}
