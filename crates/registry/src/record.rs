//! The records, one type per key prefix.

use std::{collections::BTreeMap, net::SocketAddr};

use millrace_lifecycle::Takeovers;
use millrace_types::{ChannelId, Epoch, Ladder, NodeId, StreamId, Versions, Wall};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A value with a key of its own.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// Folder of the keys, without slashes at its ends.
    const PREFIX: &'static str;

    /// Last element of the key.
    fn key(&self) -> String;
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Ready,
    /// Its streams are moving away.
    Draining,
    /// Not by an operator's order.
    Cordoned,
    /// Not until a known clip encodes correctly again.
    Quarantined,
    /// Something that this build has no word for: it takes no new work here.
    #[serde(other)]
    Unknown,
}

impl NodeState {
    /// As in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Cordoned => "cordoned",
            Self::Quarantined => "quarantined",
            Self::Unknown => "unknown",
        }
    }
}

/// A host that runs workers; amounts in the units of `millrace_sched::Capacity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Which.
    pub node: NodeId,
    /// Where routers connect.
    pub link: SocketAddr,
    /// Where its admin pages are.
    pub admin: SocketAddr,
    /// Whether it takes new work.
    pub state: NodeState,
    /// Pixels per second: what it can decode and encode in real time.
    pub decode_pixels_per_second: u64,
    /// See above.
    pub encode_pixels_per_second: u64,
    /// Worker processes.
    pub workers: u64,
    /// Memory for workers, bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core, for all but pixels. Left out when not limited, and by nodes that do not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cpu_millicores: Option<u64>,
    /// Bits per second that may leave it. Left out when not limited, and by nodes that do not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bits_per_second: Option<u64>,
    /// What is reserved of it.
    #[serde(default)]
    pub allocated: Allocated,
    /// Where it is, for choices between nodes: `zone`, `rack` and whatever its operator says.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it started: an order may be for this run of it only.
    #[serde(default)]
    pub started: Wall,
    /// The build it runs.
    pub version: String,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "Versions::is_unsaid")]
    pub speaks: Versions,
}

/// What a node has reserved for its streams, in the units of [`NodeRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocated {
    /// Pixels per second.
    pub decode_pixels_per_second: u64,
    /// Pixels per second.
    pub encode_pixels_per_second: u64,
    /// Worker processes.
    pub workers: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "is_zero")]
    pub host_cpu_millicores: u64,
    /// Bits per second.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_bits_per_second: u64,
}

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// No new streams, and those it has go elsewhere.
    Drain,
    /// No new streams.
    Cordon,
    /// Something that this build has no word for, and cannot follow.
    #[serde(other)]
    Unknown,
}

/// An operator's order to a node; deleted when it holds no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Which node.
    pub node: NodeId,
    /// What it is to do.
    pub order: Order,
    /// When it was given.
    pub since: Wall,
    /// Given to that run of the node only ([`NodeRecord::started`]): when it starts again, the order is void.
    #[serde(default)]
    pub only_run: Option<Wall>,
}

impl OrderRecord {
    /// The state that the order puts a node in which started at `started`.
    pub fn state(&self, started: Wall) -> NodeState {
        match self.order {
            _ if self.only_run.is_some_and(|run| run != started) => NodeState::Ready,
            Order::Drain => NodeState::Draining,
            Order::Cordon => NodeState::Cordoned,
            Order::Unknown => NodeState::Ready,
        }
    }
}

/// An operator's order that a stream leaves a node. It holds while the stream is made there in that session; the API deletes it
/// once it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRecord {
    /// Which stream.
    pub stream: StreamId,
    /// Its session, [`Epoch::generation`].
    pub generation: u64,
    /// The node that it is to leave.
    pub from: NodeId,
    /// The node that is to make it; any that has room when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeId>,
    /// When it was given.
    pub since: Wall,
}

impl MoveRecord {
    /// Whether the stream, of which that is known, is still to be moved.
    pub fn holds(&self, stream: Option<&StreamRecord>) -> bool {
        stream.is_some_and(|stream| {
            stream.epoch.generation == self.generation && stream.node.as_ref() == Some(&self.from)
        })
    }
}

/// A program that takes publishers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterRecord {
    /// Name.
    pub router: NodeId,
    /// Where its admin pages are.
    pub admin: SocketAddr,
    /// Where publishers connect.
    pub rtmp: SocketAddr,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "Versions::is_unsaid")]
    pub speaks: Versions,
}

/// A program that serves players.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OriginRecord {
    /// Name.
    pub origin: NodeId,
    /// Where nodes push to.
    pub intake: SocketAddr,
    /// Where players connect.
    pub playback: SocketAddr,
    /// Where its admin pages are.
    pub admin: SocketAddr,
    /// How many watch the streams that it owns, those with the most viewers only: an estimate, at most every few seconds anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub viewers: BTreeMap<StreamId, u64>,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "Versions::is_unsaid")]
    pub speaks: Versions,
}

/// A live stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Which.
    pub stream: StreamId,
    /// The router that owns its session.
    pub router: NodeId,
    /// The newest right to write its output.
    pub epoch: Epoch,
    /// The node that makes it, once one does.
    pub node: Option<NodeId>,
    /// The origin that owns its window, once one does.
    #[serde(default)]
    pub origin: Option<NodeId>,
    /// What is made of it, as far as this build has words for it.
    #[serde(deserialize_with = "known_rungs")]
    pub ladder: Ladder,
    /// Since when.
    pub since: Wall,
    /// Who sends with its channel's keys, and whose place was taken lately.
    #[serde(default)]
    pub takeovers: Takeovers,
    /// What its decoder sees, pixels per second: with the ladder, what an encoder of it takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_pixels_per_second: u64,
    /// It is to have a second encoder, as so many watch it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hot: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A ladder without the rungs that cannot be read.
