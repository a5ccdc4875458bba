//! What the farm knows of this node: its record, kept current with what is reserved and with the orders to it.
//!
//! The books obey an order before the record says so: a router that reads it finds it true. An order that the registry
//! lost, or that cannot be read, stays in force as it was.

use millrace_registry::{Allocated, Kept, NodeRecord, NodeState, OrderRecord, Registry};
use millrace_sched::Demand;
use millrace_telemetry::Readiness;
use millrace_types::Versions;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::host::Host;

/// What of its readiness is the operators' to say.
const ORDER: &str = "order";

/// Keeps the node's record for as long as the node takes part in the farm.
#[derive(Debug)]
pub struct Registration {
    stop: CancellationToken,
    task: JoinHandle<Kept<NodeRecord>>,
}

impl Registration {
    /// Writes `record` and follows orders from now on.
    pub fn start(record: NodeRecord, registry: Registry, host: Host, readiness: Readiness) -> Self {
        let stop = CancellationToken::new();
        let promised = host.promised();
        let follower = Follower { record, registry, host, readiness, promised };
        let task = tokio::spawn(follower.run(stop.clone()));
        Self { stop, task }
    }

    /// Leaves the record to the daemon that comes next.
    pub async fn leave(self) {
        self.stop.cancel();
        if let Ok(kept) = self.task.await {
            kept.leave();
        }
    }

    /// Takes the record out of the registry.
    pub async fn withdraw(self) {
        self.stop.cancel();
        if let Ok(kept) = self.task.await {
            kept.withdraw().await;
        }
    }
}

struct Follower {
    record: NodeRecord,
    registry: Registry,
    host: Host,
    readiness: Readiness,
    promised: watch::Receiver<Demand>,
}

impl Follower {
    async fn run(mut self, stop: CancellationToken) -> Kept<NodeRecord> {
        let mut changes = self.registry.changes();
        self.obey().await;
        let kept = self.registry.keep(&self.record);
        loop {
            tokio::select! {
                () = stop.cancelled() => return kept,
                Ok(()) = changes.changed() => {}
                Ok(()) = self.promised.changed() => {}
                else => return kept,
            }
            let allocated = allocated(&self.promised.borrow_and_update(), self.record.speaks);
            if self.obey().await || self.record.allocated != allocated {
                self.record.allocated = allocated;
                kept.set(self.record.clone());
            }
        }
    }

    /// Follows the order in force; whether that changed anything.
    async fn obey(&mut self) -> bool {
        let name = self.record.node.as_str();
        let state = match self.registry.get::<OrderRecord>(name) {
            Ok(Some(order)) => order.state(self.record.started),
            Ok(None) if self.registry.is_lost::<OrderRecord>(name) => return false,
            Ok(None) => NodeState::Ready,
            Err(_) => return false,
        };
        if state == self.record.state {
            return false;
        }
        info!(was = self.record.state.as_str(), state = state.as_str(), "order followed");
        self.record.state = state;
        self.host.set_state(state).await;
        match state {
            NodeState::Ready => self.readiness.has(ORDER),
            other => self.readiness.lacks(ORDER, refusing(name, other)),
        }
        true
    }
}

/// Why a node in that state takes no new streams, and what to do.
fn refusing(name: &str, state: NodeState) -> String {
    format!("the node is {}: no new streams until `millrace uncordon {name}`", state.as_str())
}

