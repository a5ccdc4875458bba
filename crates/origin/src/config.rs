//! What an operator can set, with its defaults. Strict: an unknown key is an error. Reading the file is the program's business.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_tls::{FarmTlsConfig, TlsConfig};
use millrace_types::{NewestVersion, NodeId};
use serde::{Deserialize, Serialize};

/// Settings of an origin; every key is optional.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This origin's name in the farm.
    pub name: NodeId,
    /// The address at which others reach this host, for listeners on all interfaces.
    pub advertise: Option<IpAddr>,
    /// Where players connect with HTTP/1.1. Port 0 takes a free one.
    pub listen_playback: SocketAddr,
    /// Where players connect with HTTPS, HTTP/1.1 or HTTP/2; used when `tls` is set.
    pub listen_playback_tls: SocketAddr,
    /// Where nodes push records and media. Without `farm_tls` only loopback is accepted.
    pub listen_intake: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub listen_admin: SocketAddr,
    /// Certificate and key of the HTTPS listener.
    pub tls: Option<TlsConfig>,
    /// By what the farm knows this origin, `origin/NAME`. Without it the farm's own connections are not encrypted.
    pub farm_tls: Option<FarmTlsConfig>,
    /// Player connections at a time, and at most half of the process's open files; more are closed at once.
    pub max_connections: usize,
    /// How long an ended stream can still be watched, in seconds.
    pub keep_ended_s: u64,
    /// A stream that no node has touched for so long is ended, in seconds.
    pub idle_end_s: u64,
    /// The farm is told of the viewers of streams that have at least so many: less than half of what makes a stream hot.
    pub tell_viewers_from: u64,
    /// The newest version of the farm's protocol that it speaks: an older one keeps the way back to the build before open.
    pub newest_version: NewestVersion,
}

impl Default for Config {
    fn default() -> Self {
        let everywhere = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            name: "origin-1".parse().expect("invariant: the default name is a name"),
            advertise: None,
            listen_playback: everywhere(8080),
            listen_playback_tls: everywhere(8443),
            listen_intake: here(7002),
            listen_admin: here(9103),
            tls: None,
            farm_tls: None,
            max_connections: 16_384,
            keep_ended_s: 60,
            idle_end_s: 120,
            tell_viewers_from: 100,
            newest_version: NewestVersion::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_an_unknown_key_is_named() {
        let empty: Config = toml::from_str("").unwrap();
        assert_eq!(empty.listen_playback.port(), 8080);
        let error = toml::from_str::<Config>("listen_playbak = '0.0.0.0:1'").unwrap_err();
        assert!(error.to_string().contains("listen_playbak"));
    }
}
