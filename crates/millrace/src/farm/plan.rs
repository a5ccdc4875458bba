//! What a small farm on one machine consists of: each program's name, addresses, settings and command line. Starts nothing.
//!
//! Every program has an address of its own, in `127.0.0.0/8` or on a host of its own, so that all have the usual ports.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use millrace_hosts::{Network, NetworkError};

/// Members of the etcd cluster: it goes on without any one of them.
pub const ETCD_MEMBERS: u8 = 3;

/// How many of each program.
#[derive(Clone, Copy, Debug)]
pub struct FarmSize {
    /// Routers.
    pub routers: u8,
    /// Nodes.
    pub nodes: u8,
    /// Origins.
    pub origins: u8,
}

/// Where each program is, and whether they know each other by certificates, as hosts of their own must.
#[derive(Clone, Debug)]
pub struct Ground {
    addresses: BTreeMap<String, Ipv4Addr>,
    certificates: bool,
}

impl Ground {
    /// All on this host, at `127.N.y.z`.
    pub fn loopback(size: FarmSize, subnet: u8) -> Self {
        let groups = size.groups().into_iter();
        let addresses = groups.flat_map(|(kind, net, count)| {
            let at = move |number| Ipv4Addr::new(127, subnet, net, number);
            (1..=count).map(move |number| (format!("{kind}-{number}"), at(number)))
        });
        Self { addresses: addresses.collect(), certificates: false }
    }

    /// Each on the host that is called as it.
    ///
    /// # Errors
    /// When a host is missing.
    pub fn network(size: FarmSize, network: &Network) -> Result<Self, NetworkError> {
        let at = |name: String| Ok((name.clone(), network.address(&name)?));
        let addresses = size.names().into_iter().map(at).collect::<Result<_, NetworkError>>()?;
        Ok(Self { addresses, certificates: true })
    }

    fn address(&self, name: &str, port: u16) -> SocketAddr {
        let ip = self.addresses.get(name).expect("invariant: every program has an address");
        (*ip, port).into()
    }

    fn etcd(&self, port: u16) -> impl Iterator<Item = (String, SocketAddr)> {
        let names = (1..=ETCD_MEMBERS).map(|number| format!("etcd-{number}"));
        names.map(move |name| (name.clone(), self.address(&name, port)))
    }
}

