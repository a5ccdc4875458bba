//! The registry keeps one contract on three stores: etcd 3.7, the etcd of the system, and memory.
//!
//! [`contract`] holds what all three do, [`faults`] what only a store of its own can suffer, [`access`] who may do it.

mod access;
mod contract;
mod faults;
mod process;

use std::time::Duration;

use millrace_registry::{
    ChannelRecord, NodeRecord, NodeState, Registry, RegistryConfig, SettingsError,
};
use millrace_testkit::{Etcd, Late, until};

/// A cluster on a busy machine may take so long until it answers for the first time.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(etcd: &Etcd) -> RegistryConfig {
    RegistryConfig { endpoints: etcd.endpoints(), ..RegistryConfig::default() }
}

/// A registry in that cluster, once it has seen it.
async fn connected(etcd: &Etcd) -> Registry {
    let registry = Registry::connect(&config(etcd)).expect("settings");
    assert!(registry.synced(PATIENCE).await, "no view; see {:?}", etcd.log_dir());
    registry
}

fn channel(name: &str) -> ChannelRecord {
    let channel = name.parse().expect("a name");
    ChannelRecord {
        channel,
        key_hashes: Vec::new(),
        ending_keys: Vec::new(),
        priority: Default::default(),
        low_latency: false,
        dual: false,
    }
}

fn node(name: &str, workers: u64) -> NodeRecord {
    NodeRecord {
        node: name.parse().expect("a name"),
        link: "127.0.0.1:7001".parse().expect("an address"),
        admin: "127.0.0.1:9102".parse().expect("an address"),
        state: NodeState::Ready,
        decode_pixels_per_second: 1,
        encode_pixels_per_second: 1,
        workers,
        memory_bytes: 1,
        host_cpu_millicores: None,
        egress_bits_per_second: None,
        allocated: Default::default(),
        labels: Default::default(),
        started: Default::default(),
        version: "test".to_owned(),
        speaks: Default::default(),
    }
}

/// The workers of a node as this registry shows them; `None`: no such node.
fn workers(registry: &Registry, name: &str) -> Option<u64> {
    registry.get::<NodeRecord>(name).expect("readable").map(|node| node.workers)
}

async fn shows(
    registry: &Registry,
    name: &str,
    expected: Option<u64>,
    within: Duration,
) -> Result<(), Late> {
    until(&format!("{name} {expected:?}"), within, || workers(registry, name) == expected).await
}

/// A client of the cluster's own, to do what no program of ours does.
async fn raw(etcd: &Etcd) -> etcd_client::Client {
    etcd_client::Client::connect(etcd.endpoints(), None).await.expect("a client")
}

#[test]
fn a_missing_endpoint_is_an_error_that_says_what_to_do() {
    let error = Registry::connect(&RegistryConfig::default()).expect_err("no endpoint");
    assert_eq!(error, SettingsError::NoEndpoints);
    assert!(error.to_string().contains("http://HOST:2379"));
}
