//! Who writes a stream under which epoch, by certificate: an epoch belongs to the node that came with it first. What an older
//! or newer epoch may do is the fence's business. In a farm without TLS nobody is known, and the fence decides alone.

use std::collections::BTreeMap;

use millrace_tls::{Identity, Peer, Role};
use millrace_types::{Epoch, NodeId, StreamId};
use tokio::sync::watch;

/// Somebody else writes under this epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch} of {stream} belongs to another node")]
pub(crate) struct NotTheWriter {
    stream: StreamId,
    epoch: Epoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    epoch: Epoch,
    node: NodeId,
}

/// The newest epoch of each stream and its node. Held in a `watch` channel for the same reasons as a stream's state.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    newest: watch::Sender<BTreeMap<StreamId, Writer>>,
}

impl Writers {
    /// Notes that this peer writes under `epoch`, unless another does.
    pub(crate) fn take(
        &self,
        stream: &StreamId,
        epoch: Epoch,
        peer: &Peer,
    ) -> Result<(), NotTheWriter> {
        let Some(Identity { role: Role::Node, name }) = &peer.identity else { return Ok(()) };
        let mut is_theirs = true;
        self.newest.send_modify(|newest| match newest.get(stream) {
            Some(held) if held.epoch > epoch => {}
            Some(held) if held.epoch == epoch => is_theirs = held.node == *name,
            _ => drop(newest.insert(stream.clone(), Writer { epoch, node: name.clone() })),
        });
        match is_theirs {
            true => Ok(()),
            false => Err(NotTheWriter { stream: stream.clone(), epoch }),
        }
    }

    /// Forgets all streams but those.
    pub(crate) fn retain(&self, is_known: impl Fn(&StreamId) -> bool) {
        self.newest.send_if_modified(|newest| {
            let before = newest.len();
            newest.retain(|stream, _| is_known(stream));
            newest.len() != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(identity: Option<&str>) -> Peer {
        let identity = identity.map(|text| text.parse().unwrap());
        Peer { address: "127.0.0.1:1".parse().unwrap(), identity }
    }

    #[test]
    fn an_epoch_belongs_to_the_node_that_came_with_it_first() {
        let writers = Writers::default();
        let stream: StreamId = "live".parse().unwrap();
        let take = |placement, who: Option<&str>| {
            let epoch = Epoch { generation: 1, placement };
            writers.take(&stream, epoch, &peer(who)).is_ok()
        };
        assert!(take(1, Some("node/a")) && take(1, Some("node/a")));
        assert!(!take(1, Some("node/b")), "not under another's epoch");
        assert!(take(2, Some("node/b")), "a successor has its own");
        assert!(!take(2, Some("node/a")));
        assert!(take(1, Some("node/a")), "an older one is the fence's business");
        assert!(take(2, None), "nobody is known without TLS");
        writers.retain(|_| false);
        assert!(take(1, Some("node/b")));
    }
}
