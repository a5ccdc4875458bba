//! Asks nodes, best first, until one takes the stream. The node's own admission is the last word; what was held of each node
//! is kept, for who asks why.
//!
//! Each node is asked under an epoch of its own: one that answers too late, or long after it was given up, writes under an
//! epoch that its successor's fence is above.

use std::{io, time::Duration};

use millrace_lifecycle::Breakers;
use millrace_registry::{NodeRecord, NodeState, Registry};
use millrace_sched::{Candidate, Capacity, Constraints, Demand, Ranked, Standing, cost, place};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Epoch, NodeId, RefusalReason};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter};
use serde::Serialize;
use tokio::{
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};
use tracing::{debug, warn};

/// How long a node may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a node may take to answer `Hello` when no other is left to ask.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take when there are others: a worker starts in less.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long the node whose connection broke may take in all before others are asked.
const SAME_NODE_TIMEOUT: Duration = Duration::from_millis(300);

/// A stream's connection to the node that makes it.
#[derive(Debug)]
pub struct Link {
    /// Which node.
    pub node: NodeId,
    /// The epoch it was asked under.
    pub epoch: Epoch,
    /// What it answered.
    pub admitted: Admitted,
    /// From the node.
    pub reader: MessageReader<OwnedReadHalf>,
    /// To the node.
    pub writer: MessageWriter<OwnedWriteHalf>,
    /// Why this node.
    pub considered: Vec<Considered>,
}

/// A node, why it does not take the stream, and the same for people.
type Refusal = (NodeId, RefusalReason, String);

/// What was held of a node when a stream was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Which node.
    pub node: NodeId,
    /// `taken`, or a refusal's reason.
    pub result: &'static str,
    /// For people.
    pub text: String,
}

/// No node took the stream.
#[derive(Debug)]
pub struct Unplaced {
    /// The reason that weighs most: lack of capacity only if every ready node lacks it.
    pub reason: RefusalReason,
    /// Each node's reason, for people.
    pub text: String,
    /// The last epoch that a node was asked under.
    pub epoch: Epoch,
    /// The same by node.
    pub considered: Vec<Considered>,
}

impl Unplaced {
    /// The task that asked is lost.
    pub fn by_bug(error: &tokio::task::JoinError) -> Self {
        let (reason, text) = (RefusalReason::Internal, error.to_string());
        Self { reason, text, epoch: Epoch::default(), considered: Vec::new() }
    }
}

/// Where a stream was made before.
#[derive(Clone, Debug)]
pub struct Last {
    /// Which node.
    pub node: NodeId,
    /// Its connection broke, and the node may be gone with it.
    pub broke: bool,
}

/// Who is asked, and what is held against them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Knows the nodes.
    pub registry: Registry,
    /// Of every session of this router.
    pub breakers: watch::Sender<Breakers>,
    /// Real time.
    pub clock: SystemClock,
}

impl Fleet {
    /// The node failed: others are asked first for a while.
    pub fn failed(&self, node: &NodeId) {
        let now = self.clock.mono();
        self.breakers.send_modify(|breakers| breakers.failed(now, node));
    }

    /// The node has published something of a stream.
    pub fn worked(&self, node: &NodeId) {
        self.breakers.send_if_modified(|breakers| {
            let known = breakers.is_known(node);
            if known {
                breakers.worked(node);
            }
            known
        });
    }

    /// Places a stream, the node it was on first unless that one has just failed. `hello`'s epoch is the first node's; each
    /// further one is asked under the next.
    ///
    /// # Errors
    /// [`Unplaced`] when every node refused or could not be reached.
    pub async fn place(
        &self,
        mut hello: Hello,
        last: Option<Last>,
        constraints: Constraints,
    ) -> Result<Link, Unplaced> {
        let nodes = self.registry.list::<NodeRecord>();
        let demand = cost(hello.source_pixels_per_second, &hello.ladder);
        let last_node = last.as_ref().map(|last| &last.node);
        // Without the registry what it last said of free capacity is old: who has the capacity is asked.
        let is_current = self.registry.is_reachable();
        let candidates: Vec<_> = nodes
            .iter()
            .map(|node| candidate(node, &demand, last_node == Some(&node.node), is_current))
            .collect();
        let placement = place(&candidates, &demand, &constraints);
        let mut order = placement.order;
        order.sort_by_key(|ranked| (ranked.standing, self.rank(&ranked.node, last_node)));
        let unfit = placement.unfit.into_iter();
        let (mut refusals, closed): (Vec<Refusal>, Vec<Refusal>) = unfit
            .map(|(node, unfit)| (node, unfit.reason(), unfit.to_string()))
            .partition(|(_, reason, _)| *reason == RefusalReason::NoCapacity);
        let mut left = order.len();
        for ranked in order {
            left -= 1;
            let node = ranked.node.clone();
            let Some(record) = nodes.iter().find(|record| record.node == node) else { continue };
            let broke = last.as_ref().is_some_and(|last| last.node == node && last.broke);
            match ask_within(record, &hello, limit(broke, left > 0)).await {
                Ok(mut link) => {
                    link.considered = considered(&refusals, &closed);
                    link.considered.insert(0, taken(&ranked, last_node));
                    return Ok(link);
                }
                Err((reason, text)) => {
                    debug!(%node, reason = reason.as_str(), text, "node did not take the stream");
                    if reason == RefusalReason::NodeUnavailable {
                        self.failed(&node);
                    }
                    refusals.push((node, reason, text));
                    if reason == RefusalReason::Fenced {
                        break;
                    }
                }
            }
            if left > 0 {
                hello.epoch = hello.epoch.next_placement();
            }
        }
        Err(unplaced(&refusals, &closed, hello.epoch))
    }