impl FarmSize {
    /// Kinds of programs in the order in which they are started, the third number of their loopback addresses, and how many.
    const fn groups(self) -> [(&'static str, u8, u8); 5] {
        [
            ("etcd", 1, ETCD_MEMBERS),
            ("origin", 4, self.origins),
            ("node", 3, self.nodes),
            ("router", 2, self.routers),
            ("api", 5, 1),
        ]
    }

    /// What all programs are called, in that order.
    pub fn names(self) -> Vec<String> {
        let named = |(kind, _, count)| (1..=count).map(move |n| format!("{kind}-{n}"));
        self.groups().into_iter().flat_map(named).collect()
    }
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
pub fn plan(size: FarmSize, ground: &Ground, dir: &Path) -> Vec<Planned> {
    let planned = |name: String| match name.split('-').next() {
        Some("origin") => ours(name, "millrace-origin", &ORIGIN, ground, dir),
        Some("node") => ours(name, "millrace-node", &NODE, ground, dir),
        Some("router") => ours(name, "millrace-router", &ROUTER, ground, dir),
        Some("api") => ours(name, "millrace-api", &API, ground, dir),
        _ => etcd(name, ground, dir),
    };
    size.names().into_iter().map(planned).collect()
}

/// Where certificates are, in the farm's folder.
pub fn certificates(dir: &Path) -> PathBuf {
    dir.join("certs")
}

/// The API's file of hashed tokens.
pub fn tokens(dir: &Path) -> PathBuf {
    dir.join("tokens")
}

/// A listener's name and its usual port.
type Port = (&'static str, u16);

const ORIGIN: [Port; 3] = [("playback", 8080), ("intake", 7002), ("admin", 9103)];
const NODE: [Port; 2] = [("link", 7001), ("admin", 9102)];
const ROUTER: [Port; 2] = [("rtmp", 1935), ("admin", 9101)];
/// Of etcd.
const CLIENT: u16 = 2379;
const PEER: u16 = 2380;
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
    ports: &[Port],
    ground: &Ground,
    dir: &Path,
) -> Planned {
    let listener = |(listener, port): &Port| (*listener, ground.address(&name, *port));
    let listeners: Vec<_> = ports.iter().map(listener).collect();
    let mut settings = format!("name = {name:?}\n");
    if program == "millrace-node" {
        let _ = writeln!(settings, "run_dir = {:?}", dir.join(&name));
    }
    if ground.certificates {
        let kind = name.split('-').next().unwrap_or_default();
        let file = |name: String| certificates(dir).join(name);
        let (ca, stem) = (file("ca.pem".to_owned()), format!("{kind}-{name}"));
        let [certificate, key] = ["pem", "key"].map(|ending| file(format!("{stem}.{ending}")));
        let _ = writeln!(
            settings,
            "farm_tls = {{ ca = {ca:?}, certificate = {certificate:?}, key = {key:?} }}"
        );
        if program == "millrace-api" {
            let _ = writeln!(settings, "tokens = {:?}", tokens(dir));
        }
    }
    let endpoints: Vec<String> =
        ground.etcd(CLIENT).map(|(_, at)| format!("http://{at}")).collect();
    let _ = writeln!(settings, "[registry]\nendpoints = {endpoints:?}");
    let path = |ending: &str| dir.join(format!("{name}.{ending}")).display().to_string();
    let mut arguments = vec!["--config".to_owned(), path("toml")];
    arguments.extend(["--ready-json".to_owned(), path("ready.json")]);
    for (listener, address) in &listeners {
        arguments.extend([format!("--listen-{listener}"), address.to_string()]);
    }
    Planned { name, program, listeners, settings, arguments }
}

fn etcd(name: String, ground: &Ground, dir: &Path) -> Planned {
    let (clients, peers) = (ground.address(&name, CLIENT), ground.address(&name, PEER));
    let members = ground.etcd(PEER).map(|(name, peer)| format!("{name}=http://{peer}"));
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

    const SIZE: FarmSize = FarmSize { routers: 2, nodes: 3, origins: 2 };

    /// Whether the settings of all programs are such as they take.
    fn check(plan: &[Planned]) {
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
    }

    #[test]
    fn every_program_has_addresses_of_its_own_and_settings_that_it_takes() {
        let plan = plan(SIZE, &Ground::loopback(SIZE, 9), Path::new("/tmp/farm"));
        assert_eq!(plan.len(), 3 + 2 + 3 + 2 + 1);
        let all: Vec<_> =
            plan.iter().flat_map(|it| it.listeners.iter().map(|(_, at)| at)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|at| at.ip().is_loopback()));
        check(&plan);
        let members = &plan[0].arguments[13];
        assert_eq!(members.matches("http://127.9.1.").count(), 3, "{members}");
    }

    #[test]
    fn on_hosts_of_their_own_programs_have_certificates_and_the_api_has_tokens() {
        let at = |(number, name)| (name, Ipv4Addr::new(10, 128, 5, number));
        let addresses = (1..).zip(SIZE.names()).map(at).collect();
        let ground = Ground { addresses, certificates: true };
        let plan = plan(SIZE, &ground, Path::new("/tmp/farm"));
        check(&plan);
        let of = |name: &str| plan.iter().find(|it| it.name == name).unwrap().settings.clone();
        assert!(of("node-2").contains("\"/tmp/farm/certs/node-node-2.key\""), "{}", of("node-2"));
        assert!(of("api-1").contains("tokens") && !of("node-2").contains("tokens"));
    }
}
