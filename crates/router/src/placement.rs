//! Asks nodes, best first, until one takes the stream. The node's own admission is the last word; what was held of each node
//! is kept, for who asks why.
//!
//! Each node is asked under an epoch of its own: one that answers too late, or long after it was given up, writes under an
//! epoch that its successor's fence is above.

mod candidate;
mod unplaced;

use std::{io, sync::Arc, time::Duration};

use millrace_lifecycle::Breakers;
use millrace_registry::{NodeRecord, Registry};
use millrace_sched::{Constraints, cost, place};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_tls::{Expected, FarmReader, FarmTls, FarmWriter, Role, connect};
use millrace_types::{
    Alternative, Because, Decision, DecisionKind, Epoch, NodeId, Reason, RefusalReason, Versions,
};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter};
use tokio::{sync::watch, time::timeout};
use tracing::debug;

use self::unplaced::{Refusal, others, unplaced};
pub use self::{
    candidate::{candidate, capacity},
    unplaced::Unplaced,
};

/// How long a node may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a node may take to answer `Hello` when no other is left to ask.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take when there are others: a worker starts in less.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long the node whose connection broke may take in all before others are asked: its daemon may be back by then.
pub const SAME_NODE_PATIENCE: Duration = Duration::from_millis(300);
/// From one try to reach it to the next.
const TRY_AGAIN: Duration = Duration::from_millis(20);

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
    pub reader: MessageReader<FarmReader>,
    /// To the node.
    pub writer: MessageWriter<FarmWriter>,
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

/// Where a stream was made before.
#[derive(Clone, Debug)]
pub struct Last {
    /// Which node.
    pub node: NodeId,
    /// Its connection broke: how long it is tried again and again before others are asked. `None`: it is asked once.
    pub patience: Option<Duration>,
}

