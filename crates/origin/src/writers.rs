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

/// Epochs that are remembered of one stream: more than can be written under at a time.
const KEPT: usize = 4;

/// The newest epochs of each stream and their nodes. Held in a `watch` channel for the same reasons as a stream's state.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    newest: watch::Sender<BTreeMap<StreamId, BTreeMap<Epoch, NodeId>>>,
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
        self.newest.send_modify(|newest| {
            let held = newest.entry(stream.clone()).or_default();
            is_theirs = held.entry(epoch).or_insert_with(|| name.clone()) == name;
            if held.len() > KEPT {
                held.pop_first();
            }
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
        assert!(!take(1, Some("node/b")), "an older one may go on beside it");
        for placement in 3..7 {
            assert!(take(placement, Some("node/b")));
        }
        assert!(take(1, Some("node/c")), "the oldest are the fence's business");
        assert!(take(2, None), "nobody is known without TLS");
        writers.retain(|_| false);
        assert!(take(1, Some("node/b")));
    }
}