/// In the words of the version that is spoken.
fn allocated(promised: &Demand, speaks: Versions) -> Allocated {
    let said = |amount| if speaks.is_unsaid() { 0 } else { amount };
    Allocated {
        host_cpu_millicores: said(promised.host_cpu_millicores),
        egress_bits_per_second: said(promised.egress_bits_per_second),
        decode_pixels_per_second: promised.decode_pixels_per_second,
        encode_pixels_per_second: promised.encode_pixels_per_second,
        workers: promised.workers,
        memory_bytes: promised.memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_registry::Order;
    use millrace_sched::{Capacity, Ledger};
    use millrace_telemetry::Metrics;
    use millrace_types::Wall;

    use super::*;
    use crate::metrics::NodeMetrics;

    fn record() -> NodeRecord {
        NodeRecord {
            node: "node-1".parse().unwrap(),
            link: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 2).into(),
            state: NodeState::Ready,
            decode_pixels_per_second: 1,
            encode_pixels_per_second: 1,
            workers: 2,
            memory_bytes: 1,
            host_cpu_millicores: Some(9),
            egress_bits_per_second: None,
            allocated: Allocated::default(),
            labels: Default::default(),
            started: Wall(7),
            version: String::new(),
            speaks: Default::default(),
        }
    }

    async fn shows(registry: &Registry, wanted: impl Fn(&NodeRecord) -> bool) {
        let mut changes = registry.changes();
        let seen = async {
            loop {
                let found: Option<NodeRecord> = registry.get("node-1").unwrap();
                if found.is_some_and(|found| wanted(&found)) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(5), seen).await.unwrap();
    }

    #[test]
    fn what_the_build_before_had_no_word_for_is_not_said_in_its_version() {
        let one = Demand {
            workers: 1,
            host_cpu_millicores: 9,
            egress_bits_per_second: 7,
            ..Demand::ZERO
        };
        let now = allocated(&one, Versions::OURS);
        assert_eq!((now.host_cpu_millicores, now.egress_bits_per_second), (9, 7));
        let before = Allocated { workers: 1, ..Allocated::default() };
        assert_eq!(allocated(&one, Versions::UNSAID), before);
    }

    #[tokio::test]
    async fn the_record_follows_orders_and_reservations_and_goes_with_the_node() {
        let registry = Registry::in_memory();
        let host_cpu_millicores = None;
        let capacity = Capacity { workers: 2, host_cpu_millicores, ..Capacity::ZERO };
        let (ledger, metrics) = (Ledger::new(capacity), NodeMetrics::new(&Metrics::new()));
        let host = Host::start(ledger, None, registry.clone(), metrics, Vec::new());
        let readiness = Readiness::default();
        let order = |order, only_run| OrderRecord {
            node: "node-1".parse().unwrap(),
            order,
            since: Wall(9),
            only_run,
        };
        registry.put(&order(Order::Cordon, None)).await.unwrap();
        let kept = Registration::start(record(), registry.clone(), host.clone(), readiness.clone());
        shows(&registry, |node| node.state == NodeState::Cordoned).await;
        let one = Demand { workers: 1, host_cpu_millicores: 9, ..Demand::ZERO };
        let epoch = millrace_types::Epoch::default();
        let intake = ([127, 0, 0, 1], 3).into();
        let refused = host.admit("a".parse().unwrap(), epoch, one, intake).await.unwrap_err();
        assert_eq!(refused.to_string(), "the node takes no new streams: it is cordoned");
        registry.delete::<OrderRecord>("node-1").await.unwrap();
        shows(&registry, |node| node.state == NodeState::Ready).await;
        host.admit("a".parse().unwrap(), epoch, one, intake).await.unwrap();
        shows(&registry, |node| node.allocated.workers == 1).await;
        registry.put(&order(Order::Drain, Some(Wall(7)))).await.unwrap();
        shows(&registry, |node| node.state == NodeState::Draining).await;
        let next = millrace_types::Epoch { generation: 0, placement: 1 };
        assert!(host.admit("a".parse().unwrap(), next, one, intake).await.is_ok(), "its own");
        registry.put(&order(Order::Drain, Some(Wall(6)))).await.unwrap();
        shows(&registry, |node| node.state == NodeState::Ready).await;
        kept.withdraw().await;
        assert_eq!(registry.get::<NodeRecord>("node-1").unwrap(), None);
    }
}
