//! What a small farm on one machine consists of: each program's name, addresses, settings and command line. Starts nothing.
//!
//! Every program has an address of its own in `127.0.0.0/8`, so that all have the usual ports and look like hosts of their own.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Members of the etcd cluster: it goes on without any one of them.
pub const ETCD_MEMBERS: u8 = 3;

/// How many of each program, and where.
#[derive(Clone, Debug)]
pub struct FarmSize {
    /// Second number of every address: `127.N.y.z`.
    pub subnet: u8,
    /// Routers.
    pub routers: u8,
    /// Nodes.
    pub nodes: u8,
    /// Origins.
    pub origins: u8,
}

/// One program of the farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Such as `node-2`.
    pub name: String,
    /// The executable.
    pub program: &'static str,
    /// All that it listens on.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// Its settings file; empty for etcd, which has none.
    pub settings: String,
    /// Its command line behind the executable.
    pub arguments: Vec<String>,
}

/// The whole farm, in the order in which it is started.
pub fn plan(size: &FarmSize, dir: &Path) -> Vec<Planned> {
    let etcd = (1..=ETCD_MEMBERS).map(|number| etcd(size.subnet, number, dir));
    let mut programs: Vec<Planned> = etcd.collect();
    let groups: [(_, _, _, _, &[Port]); 4] = [
        ("origin", "millrace-origin", 4, size.origins, &ORIGIN),
        ("node", "millrace-node", 3, size.nodes, &NODE),
        ("router", "millrace-router", 2, size.routers, &ROUTER),
        ("api", "millrace-api", 5, 1, &API),
    ];
    for (kind, program, net, count, ports) in groups {
        for number in 1..=count {
            let ip = Ipv4Addr::new(127, size.subnet, net, number);
            let listeners =
                ports.iter().map(|(name, port)| (*name, SocketAddr::from((ip, *port)))).collect();
            let name = format!("{kind}-{number}");
            programs.push(ours(name, program, listeners, size.subnet, dir));
        }
    }
    programs
}

/// A listener's name and its usual port.
type Port = (&'static str, u16);

const ORIGIN: [Port; 3] = [("playback", 8080), ("intake", 7002), ("admin", 9103)];
const NODE: [Port; 2] = [("link", 7001), ("admin", 9102)];
const ROUTER: [Port; 2] = [("rtmp", 1935), ("admin", 9101)];
const API: [Port; 2] = [("api", 8090), ("admin", 9104)];

impl Planned {
    /// Where it listens for that.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(name, _)| *name == listener).map(|(_, address)| *address)
    }

    /// A file of its own.
    pub fn file(&self, dir: &Path, ending: &str) -> PathBuf {
        dir.join(format!("{}.{ending}", self.name))
    }
}

fn ours(
    name: String,
    program: &'static str,
    listeners: Vec<(&'static str, SocketAddr)>,
    subnet: u8,
    dir: &Path,
) -> Planned {
    let endpoints: Vec<String> =
        (1..=ETCD_MEMBERS).map(|number| format!("http://{}", client(subnet, number))).collect();
    let mut settings = format!("name = {name:?}\n");
    if program == "millrace-node" {
        let _ = writeln!(settings, "run_dir = {:?}", dir.join(&name));
    }
    let _ = writeln!(settings, "[registry]\nendpoints = {endpoints:?}");
    let path = |ending: &str| dir.join(format!("{name}.{ending}")).display().to_string();
    let mut arguments = vec!["--config".to_owned(), path("toml")];
    arguments.extend(["--ready-json".to_owned(), path("ready.json")]);
    for (listener, address) in &listeners {
        arguments.extend([format!("--listen-{listener}"), address.to_string()]);
    }
    Planned { name, program, listeners, settings, arguments }
}

fn client(subnet: u8, number: u8) -> SocketAddr {
    (Ipv4Addr::new(127, subnet, 1, number), 2379).into()
}

fn etcd(subnet: u8, number: u8, dir: &Path) -> Planned {
    let peer = |number| SocketAddr::from((Ipv4Addr::new(127, subnet, 1, number), 2380));
    let (clients, peers) = (client(subnet, number), peer(number));
    let members = (1..=ETCD_MEMBERS).map(|number| format!("etcd-{number}=http://{}", peer(number)));
    let name = format!("etcd-{number}");
    let data = dir.join(&name).display().to_string();
    let given = [
        ("--name", name.clone()),
        ("--data-dir", data),
        ("--listen-client-urls", format!("http://{clients}")),
        ("--advertise-client-urls", format!("http://{clients}")),
        ("--listen-peer-urls", format!("http://{peers}")),
        ("--initial-advertise-peer-urls", format!("http://{peers}")),
        ("--initial-cluster", members.collect::<Vec<_>>().join(",")),
        ("--initial-cluster-state", "new".to_owned()),
    ];
    let arguments = given.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let listeners = vec![("client", clients), ("peer", peers)];
    Planned { name, program: "etcd", listeners, settings: String::new(), arguments }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_program_has_addresses_of_its_own_and_settings_that_it_takes() {
        let size = FarmSize { subnet: 9, routers: 2, nodes: 3, origins: 2 };
        let plan = plan(&size, Path::new("/tmp/farm"));
        assert_eq!(plan.len(), 3 + 2 + 3 + 2 + 1);
        let all: Vec<_> =
            plan.iter().flat_map(|it| it.listeners.iter().map(|(_, at)| at)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|at| at.ip().is_loopback()));
        for it in plan.iter().filter(|it| it.program != "etcd") {
            let mut file: toml::Table = toml::from_str(&it.settings).unwrap();
            let registry = file.remove("registry").unwrap();
            registry.try_into::<millrace_registry::RegistryConfig>().unwrap().check().unwrap();
            match it.program {
                "millrace-router" => drop(file.try_into::<millrace_router::Config>().unwrap()),
                "millrace-node" => drop(file.try_into::<millrace_node::Config>().unwrap()),
                "millrace-origin" => drop(file.try_into::<millrace_origin::Config>().unwrap()),
                _ => drop(file.try_into::<millrace_api::Config>().unwrap()),
            }
        }
        let members = &plan[0].arguments[13];
        assert_eq!(members.matches("http://127.9.1.").count(), 3, "{members}");
    }
}
