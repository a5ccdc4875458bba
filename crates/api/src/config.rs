//! What an operator can set, with its defaults. Strict: an unknown key is an error. Reading the file is the program's business.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_tls::{FarmTlsConfig, TlsConfig};
use millrace_types::NodeId;
use serde::{Deserialize, Serialize};

use crate::{Token, TokenFile};

/// Settings of the API; every key is optional.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This API's name, under which its decisions are kept.
    pub name: NodeId,
    /// Where `/v1/…` and the console are. Port 0 takes a free one.
    pub listen_api: SocketAddr,
    /// With it, other hosts reach `listen_api` by HTTPS only; this host also without. Read again on SIGHUP.
    pub tls: Option<TlsConfig>,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub listen_admin: SocketAddr,
    /// By what the farm knows this API, `api/NAME`. Without it the farm's own connections are not encrypted.
    pub farm_tls: Option<FarmTlsConfig>,
    /// Bearer token for changes that come from other hosts; without it only this host may change anything.
    pub token: Option<Token>,
    /// File of hashed tokens, each with a role, made by `millrace tokens add`; for more than one token.
    pub tokens: Option<TokenFile>,
    /// Whether other hosts need a token to read as well.
    pub read_needs_token: bool,
    /// Whether who connects from this host needs no token. Not set: none is needed as long as there is neither `token` nor `tokens`.
    /// `false` behind a proxy on this host, by which strangers come from here too.
    pub trust_this_host: Option<bool>,
    /// For how long the old keys go on after a rotation that does not say, in seconds; 0: they end at once.
    pub rotation_overlap_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let name = "api-1".parse().expect("invariant: the default name is a name");
        Self {
            name,
            listen_api: here(8090),
            tls: None,
            listen_admin: here(9104),
            farm_tls: None,
            token: None,
            tokens: None,
            read_needs_token: false,
            trust_this_host: None,
            rotation_overlap_s: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_and_a_token_is_not_shown() {
        let error = toml::from_str::<Config>("listen = '0.0.0.0:1'").unwrap_err();
        assert!(error.to_string().contains("listen"));
        let config: Config = toml::from_str("token = 'correct-horse-battery'").unwrap();
        assert!(!format!("{config:?}").contains("horse"));
        assert!(!serde_json::to_string(&config).unwrap().contains("horse"));
        let error = toml::from_str::<Config>("token = 'short'").unwrap_err();
        assert!(error.to_string().contains("16 characters"), "{error}");
    }
}
