//! Where the programs of a small farm are: on hosts of their own where this machine allows it, else on this host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use millrace_api::TokenFile;
use millrace_hosts::{Network, OUTSIDE};
use millrace_telemetry::{write_line, write_whole};
use millrace_tls::{Identity, Role};
use nix::unistd::geteuid;

use super::plan;
use crate::{
    arguments::{Addresses, FarmUpArguments},
    certs,
    prerequisite::Prerequisite,
};

/// Where they are.
#[derive(Debug)]
pub enum Place {
    /// At addresses of 127.0.0.0/8, and why.
    Loopback(String),
    /// Each on the host that is called as it.
    Network(Network),
}

impl Place {
    /// Makes hosts of these names, where that is wanted and can be done. Else says why not, and does without, unless nothing else
    /// was wanted.
    ///
    /// # Errors
    /// [`Prerequisite`] then.
    pub fn find(arguments: &FarmUpArguments, names: &[String]) -> Result<Self, Prerequisite> {
        let why = match (arguments.place(), arguments.subnet) {
            (Some(Addresses::Loopback), None) => "as --addresses says".to_owned(),
            (Some(Addresses::Loopback), Some(_)) => "as --subnet says".to_owned(),
            (Some(Addresses::Namespaces), Some(_)) => {
                let why =
                    "--subnet is of addresses of 127.0.0.0/8: leave it out, a free one is found";
                return Err(Prerequisite(why.to_owned()));
            }
            (wanted, _) => {
                let why = match geteuid().is_root() {
                    true => match Network::start(names) {
                        Ok(network) => return Ok(Self::Network(network)),
                        Err(error) => error.to_string(),
                    },
                    false => "only root can make network namespaces".to_owned(),
                };
                if wanted.is_some() {
                    return Err(Prerequisite(format!("--addresses namespaces: {why}")));
                }
                crate::output::note(format_args!(
                    "millrace: partition drills are off, all programs are at addresses of 127.0.0.0/8: {why}"
                ));
                why
            }
        };
        Ok(Self::Loopback(why))
    }

    /// The hosts, where there are such.
    pub const fn network(&self) -> Option<&Network> {
        match self {
            Self::Network(network) => Some(network),
            Self::Loopback(_) => None,
        }
    }
}

/// Writes what programs on hosts of their own need in the farm's folder: certificates, by which they know each other, one for whoever
/// reads metrics, a token for the API; and the network itself, for [`read`].
///
/// # Errors
/// Those of the disk.
pub fn equip(network: &Network, names: &[String], dir: &Path) -> anyhow::Result<()> {
    let programs = names.iter().filter_map(|name| {
        let role = name.split('-').next()?.parse().ok().filter(|role| *role != Role::Etcd)?;
        Some((name, role))
    });
    let mut identities = Vec::new();
    for (name, role) in programs {
        identities.push((Identity { role, name: name.parse()? }, network.address(name)?.into()));
    }
    let monitor = Identity { role: Role::Monitor, name: MONITOR.parse()? };
    identities.push((monitor, network.address(OUTSIDE)?.into()));
    certs::of_farm(&plan::certificates(dir), identities)?;
    let (line, secret) = TokenFile::new_token(millrace_api::Role::Write, "farm");
    write_line(&plan::tokens(dir), &line)?;
    write_line(&token(dir), &secret)?;
    Ok(write_whole(&dir.join(NETWORK), network)?)
}

/// Who reads metrics.
const MONITOR: &str = "you";
const NETWORK: &str = "network.json";

/// The file with the token that the API takes.
pub fn token(dir: &Path) -> PathBuf {
    dir.join("token")
}

/// What curl and the like show to read metrics: authority, certificate and key.
pub fn monitor(dir: &Path) -> [PathBuf; 3] {
    let files =
        ["ca.pem".to_owned(), format!("monitor-{MONITOR}.pem"), format!("monitor-{MONITOR}.key")];
    files.map(|file| plan::certificates(dir).join(file))
}

/// The network of the farm with that folder.
///
/// # Errors
/// It has none.
pub fn read(dir: &Path) -> anyhow::Result<Network> {
    let text = fs::read_to_string(dir.join(NETWORK)).map_err(|_| {
        let what_to_do = "start it as root, and see what it says of partition drills";
        Prerequisite(format!("the farm in {} has no network to cut: {what_to_do}", dir.display()))
    })?;
    serde_json::from_str(&text).with_context(|| dir.display().to_string())
}
