//! Asks nodes, best first, until one takes the stream. The node's own admission is the last word.
//!
//! Each node is asked under an epoch of its own: one that answers too late, or long after it was given up, writes under an
//! epoch that its successor's fence is above.

use std::{io, time::Duration};

use millrace_lifecycle::Breakers;
use millrace_registry::{NodeRecord, NodeState, Registry};
use millrace_sched::{Candidate, Capacity, Unfit, cost, place};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::{
    Alternative, Because, Decision, DecisionKind, Epoch, NodeId, Reason, RefusalReason,
};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter};
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
    pub chosen: Chosen,
}

/// Why one node has the stream and the others have not.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Why it.
    pub reason: Reason,
    /// Why not the others.
    pub others: Vec<Alternative>,
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
    /// Each node's reason.
    pub others: Vec<Alternative>,
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
    /// Where this router's decisions are kept.
    pub decisions: DecisionLog,
}

impl Fleet {
    /// The node failed, in these words: others are asked first for a while.
    pub fn failed(&self, node: &NodeId, text: &str) {
        let (now, mut open) = (self.clock.mono(), None);
        self.breakers.send_modify(|breakers| open = breakers.failed(now, node));
        let Some(open) = open else { return };
        let opened = Decision::of(DecisionKind::BreakerOpened).subject(node);
        let opened = opened.because(RefusalReason::NodeUnavailable);
        self.decisions
            .record(opened.saying(format!("asked last for {} s: {text}", open.as_secs())));
    }

    /// The node has published something of a stream.
    pub fn worked(&self, node: &NodeId) {
        let forgiven = self.breakers.send_if_modified(|breakers| {
            let known = breakers.is_known(node);
            if known {
                breakers.worked(node);
            }
            known
        });
        if forgiven {
            let closed = Decision::of(DecisionKind::BreakerClosed).subject(node);
            self.decisions.record(closed.because(Because::WorksAgain));
        }
    }

    /// Places a stream, the node it was on first unless that one has just failed. `hello`'s epoch is the first node's; each
    /// further one is asked under the next.
    ///
    /// # Errors
    /// [`Unplaced`] when every node refused or could not be reached.
    pub async fn place(&self, mut hello: Hello, last: Option<Last>) -> Result<Link, Unplaced> {
        let nodes = self.registry.list::<NodeRecord>();
        let demand = cost(hello.source_pixels_per_second, &hello.ladder);
        let candidates: Vec<_> = nodes.iter().map(candidate).collect();
        let (mut order, unfit) = place(&candidates, &demand);
        let last_node = last.as_ref().map(|last| &last.node);
        order.sort_by_key(|node| self.rank(node, last_node));
        let mut refusals: Vec<_> = unfit.into_iter().map(refusal).collect();
        let mut left = order.len();
        for (at, node) in order.iter().enumerate() {
            left -= 1;
            let Some(record) = nodes.iter().find(|record| record.node == *node) else { continue };
            let broke = last.as_ref().is_some_and(|last| last.node == *node && last.broke);
            match ask_within(record, &hello, limit(broke, left > 0)).await {
                Ok(mut link) => {
                    link.chosen.reason = self.why(node, last_node, at > 0);
                    link.chosen.others = others(&refusals, &order[at + 1..]);
                    return Ok(link);
                }
                Err((reason, text)) => {
                    debug!(%node, reason = reason.as_str(), text, "node did not take the stream");
                    if reason == RefusalReason::NodeUnavailable {
                        self.failed(node, &text);
                    }
                    refusals.push((node.clone(), reason, text));
                    if reason == RefusalReason::Fenced {
                        break;
                    }
                }
            }
            if left > 0 {
                hello.epoch = hello.epoch.next_placement();
            }
        }
        Err(unplaced(&refusals, hello.epoch))
    }

