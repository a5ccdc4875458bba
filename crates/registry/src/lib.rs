//! What the farm remembers: typed JSON records under `/millrace/v1/…`, of nodes and orders to them, routers, origins, streams and
//! channels.
//!
//! [`Registry`] is a handle; clones share it. Reading is reading the local view, which never waits; writing goes to the
//! store. The store is etcd, or lives and dies with its process, as
//! in `millrace standalone`. A record that stands
//! for a living process is [kept](Registry::keep): it goes when the process does. Keys and values are laid out for etcd:
//! readable with `etcdctl`, unknown fields ignored.

mod etcd;
mod kept;
mod memory;
mod metrics;
mod program_settings;
mod record;
mod registry;
mod rewrite;
mod settings;
mod store;
mod view;

pub use kept::Kept;
pub use program_settings::{OwnSettings, ProgramSettings};
pub use record::{
    Allocated, ChannelRecord, EndingKey, MoveRecord, NodeRecord, NodeState, Order, OrderRecord,
    OriginRecord, Priority, Record, RouterRecord, StreamRecord,
};
pub use registry::{Changes, Follower, Registry, RegistryError};
pub use settings::{RegistryConfig, SettingsError};
