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
    /// Divides the cgroup that this program is started in: each worker gets one of its own below it, with the same limit of
    /// memory. For a systemd unit with `Delegate=`, as `--divide-cgroup` on its command line.
    pub divide_cgroup: bool,
    /// What the host has, where its operator says so.
    pub capacity: CapacityConfig,
    /// Share of what was measured that is promised to streams, 0 to 1.
    #[serde(deserialize_with = "share")]
    pub usable_share: f64,
    /// The newest version of the farm's protocol that it speaks: an older one keeps the way back to the build before open.
    pub newest_version: NewestVersion,
}

/// What a host has, as far as its operator says so. What is not set is measured at start, and its share
/// [`Config::usable_share`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// Pixels per second that it decodes in real time. When not set, a worker measures one core.
    pub decode_pixels_per_second: Option<u64>,
    /// Pixels per second that it encodes in real time, scaling included. When not set, a worker measures one core.
    pub encode_pixels_per_second: Option<u64>,
    /// Worker processes. When not set, 64 per core.
    pub workers: Option<u64>,
    /// Memory for workers, bytes. When not set, the host's.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core for all but pixels: carrying, packaging, sending. When not set, the cores that this program may use.
    pub host_cpu_millicores: Option<u64>,
    /// Bits per second that may leave for origins. When not set, the speed of the interface that leads there, or of the fastest
    /// one while no origin is known; not limited where the kernel does not know it, and where the origins are on this host.
    pub egress_bits_per_second: Option<u64>,
}

impl CapacityConfig {
    /// Whether nothing is left to be found out about pixels.
    pub const fn says_pixels(&self) -> bool {
        self.decode_pixels_per_second.is_some() && self.encode_pixels_per_second.is_some()
    }

    /// What is set, and the rest as it was measured.
    pub fn or(&self, measured: Capacity) -> Capacity {
        let set = |set: Option<u64>, measured| set.unwrap_or(measured);
        Capacity {
            decode_pixels_per_second: set(
                self.decode_pixels_per_second,
                measured.decode_pixels_per_second,
            ),
            encode_pixels_per_second: set(
                self.encode_pixels_per_second,
                measured.encode_pixels_per_second,
            ),
            workers: set(self.workers, measured.workers),
            memory_bytes: set(self.memory_bytes, measured.memory_bytes),
            host_cpu_millicores: self.host_cpu_millicores.or(measured.host_cpu_millicores),
            egress_bits_per_second: self.egress_bits_per_second.or(measured.egress_bits_per_second),
        }
    }
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
            divide_cgroup: false,
            capacity: CapacityConfig::default(),
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
    fn what_is_set_holds_and_the_rest_is_as_it_was_measured() {
        let measured = Capacity { workers: 7, host_cpu_millicores: Some(900), ..Capacity::ZERO };
        let measured = Capacity { egress_bits_per_second: None, ..measured };
        let set = CapacityConfig { host_cpu_millicores: Some(50), ..CapacityConfig::default() };
        assert_eq!(set.or(measured), Capacity { host_cpu_millicores: Some(50), ..measured });
        let set = CapacityConfig { egress_bits_per_second: Some(8), ..CapacityConfig::default() };
        assert_eq!(set.or(measured), Capacity { egress_bits_per_second: Some(8), ..measured });
        assert!(!set.says_pixels());
    }

    #[test]
    fn no_more_than_the_whole_host_and_no_less_than_something_can_be_promised() {
        let read = |value: f64| share(F64Deserializer::<Error>::new(value)).ok();
        assert_eq!([5.0, 0.0, -1.0, f64::NAN].map(read), [None; 4]);
        assert_eq!([0.1, 1.0].map(read), [Some(0.1), Some(1.0)]);
    }
}