    /// Nodes that have just failed come last, the one that the stream was on before all others.
    fn rank(&self, node: &NodeId, last: Option<&NodeId>) -> u8 {
        match self.breakers.borrow().is_open(self.clock.mono(), node) {
            true => 2,
            false => u8::from(Some(node) != last),
        }
    }
}

/// How long one node may take in all.
fn limit(broke: bool, others_left: bool) -> Duration {
    match (broke, others_left) {
        (true, true) => SAME_NODE_TIMEOUT,
        (false, true) => NEXT_ANSWER_TIMEOUT,
        (_, false) => ANSWER_TIMEOUT,
    }
}

/// What the node said last of itself. What this stream holds there counts as free for it: it is a moment old, or about to go.
fn candidate(record: &NodeRecord, demand: &Demand, was_here: bool, is_current: bool) -> Candidate {
    let capacity = Capacity {
        decode_pixels_per_second: record.decode_pixels_per_second,
        encode_pixels_per_second: record.encode_pixels_per_second,
        workers: record.workers,
        memory_bytes: record.memory_bytes,
    };
    let allocated = Capacity {
        decode_pixels_per_second: record.allocated.decode_pixels_per_second,
        encode_pixels_per_second: record.allocated.encode_pixels_per_second,
        workers: record.allocated.workers,
        memory_bytes: record.allocated.memory_bytes,
    };
    let others = if was_here { allocated.minus(demand) } else { allocated };
    let free = if is_current { capacity.minus(&others) } else { capacity };
    let standing = match record.state {
        NodeState::Ready => Standing::Open,
        NodeState::Cordoned if was_here => Standing::Open,
        NodeState::Draining if was_here => Standing::LastResort,
        NodeState::Draining | NodeState::Cordoned | NodeState::Quarantined => Standing::Closed,
    };
    Candidate { node: record.node.clone(), standing, capacity, free, labels: record.labels.clone() }
}

fn taken(ranked: &Ranked, last: Option<&NodeId>) -> Considered {
    let free = (ranked.headroom * 100.0).round();
    let was_here = if last == Some(&ranked.node) { ", made here before" } else { "" };
    let text = format!("{free} % of its scarcest capacity stays free{was_here}");
    Considered { node: ranked.node.clone(), result: "taken", text }
}

fn considered(refusals: &[Refusal], closed: &[Refusal]) -> Vec<Considered> {
    let each = |(node, reason, text): &Refusal| Considered {
        node: node.clone(),
        result: reason.as_str(),
        text: text.clone(),
    };
    refusals.iter().chain(closed).map(each).collect()
}

/// Nodes that take no new work decide nothing about the reason while there are others.
fn unplaced(refusals: &[Refusal], closed: &[Refusal], epoch: Epoch) -> Unplaced {
    let full = |(_, reason, _): &&_| *reason == RefusalReason::NoCapacity;
    let fenced = refusals.iter().any(|(_, reason, _)| *reason == RefusalReason::Fenced);
    let reason = match refusals.iter().find(|refusal| !full(refusal)) {
        _ if fenced => RefusalReason::Fenced,
        _ if refusals.is_empty() => RefusalReason::NodeUnavailable,
        Some((_, reason, _)) => *reason,
        None => RefusalReason::NoCapacity,
    };
    let each = refusals.iter().chain(closed).map(|(node, reason, text)| {
        format!("{node}: {}{}{text}", reason.as_str(), if text.is_empty() { "" } else { ": " })
    });
    let text = match refusals.is_empty() && closed.is_empty() {
        true => "no node is known".to_owned(),
        false => each.collect::<Vec<_>>().join("; "),
    };
    Unplaced { reason, text, epoch, considered: considered(refusals, closed) }
}

async fn ask_within(
    record: &NodeRecord,
    hello: &Hello,
    limit: Duration,
) -> Result<Link, (RefusalReason, String)> {
    let late = || (RefusalReason::NodeUnavailable, format!("no answer within {limit:?}"));
    timeout(limit, ask(record, hello)).await.map_err(|_| late())?
}