    /// Why a node has the stream: it was the first in the order, or those before it did not take the stream.
    fn why(&self, node: &NodeId, last: Option<&NodeId>, after_others: bool) -> Reason {
        match () {
            () if after_others => Because::NextBest,
            () if last == Some(node) => Because::WasHere,
            () if self.breakers.borrow().is_open(self.clock.mono(), node) => Because::JustFailed,
            () => Because::MostFree,
        }
        .into()
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

/// The node's books are its own, so the registry's total stands for what is free; the node refuses what it lacks.
fn candidate(record: &NodeRecord) -> Candidate {
    let capacity = Capacity {
        decode_pixels_per_second: record.decode_pixels_per_second,
        encode_pixels_per_second: record.encode_pixels_per_second,
        workers: record.workers,
        memory_bytes: record.memory_bytes,
    };
    let ready = record.state == NodeState::Ready;
    Candidate { node: record.node.clone(), ready, capacity, free: capacity }
}

fn unplaced(refusals: &[(NodeId, RefusalReason, String)], epoch: Epoch) -> Unplaced {
    let full = |(_, reason, _): &&_| *reason == RefusalReason::NoCapacity;
    let fenced = refusals.iter().any(|(_, reason, _)| *reason == RefusalReason::Fenced);
    let reason = match refusals.iter().find(|refusal| !full(refusal)) {
        _ if fenced => RefusalReason::Fenced,
        _ if refusals.is_empty() => RefusalReason::NodeUnavailable,
        Some((_, reason, _)) => *reason,
        None => RefusalReason::NoCapacity,
    };
    let each = refusals.iter().map(|(node, reason, text)| {
        format!("{node}: {}{}{text}", reason.as_str(), if text.is_empty() { "" } else { ": " })
    });
    let text = each.collect::<Vec<_>>().join("; ");
    Unplaced { reason, text, epoch, others: others(refusals, &[]) }
}

/// A node that cannot take the stream, with what it lacks.
fn refusal(unfit: Unfit) -> (NodeId, RefusalReason, String) {
    let text = unfit.resource.filter(|_| unfit.reason == RefusalReason::NoCapacity);
    let text = text.map(|resource| format!("not enough {}", resource.as_str()));
    (unfit.node, unfit.reason, text.unwrap_or_default())
}

/// The nodes that have not got the stream: those that refused, and those that were still to be asked.
fn others(refusals: &[(NodeId, RefusalReason, String)], unasked: &[NodeId]) -> Vec<Alternative> {
    let refused = refusals
        .iter()
        .map(|(node, reason, text)| Alternative::new(node.clone(), *reason, text.clone()));
    let unasked = unasked.iter().map(|node| Alternative::new(node.clone(), Because::NotAsked, ""));
    refused.chain(unasked).collect()
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
            let chosen = Chosen { reason: Because::MostFree.into(), others: Vec::new() };
            Ok(Link { node, epoch, admitted, reader, writer, chosen })
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
        let reason = |refusals: &[_]| unplaced(refusals, epoch).reason;
        assert_eq!(reason(std::slice::from_ref(&full)), RefusalReason::NoCapacity);
        assert_eq!(reason(&[full, draining.clone()]), RefusalReason::NodeUnavailable);
        assert_eq!(reason(&[draining, fenced]), RefusalReason::Fenced);
        assert_eq!(reason(&[]), RefusalReason::NodeUnavailable);
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
        let decisions = DecisionLog::new("router-1".parse().unwrap());
        let fleet = Fleet { registry, breakers, clock, decisions };
        let names: Vec<NodeId> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let order = |last: Option<&NodeId>| {
            let mut order: Vec<_> = names.iter().map(NodeId::as_str).collect();
            order.sort_by_key(|name| fleet.rank(&name.parse().unwrap(), last));
            order
        };
        assert_eq!(order(Some(&names[1])), ["b", "a", "c"]);
        fleet.failed(&names[1], "gone");
        fleet.failed(&names[1], "still gone");
        assert_eq!(order(Some(&names[1])), ["a", "c", "b"]);
        fleet.worked(&names[1]);
        assert_eq!(order(Some(&names[1])), ["b", "a", "c"]);
        let noted = fleet.decisions.list(&Default::default());
        let kinds: Vec<_> = noted.iter().map(|noted| noted.decision().kind).collect();
        assert_eq!(kinds, [DecisionKind::BreakerOpened, DecisionKind::BreakerClosed]);
    }
}
