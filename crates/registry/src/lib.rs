//! What the farm remembers: typed JSON records under `/millrace/v1/…`, of nodes, routers, origins, streams and channels.
//!
//! [`Registry`] is a handle; clones share the store. The in-memory store lives and dies with its process and is what
//! `millrace standalone` uses. Keys and values are laid out for etcd: readable with `etcdctl`, unknown fields ignored.

mod memory;
mod record;
mod registry;

pub use record::{
    ChannelRecord, NodeRecord, NodeState, OriginRecord, Priority, Record, RouterRecord,
    StreamRecord,
};
pub use registry::{Registry, RegistryError};
