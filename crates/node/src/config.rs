//! What an operator can set: `/etc/millrace/node.toml`, every key optional.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use millrace_sched::Capacity;
use millrace_tls::FarmTlsConfig;
use millrace_types::{NewestVersion, NodeId};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected},
};

/// The node's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This host's name in the farm.
    pub name: NodeId,
    /// Where routers connect. Without `farm_tls` only loopback is accepted.
    pub listen_link: SocketAddr,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/v1/streams` are served.
    pub listen_admin: SocketAddr,
    /// The address at which others reach this host, for listeners on all interfaces.
    pub advertise: Option<IpAddr>,
    /// By what the farm knows this node, `node/NAME`. Without it the farm's own connections are not encrypted.
    pub farm_tls: Option<FarmTlsConfig>,
    /// The intake of the origin that everything is pushed to. When not set, each stream's own, as the farm knows it.
    pub origin_intake: Option<SocketAddr>,
    /// Where the host is, for choices between nodes: `zone`, `rack` and whatever else is of use.
    pub labels: BTreeMap<String, String>,
    /// Where workers' sockets lie.
    pub run_dir: PathBuf,
    /// Where `millrace-worker` and `millrace-worker-av` are; beside this program when not set.
    pub worker_dir: Option<PathBuf>,
    /// Whom a worker becomes when the node is root: a user's name.
    pub worker_user: String,
    /// Private memory a worker may ask for, bytes.
    pub worker_memory_bytes: u64,
    /// What the host has. When not set, a worker measures one core at start, and the share [`Config::usable_share`] of all
    /// cores counts.
    pub capacity: Option<Capacity>,
    /// Share of the measured speed that is promised to streams, 0 to 1.
    #[serde(deserialize_with = "share")]
    pub usable_share: f64,
    /// The newest version of the farm's protocol that it speaks: an older one keeps the way back to the build before open.
    pub newest_version: NewestVersion,
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(from)?;
    match share > 0.0 && share <= 1.0 {
        true => Ok(share),
        false => {
            Err(D::Error::invalid_value(Unexpected::Float(share), &"a share above 0, at most 1"))
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "node-1".parse().expect("invariant: the default name is a name"),
            listen_link: ([127, 0, 0, 1], 7001).into(),
            listen_admin: ([127, 0, 0, 1], 9102).into(),
            advertise: None,
            farm_tls: None,
            origin_intake: None,
            labels: BTreeMap::new(),
            run_dir: PathBuf::from("/run/millrace"),
            worker_dir: None,
            worker_user: "millrace-worker".to_owned(),
            worker_memory_bytes: 1 << 30,
            capacity: None,
            usable_share: 0.85,
            newest_version: NewestVersion::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, F64Deserializer};

    use super::*;

    #[test]
    fn no_more_than_the_whole_host_and_no_less_than_something_can_be_promised() {
        let read = |value: f64| share(F64Deserializer::<Error>::new(value)).ok();
        assert_eq!([5.0, 0.0, -1.0, f64::NAN].map(read), [None; 4]);
        assert_eq!([0.1, 1.0].map(read), [Some(0.1), Some(1.0)]);
    }
}