/// Who is asked, and what is held against them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Knows the nodes.
    pub registry: Registry,
    /// This router's certificate, where the farm has TLS.
    pub tls: Option<Arc<FarmTls>>,
    /// Of every session of this router.
    pub breakers: watch::Sender<Breakers>,
    /// Real time.
    pub clock: SystemClock,
    /// Where this router's decisions are kept.
    pub decisions: DecisionLog,
    /// What this router speaks.
    pub speaks: Versions,
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
    pub async fn place(
        &self,
        mut hello: Hello,
        last: Option<Last>,
        constraints: Constraints,
    ) -> Result<Link, Unplaced> {
        let (nodes, strangers) = self.nodes();
        let demand = cost(hello.source_pixels_per_second, hello.announced, &hello.ladder);
        let last_node = last.as_ref().map(|last| &last.node);
        // Without the registry what it last said of free capacity is old: who has the capacity is asked.
        let is_current = self.registry.is_reachable();
        let candidates: Vec<_> = nodes
            .iter()
            .map(|node| candidate(node, &demand, last_node == Some(&node.node), is_current))
            .collect();
        let placement = place(&candidates, &demand, &constraints);
        let mut ranked = placement.order;
        ranked.sort_by_key(|ranked| (ranked.standing, self.rank(&ranked.node, last_node)));
        let order: Vec<NodeId> = ranked.into_iter().map(|ranked| ranked.node).collect();
        let unfit = placement.unfit.into_iter();
        let (mut refusals, mut closed): (Vec<Refusal>, Vec<Refusal>) = unfit
            .map(|(node, unfit)| (node, unfit.reason(), unfit.to_string()))
            .partition(|(_, reason, _)| *reason == RefusalReason::NoCapacity);
        closed.extend(strangers);
        let mut left = order.len();
        for (at, node) in order.iter().enumerate() {
            left -= 1;
            let Some(record) = nodes.iter().find(|record| record.node == *node) else { continue };
            let patience = last.as_ref().filter(|last| last.node == *node);
            let answer = match patience.and_then(|last| last.patience) {
                Some(patience) => self.ask_again(record, &mut hello, patience, left > 0).await,
                None => self.ask_within(record, &hello, limit(left > 0)).await,
            };
            match answer {
                Ok(mut link) => {
                    link.chosen.reason = self.why(node, last_node, at > 0);
                    link.chosen.others = others(&refusals, &closed, &order[at + 1..]);
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
        Err(unplaced(&refusals, &closed, hello.epoch))
    }

    /// The nodes that there are, and why some of them cannot be spoken with.
    fn nodes(&self) -> (Vec<NodeRecord>, Vec<Refusal>) {
        let (mut nodes, mut strangers) = (Vec::new(), Vec::new());
        for node in self.registry.list::<NodeRecord>() {
            match self.speaks.common(node.speaks) {
                Ok(_) => nodes.push(node),
                Err(error) => {
                    strangers.push((node.node, RefusalReason::Version, error.to_string()));
                }
            }
        }
        (nodes, strangers)
    }

    async fn ask_within(
        &self,
        record: &NodeRecord,
        hello: &Hello,
        limit: Duration,
    ) -> Result<Link, (RefusalReason, String)> {
        let late = || (RefusalReason::NodeUnavailable, format!("no answer within {limit:?}"));
        timeout(limit, ask(record, hello, self.tls.as_deref())).await.map_err(|_| late())?
    }

    /// Asks a node whose connection broke until it answers. Its daemon may have been replaced by one that listens elsewhere.
    async fn ask_again(
        &self,
        record: &NodeRecord,
        hello: &mut Hello,
        patience: Duration,
        others_left: bool,
    ) -> Result<Link, (RefusalReason, String)> {
        let until = self.clock.mono() + patience;
        let mut record = record.clone();
        loop {
            let left = until.since(self.clock.mono());
            let limit = if others_left { left } else { ANSWER_TIMEOUT };
            let answer = self.ask_within(&record, hello, limit).await;
            let is_away = matches!(&answer, Err((RefusalReason::NodeUnavailable, _)));
            if !is_away || until.since(self.clock.mono()) <= TRY_AGAIN {
                return answer;
            }
            tokio::time::sleep(TRY_AGAIN).await;
            // The question before may have arrived.
            hello.epoch = hello.epoch.next_placement();
            if let Ok(Some(newer)) = self.registry.get::<NodeRecord>(record.node.as_str()) {
                record = newer;
            }
        }
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
const fn limit(others_left: bool) -> Duration {
    if others_left { NEXT_ANSWER_TIMEOUT } else { ANSWER_TIMEOUT }
}

async fn ask(
    record: &NodeRecord,
    hello: &Hello,
    tls: Option<&FarmTls>,
) -> Result<Link, (RefusalReason, String)> {
    let gone = |error: io::Error| (RefusalReason::NodeUnavailable, error.to_string());
    let late = || (RefusalReason::NodeUnavailable, "connecting took too long".to_owned());
    let node = Expected::named(Role::Node, record.node.clone());
    let stream = timeout(CONNECT_TIMEOUT, connect(tls, record.link, node))
        .await
        .map_err(|_| late())?
        .map_err(gone)?;
    let (reader, writer) = stream.into_split();
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
pub mod tests {
    use millrace_registry::NodeState;
    use tokio::net::TcpListener;

    use super::*;

    fn fleet() -> Fleet {
        let (breakers, clock) = (watch::Sender::default(), SystemClock::new());
        let decisions = DecisionLog::new("router-1".parse().unwrap());
        let (registry, speaks) = (Registry::in_memory(), Versions::OURS);
        Fleet { registry, tls: None, breakers, decisions, clock, speaks }
    }

    /// The record of a node with room for whatever comes.
    pub fn node(name: &str, link: std::net::SocketAddr) -> NodeRecord {
        NodeRecord {
            node: name.parse().unwrap(),
            link,
            admin: link,
            state: NodeState::Ready,
            decode_pixels_per_second: 1 << 40,
            encode_pixels_per_second: 1 << 40,
            workers: 8,
            memory_bytes: 1 << 40,
            host_cpu_millicores: None,
            egress_bits_per_second: None,
            allocated: Default::default(),
            labels: Default::default(),
            started: Default::default(),
            version: "test".to_owned(),
            speaks: Versions::OURS,
        }
    }

    /// An address at which nobody listens.
    async fn nowhere() -> std::net::SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// Refuses the first stream that is asked for at `address`, with the epoch it was asked under as text.
    async fn refuse_at(address: std::net::SocketAddr) {
        let (socket, _) = TcpListener::bind(address).await.unwrap().accept().await.unwrap();
        let (reader, writer) = socket.into_split();
        let Ok(Some(Message::Hello(hello))) = MessageReader::new(reader).next().await else {
            panic!("a router says hello first");
        };
        let (reason, text) = (RefusalReason::NoCapacity, hello.epoch.placement.to_string());
        let refused = Message::Refused(millrace_wire::Refused { reason, text });
        MessageWriter::new(writer).send(&refused).await.unwrap();
    }

    fn hello() -> Hello {
        Hello {
            stream: "live".parse().unwrap(),
            epoch: Epoch { generation: 1, placement: 1 },
            ladder: Default::default(),
            part_target_ms: 334,
            hold_back_ms: 1_500,
            source_pixels_per_second: 0,
            origin_intake: None,
            replay_from: None,
            standby: false,
            announced: Default::default(),
            beside: None,
            speaks: Versions::OURS,
            given_up: Vec::new(),
            whole_from: 0,
        }
    }

    fn last(name: &str) -> Last {
        Last { node: name.parse().unwrap(), patience: Some(SAME_NODE_PATIENCE) }
    }

    #[tokio::test]
    async fn a_node_whose_connection_broke_is_given_300_ms_while_there_are_others() {
        let (fleet, others) = (fleet(), nowhere().await);
        fleet.registry.put(&node("a", nowhere().await)).await.unwrap();
        fleet.registry.put(&node("b", others)).await.unwrap();
        let other = tokio::spawn(refuse_at(others));
        let since = std::time::Instant::now();
        let unplaced =
            fleet.place(hello(), Some(last("a")), Constraints::default()).await.unwrap_err();
        let waited = since.elapsed().as_millis();
        assert!((280..600).contains(&waited), "{waited} ms");
        other.await.unwrap();
        assert!(unplaced.text.contains("a: node_unavailable"), "{}", unplaced.text);
        assert!(unplaced.epoch.placement > 10, "each question has an epoch of its own");
    }

    #[tokio::test]
    async fn a_daemon_that_comes_back_meanwhile_is_found_also_at_another_address() {
        let fleet = fleet();
        fleet.registry.put(&node("a", nowhere().await)).await.unwrap();
        fleet.registry.put(&node("b", nowhere().await)).await.unwrap();
        let back = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            let address = nowhere().await;
            fleet.registry.put(&node("a", address)).await.unwrap();
            refuse_at(address).await;
        };
        let (unplaced, ()) =
            tokio::join!(fleet.place(hello(), Some(last("a")), Constraints::default()), back);
        let text = unplaced.unwrap_err().text;
        assert!(text.contains("a: no_capacity"), "{text}");
    }

    #[test]
    fn the_node_a_stream_was_on_comes_first_and_one_that_has_just_failed_last() {
        let fleet = fleet();
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
