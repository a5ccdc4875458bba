//! Asks nodes, best first, until one takes the stream. The node's own admission is the last word.

use std::{io, time::Duration};

use millrace_registry::{NodeRecord, NodeState, Registry};
use millrace_sched::{Candidate, Capacity, cost, place};
use millrace_types::{NodeId, RefusalReason};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter};
use tokio::{
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tracing::{debug, warn};

/// How long a node may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a node may take to answer `Hello`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream's connection to the node that makes it.
#[derive(Debug)]
pub struct Link {
    /// Which node.
    pub node: NodeId,
    /// What it answered.
    pub admitted: Admitted,
    /// From the node.
    pub reader: MessageReader<OwnedReadHalf>,
    /// To the node.
    pub writer: MessageWriter<OwnedWriteHalf>,
}

/// No node took the stream.
#[derive(Debug)]
pub struct Unplaced {
    /// The reason that weighs most: lack of capacity only if every ready node lacks it.
    pub reason: RefusalReason,
    /// Each node's reason, for people.
    pub text: String,
}

/// Places a stream, the node it was on first.
///
/// # Errors
/// [`Unplaced`] when every node refused or could not be reached.
pub async fn place_stream(
    registry: &Registry,
    hello: &Hello,
    last: Option<NodeId>,
) -> Result<Link, Unplaced> {
    let nodes: Vec<NodeRecord> = registry.list();
    let demand = cost(hello.source_pixels_per_second, &hello.ladder);
    let candidates: Vec<_> = nodes.iter().map(candidate).collect();
    let (mut order, unfit) = place(&candidates, &demand);
    order.sort_by_key(|node| Some(node) != last.as_ref());
    let mut refusals: Vec<(NodeId, RefusalReason, String)> =
        unfit.into_iter().map(|unfit| (unfit.node, unfit.reason, String::new())).collect();
    for node in order {
        let Some(record) = nodes.iter().find(|record| record.node == node) else { continue };
        match ask(record, hello).await {
            Ok(link) => return Ok(link),
            Err((reason, text)) => {
                debug!(%node, reason = reason.as_str(), text, "node did not take the stream");
                refusals.push((node, reason, text));
            }
        }
    }
    Err(unplaced(&refusals))
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

fn unplaced(refusals: &[(NodeId, RefusalReason, String)]) -> Unplaced {
    let full = |(_, reason, _): &&_| *reason == RefusalReason::NoCapacity;
    let reason = match refusals.iter().find(|refusal| !full(refusal)) {
        _ if refusals.is_empty() => RefusalReason::NodeUnavailable,
        Some((_, reason, _)) => *reason,
        None => RefusalReason::NoCapacity,
    };
    let each = refusals.iter().map(|(node, reason, text)| {
        format!("{node}: {}{}{text}", reason.as_str(), if text.is_empty() { "" } else { ": " })
    });
    Unplaced { reason, text: each.collect::<Vec<_>>().join("; ") }
}

async fn ask(record: &NodeRecord, hello: &Hello) -> Result<Link, (RefusalReason, String)> {
    let gone = |error: io::Error| (RefusalReason::NodeUnavailable, error.to_string());
    let late = |what: &str| (RefusalReason::NodeUnavailable, format!("{what} took too long"));
    let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(record.link))
        .await
        .map_err(|_| late("connecting"))?
        .map_err(gone)?;
    if let Err(error) = socket.set_nodelay(true) {
        warn!(%error, "no TCP_NODELAY");
    }
    let (reader, writer) = socket.into_split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    writer.send(&Message::Hello(hello.clone())).await.map_err(gone)?;
    match timeout(ANSWER_TIMEOUT, reader.next()).await.map_err(|_| late("answering"))? {
        Ok(Some(Message::Admitted(admitted))) => {
            Ok(Link { node: record.node.clone(), admitted, reader, writer })
        }
        Ok(Some(Message::Refused(refused))) => Err((refused.reason, refused.text)),
        Ok(_) => Err((RefusalReason::Internal, "answered something else".to_owned())),
        Err(error) => Err(gone(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_capacity_is_the_reason_only_when_every_node_lacks_it() {
        let refusal = |node: &str, reason| (node.parse().unwrap(), reason, String::new());
        let full = refusal("a", RefusalReason::NoCapacity);
        let draining = refusal("b", RefusalReason::NodeUnavailable);
        assert_eq!(unplaced(std::slice::from_ref(&full)).reason, RefusalReason::NoCapacity);
        assert_eq!(unplaced(&[full, draining]).reason, RefusalReason::NodeUnavailable);
        assert_eq!(unplaced(&[]).reason, RefusalReason::NodeUnavailable);
    }
}
