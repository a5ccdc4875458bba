//! What an operator can set: `/etc/millrace/router.toml`, every key optional.

use std::net::{IpAddr, SocketAddr};

use millrace_sched::{HotConfig, LadderConfig};
use millrace_tls::{FarmTlsConfig, TlsConfig};
use millrace_types::{NewestVersion, NodeId};
use serde::{Deserialize, Serialize};

use crate::ingest::Network;

/// The router's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This router's name in the farm.
    pub name: NodeId,
    /// The address at which others reach this host, for listeners on all interfaces.
    pub advertise: Option<IpAddr>,
    /// Where publishers connect (RTMP).
    pub listen_rtmp: SocketAddr,
    /// Where publishers connect with TLS (RTMPS); used when `tls` is set.
    pub listen_rtmps: SocketAddr,
    /// Certificate and key of the RTMPS listener.
    pub tls: Option<TlsConfig>,
    /// By what the farm knows this router, `router/NAME`. Without it the farm's own connections are not encrypted.
    pub farm_tls: Option<FarmTlsConfig>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/v1/...` are served.
    pub listen_admin: SocketAddr,
    /// The rungs below `source` that streams are encoded into.
    pub ladder: LadderConfig,
    /// When streams get a second encoder by themselves.
    pub hot: HotConfig,
    /// Sustained bitrate a publisher may send, kilobits per second.
    pub max_bitrate_kbps: u64,
    /// Connections from one address; encoders behind one NAT share it.
    pub max_connections_per_address: usize,
    /// Load balancers, by their networks (`["192.0.2.5/32"]`), which must send a PROXY protocol version 2 header: it says where an encoder is.
    pub proxies: Vec<Network>,
    /// Connections in all, and at most an eighth of the process's open files.
    pub max_connections: usize,
    /// The newest version of the farm's protocol that it speaks: an older one keeps the way back to the build before open.
    pub newest_version: NewestVersion,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "router-1".parse().expect("invariant: the default name is a name"),
            advertise: None,
            listen_rtmp: ([0, 0, 0, 0], 1935).into(),
            listen_rtmps: ([0, 0, 0, 0], 1936).into(),
            tls: None,
            farm_tls: None,
            listen_admin: ([127, 0, 0, 1], 9101).into(),
            ladder: LadderConfig::default(),
            hot: HotConfig::default(),
            max_bitrate_kbps: 50_000,
            max_connections_per_address: 100,
            proxies: Vec::new(),
            max_connections: 10_000,
            newest_version: NewestVersion::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_is_named_by_its_network_and_a_slip_is_told() {
        let read = toml::from_str::<Config>;
        let config = read("proxies = ['192.0.2.5/32', '2001:db8::/64']").unwrap();
        assert!(config.proxies[0].contains("192.0.2.5".parse().unwrap()));
        let shown = serde_json::to_value(&config).unwrap();
        assert_eq!(shown["proxies"][1], "2001:db8::/64");
        let error = read("proxies = ['192.0.2.5']").unwrap_err().to_string();
        assert!(error.contains("of the form address/bits"), "{error}");
    }
}