fn known_rungs<'de, D: Deserializer<'de>>(from: D) -> Result<Ladder, D::Error> {
    #[derive(Deserialize)]
    struct Written {
        rungs: Vec<Value>,
    }
    let known = |rung| serde_json::from_value(rung).ok();
    let rungs = Written::deserialize(from)?.rungs.into_iter().filter_map(known).collect();
    Ok(Ladder { rungs })
}

impl StreamRecord {
    /// As it is once the stream's session has ended. It stays: the next session's epoch must be higher than any the origin has seen.
    #[must_use]
    pub fn over(mut self) -> Self {
        self.takeovers.left();
        Self { node: None, hot: false, ..self }
    }

    /// Whether the stream, which the origin `here` took media of under `fence`, belongs to another one by now. A change of
    /// origin raises the epoch, so a record that is not above the fence is news from before.
    pub fn has_left(&self, here: &NodeId, fence: Epoch) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin != here) && self.epoch > fence
    }
}

/// Which lane a channel's streams go by. Nothing acts by it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Matters least.
    Small,
    /// The usual.
    #[default]
    Standard,
    /// Matters most.
    Partner,
    /// One that this build has no word for: as the usual.
    #[serde(other)]
    Unknown,
}

/// A key that is accepted for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndingKey {
    /// As in [`ChannelRecord::key_hashes`].
    pub hash: String,
    /// Not from then on, UTC in microseconds.
    pub until: Wall,
}

/// Who may publish. Holds the keys' SHA-256 only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Which; also the public name of its stream.
    pub channel: ChannelId,
    /// Hashes of the keys that are accepted, as `StreamKey::hash` makes them.
    pub key_hashes: Vec<String>,
    /// Keys that newer ones have replaced and that go on for a while. A reader that does not know them refuses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ending_keys: Vec<EndingKey>,
    /// Its lane.
    #[serde(default)]
    pub priority: Priority,
    /// Small parts and a short hold-back: 1 s less latency, stalls in a failover possible.
    #[serde(default)]
    pub low_latency: bool,
    /// Two nodes make its stream where there is capacity. A router that does not know it lets one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dual: bool,
}

impl ChannelRecord {
    /// Until when the key of that hash is accepted, as far as is known; `None`: it never is.
    pub fn accepts_until(&self, hash: &str) -> Option<Wall> {
        if self.key_hashes.iter().any(|known| known == hash) {
            return Some(Wall(u64::MAX));
        }
        self.ending_keys.iter().find(|key| key.hash == hash).map(|key| key.until)
    }
}

macro_rules! record {
    ($type:ty, $prefix:literal, $id:ident) => {
        impl Record for $type {
            const PREFIX: &'static str = $prefix;
            fn key(&self) -> String {
                self.$id.to_string()
            }
        }
    };
}

record!(NodeRecord, "nodes", node);
record!(RouterRecord, "routers", router);
record!(OriginRecord, "origins", origin);
record!(StreamRecord, "streams", stream);
record!(ChannelRecord, "channels", channel);
record!(OrderRecord, "orders", node);
record!(MoveRecord, "moves", stream);

#[cfg(test)]
mod tests {
    use super::*;

    /// Made on `b`.
    fn stream(placement: u64) -> StreamRecord {
        StreamRecord {
            stream: "live".parse().unwrap(),
            router: "b".parse().unwrap(),
            epoch: Epoch { generation: 2, placement },
            node: Some("b".parse().unwrap()),
            origin: None,
            ladder: Ladder::default(),
            since: Wall(0),
            takeovers: Takeovers::default(),
            source_pixels_per_second: 0,
            hot: false,
        }
    }

    #[test]
    fn an_origin_gives_a_stream_up_only_for_a_record_newer_than_what_it_took() {
        let [a, b]: [NodeId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let epoch = |placement| Epoch { generation: 2, placement };
        let record = |origin: Option<&NodeId>, placement| StreamRecord {
            origin: origin.cloned(),
            ..stream(placement)
        };
        assert!(record(Some(&b), 4).has_left(&a, epoch(3)));
        assert!(!record(Some(&b), 3).has_left(&a, epoch(4)), "news from before it took over");
        assert!(!record(Some(&a), 4).has_left(&a, epoch(3)));
        assert!(!record(None, 4).has_left(&a, epoch(3)));
    }

    #[test]
    fn an_order_to_move_holds_while_the_session_that_it_is_for_is_made_where_it_was() {
        let order = |generation, from: &str| MoveRecord {
            stream: "live".parse().unwrap(),
            generation,
            from: from.parse().unwrap(),
            to: None,
            since: Wall(0),
        };
        assert!(order(2, "b").holds(Some(&stream(7))), "whatever the placement");
        assert!(!order(2, "a").holds(Some(&stream(7))));
        assert!(!order(1, "b").holds(Some(&stream(7))));
        assert!(!order(2, "b").holds(Some(&stream(7).over())));
        assert!(!order(2, "b").holds(None));
    }
}