async fn ask(record: &NodeRecord, hello: &Hello) -> Result<Link, (RefusalReason, String)> {
    let gone = |error: io::Error| (RefusalReason::NodeUnavailable, error.to_string());
    let late = || (RefusalReason::NodeUnavailable, "connecting took too long".to_owned());
    let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(record.link))
        .await
        .map_err(|_| late())?
        .map_err(gone)?;
    if let Err(error) = socket.set_nodelay(true) {
        warn!(%error, "no TCP_NODELAY");
    }
    let (reader, writer) = socket.into_split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    writer.send(&Message::Hello(hello.clone())).await.map_err(gone)?;
    match reader.next().await {
        Ok(Some(Message::Admitted(admitted))) => {
            let (node, epoch) = (record.node.clone(), hello.epoch);
            Ok(Link { node, epoch, admitted, reader, writer, considered: Vec::new() })
        }
        Ok(Some(Message::Refused(refused))) => Err((refused.reason, refused.text)),
        Ok(Some(_)) => Err((RefusalReason::Internal, "answered something else".to_owned())),
        Ok(None) => Err((RefusalReason::NodeUnavailable, "closed the connection".to_owned())),
        Err(error) => Err(gone(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_capacity_is_the_reason_only_when_every_node_lacks_it() {
        let epoch = Epoch { generation: 1, placement: 3 };
        let refusal = |node: &str, reason| (node.parse().unwrap(), reason, String::new());
        let full = refusal("a", RefusalReason::NoCapacity);
        let draining = refusal("b", RefusalReason::NodeUnavailable);
        let fenced = refusal("c", RefusalReason::Fenced);
        let reason = |refusals: &[_]| unplaced(refusals, &[], epoch).reason;
        let aside = [refusal("d", RefusalReason::NodeUnavailable)];
        let full_or_closed = unplaced(std::slice::from_ref(&full), &aside, epoch);
        assert_eq!(full_or_closed.reason, RefusalReason::NoCapacity);
        assert_eq!(full_or_closed.text, "a: no_capacity; d: node_unavailable");
        assert_eq!(unplaced(&[], &aside, epoch).reason, RefusalReason::NodeUnavailable);
        assert_eq!(reason(std::slice::from_ref(&full)), RefusalReason::NoCapacity);
        assert_eq!(reason(&[full, draining.clone()]), RefusalReason::NodeUnavailable);
        assert_eq!(reason(&[draining, fenced]), RefusalReason::Fenced);
        assert_eq!(reason(&[]), RefusalReason::NodeUnavailable);
    }

    #[test]
    fn what_is_reserved_is_not_free_but_for_the_stream_that_holds_it_and_old_news_count_for_nothing()
     {
        let mut record = NodeRecord {
            node: "a".parse().unwrap(),
            link: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 2).into(),
            state: NodeState::Ready,
            decode_pixels_per_second: 100,
            encode_pixels_per_second: 100,
            workers: 2,
            memory_bytes: 100,
            allocated: Default::default(),
            labels: Default::default(),
            started: Default::default(),
            version: String::new(),
        };
        (record.allocated.workers, record.allocated.memory_bytes) = (2, 60);
        let demand = Capacity { workers: 1, memory_bytes: 30, ..Capacity::ZERO };
        let free = |was_here, is_current| {
            let free = candidate(&record, &demand, was_here, is_current).free;
            (free.workers, free.memory_bytes)
        };
        assert_eq!(free(false, true), (0, 40));
        assert_eq!(free(true, true), (1, 70));
        assert_eq!(free(false, false), (2, 100));
        let standing = |state, was_here| {
            let record = NodeRecord { state, ..record.clone() };
            candidate(&record, &demand, was_here, true).standing
        };
        assert_eq!(standing(NodeState::Draining, true), Standing::LastResort);
        assert_eq!(standing(NodeState::Cordoned, true), Standing::Open);
        assert_eq!(standing(NodeState::Draining, false), Standing::Closed);
        assert_eq!(standing(NodeState::Quarantined, true), Standing::Closed);
    }

    #[test]
    fn a_node_whose_connection_broke_is_given_300_ms_while_there_are_others() {
        assert_eq!(limit(true, true), Duration::from_millis(300));
        assert!(limit(false, true) > limit(true, true) && limit(true, false) > limit(false, true));
    }

    #[test]
    fn the_node_a_stream_was_on_comes_first_and_one_that_has_just_failed_last() {
        let registry = Registry::in_memory();
        let (breakers, clock) = (watch::Sender::default(), SystemClock::new());
        let fleet = Fleet { registry, breakers, clock };
        let names: Vec<NodeId> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let order = |last: Option<&NodeId>| {
            let mut order: Vec<_> = names.iter().map(NodeId::as_str).collect();
            order.sort_by_key(|name| fleet.rank(&name.parse().unwrap(), last));
            order
        };
        assert_eq!(order(Some(&names[1])), ["b", "a", "c"]);
        fleet.failed(&names[1]);
        assert_eq!(order(Some(&names[1])), ["a", "c", "b"]);
        fleet.worked(&names[1]);
        assert_eq!(order(Some(&names[1])), ["b", "a", "c"]);
    }
}
