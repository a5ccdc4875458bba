//! Where the programs of a farm are: all on loopback, or each on a host of its own that can be cut from others. The API is always
//! here, beside the operator, the publishers and the players.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use millrace_hosts::{Network, OUTSIDE};
use millrace_testkit::EtcdHost;

use super::ManyFarm;
use crate::FarmCerts;

/// What a program listens on, with the usual ports.
pub(super) fn listeners(kind: &str) -> &'static [(&'static str, u16)] {
    match kind {
        "router" => &[("rtmp", 1935), ("admin", 9101)],
        "node" => &[("link", 7001), ("admin", 9102)],
        "origin" => &[("playback", 8080), ("intake", 7002), ("admin", 9103)],
        _ => &[("api", 8090), ("admin", 9104)],
    }
}

/// A host for each program but the API and for each member of etcd, or `None`, said aloud, where this machine does not allow it.
pub(super) fn network(programs: &[String], members: &[String]) -> Option<Network> {
    let programs = programs.iter().filter(|name| !is_api(name));
    let names: Vec<String> = programs.chain(members).cloned().collect();
    Network::start(&names)
        .inspect_err(|error| println!("cut networks are not enforceable here: {error:#}"))
        .ok()
}

/// Where the members of etcd run.
pub(super) fn etcd_hosts(
    members: &[String],
    network: Option<&Network>,
) -> anyhow::Result<Vec<EtcdHost>> {
    let host = |member: &String| match network {
        None => Ok(EtcdHost::here()),
        Some(network) => {
            Ok(EtcdHost { address: network.address(member)?.into(), enter: network.enter(member)? })
        }
    };
    members.iter().map(host).collect()
}

/// An authority, and a certificate for each program, one for all members of etcd, and one for an operator.
pub(super) fn certificates(
    dir: &Path,
    programs: &[String],
    members: &[String],
    network: Option<&Network>,
) -> anyhow::Result<FarmCerts> {
    let certs = FarmCerts::new(&dir.join("certs"))?;
    for name in programs {
        certs.issue_at(&identity(name), &[ip(network, name)?])?;
    }
    let members = members.iter().map(|member| ip(network, member));
    certs.issue_at("etcd/etcd-1", &members.collect::<anyhow::Result<Vec<_>>>()?)?;
    certs.issue("operator/ann", false)?;
    Ok(certs)
}

/// `node/node-1` of `node-1`.
fn identity(name: &str) -> String {
    let kind = name.rsplit_once('-').map_or(name, |(kind, _)| kind);
    format!("{kind}/{name}")
}

fn is_api(name: &str) -> bool {
    name.starts_with("api-")
}

fn ip(network: Option<&Network>, name: &str) -> anyhow::Result<IpAddr> {
    match network {
        Some(network) if !is_api(name) => Ok(network.address(name)?.into()),
        _ => Ok(Ipv4Addr::LOCALHOST.into()),
    }
}

impl ManyFarm {
    /// The network in which each program but the API has a host of its own, called as the program; members of etcd are
    /// `etcd-1` and so on. `None`: all are on loopback, and none can be cut off.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Cuts a program off from others, or heals all of that: what it sends is lost, or what is sent to it, or both.
    ///
    /// # Errors
    /// When there is no network, or no such host.
    pub fn cut(&self, name: &str, others: &[&str], cut: Cut) -> anyhow::Result<()> {
        let network = self.network.as_ref().ok_or_else(|| anyhow::anyhow!("all on loopback"))?;
        for other in others {
            for (from, to, lost) in [(name, *other, cut.sent()), (*other, name, cut.received())] {
                match lost {
                    _ if from == OUTSIDE => {}
                    true => network.cut(from, to)?,
                    false => network.heal(from, to)?,
                }
            }
        }
        Ok(())
    }

    /// Where a program is to listen: on its own host on the usual port, here on a free one.
    pub(super) fn listens_at(&self, name: &str, port: u16) -> anyhow::Result<SocketAddr> {
        let ip = ip(self.network.as_ref(), name)?;
        Ok(SocketAddr::new(ip, if ip.is_loopback() { 0 } else { port }))
    }

    /// The command that runs `program` where `name` is.
    pub(super) fn command_on(&self, name: &str, program: &Path) -> anyhow::Result<Command> {
        let enter = match &self.network {
            Some(network) if !is_api(name) => network.enter(name)?,
            _ => Vec::new(),
        };
        let Some((first, rest)) = enter.split_first() else { return Ok(Command::new(program)) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        Ok(command)
    }

    /// In which zone a node is, as a line of its settings.
    pub(super) fn labels(&self, name: &str) -> String {
        let number = name.rsplit_once('-').and_then(|(_, number)| number.parse::<u8>().ok());
        let zones = self.options.zones;
        let zone = number.and_then(|number| (number - 1).checked_rem(zones));
        zone.map(|zone| format!("labels = {{ zone = '{}' }}\n", char::from(b'a' + zone)))
            .unwrap_or_default()
    }
}

/// What of a program's connections is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All.
    Both,
    /// What it sends.
    Sent,
    /// What is sent to it.
    Received,
    /// Nothing.
    Healed,
}

impl Cut {
    const fn sent(self) -> bool {
        matches!(self, Self::Both | Self::Sent)
    }

    const fn received(self) -> bool {
        matches!(self, Self::Both | Self::Received)
    }
}
