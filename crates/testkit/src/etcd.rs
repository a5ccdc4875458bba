//! Real etcd clusters on free ports of loopback, or on hosts of a network of their own, which can be killed, paused, wiped and set
//! back. They die with the test.

use std::{
    fs::File,
    hash::{BuildHasher as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Scratch;

/// Below the ports that the kernel gives to outgoing connections: a member that is down for a while finds its own free.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Of each log, shown by a test that fails.
const LAST_LINES: usize = 12;

/// Which etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdVersion {
    /// 3.7, as cargo brings it.
    V3_7,
    /// 3.4 or what else `etcd-server` of the system is.
    System,
}

impl EtcdVersion {
    fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::V3_7 => {
                let path = etcd_bin_vendored::etcd_bin_path();
                Ok(path.map_err(|error| anyhow::anyhow!("{error}"))?.to_owned())
            }
            Self::System => {
                let path = PathBuf::from("/usr/bin/etcd");
                ensure!(path.exists(), "{path:?} is missing: apt install etcd-server");
                Ok(path)
            }
        }
    }
}

/// Files for TLS on the client's port: every client then shows a certificate of this authority.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// Of the authority, PEM.
    pub ca: PathBuf,
    /// Of the server, for every member's address, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Where a member runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdHost {
    /// The address on which it listens.
    pub address: IpAddr,
    /// The command line before that of the member, such as one that enters a host.
    pub enter: Vec<String>,
}

impl EtcdHost {
    /// This machine, by its loopback address.
    pub const fn here() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), enter: Vec::new() }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    hosts: Vec<EtcdHost>,
    tls: Option<EtcdTls>,
    scratch: Scratch,
    ports: Vec<(u16, u16)>,
    members: Vec<Option<Child>>,
}

impl Etcd {
    /// Starts a cluster of so many members; they may need a second until they answer.
    ///
    /// # Errors
    ///
    /// When the program is missing or cannot be started.
    pub fn start(version: EtcdVersion, members: usize) -> anyhow::Result<Self> {
        Self::start_with(version, vec![EtcdHost::here(); members], None)
    }

    /// The same, with a member on each of the hosts, and with TLS or without.
    ///
    /// # Errors
    ///
    /// As of [`Etcd::start`].
    pub fn start_with(
        version: EtcdVersion,
        hosts: Vec<EtcdHost>,
        tls: Option<EtcdTls>,
    ) -> anyhow::Result<Self> {
        let members = hosts.len();
        let ports = lasting_ports(2 * members)?;
        let mut etcd = Self {
            program: version.program()?,
            hosts,
            tls,
            scratch: Scratch::new("etcd")?,
            ports: ports.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
            members: (0..members).map(|_| None).collect(),
        };
        for member in 0..members {
            etcd.start_member(member)?;
        }
        Ok(etcd)
    }

    /// Where clients connect, one per member.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let places = self.ports.iter().zip(&self.hosts);
        places.map(|((client, _), host)| format!("{scheme}://{}:{client}", host.address)).collect()
    }

    /// Starts a member that is down, on its old ports with what it has stored.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_member(&mut self, member: usize) -> anyhow::Result<()> {
        let client = &self.endpoints()[member];
        let peer_url = |n: usize| format!("http://{}:{}", self.hosts[n].address, self.ports[n].1);
        let peer = peer_url(member);
        let all: Vec<_> = (0..self.ports.len()).map(|n| format!("m{n}={}", peer_url(n))).collect();
        let log = self.scratch.path().join(format!("m{member}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        // The kernel ends it should this process be killed before it can.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&self.hosts[member].enter);
        command.arg(&self.program).args([
            "--name",
            &format!("m{member}"),
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &all.join(","),
        ]);
        command.arg("--data-dir").arg(self.data_dir(member));
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.members[member] = Some(command.spawn().context("setpriv, of util-linux")?);
        Ok(())
    }

    /// Kills a member, as a crash would.
    pub fn kill_member(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a member without closing anything (SIGSTOP), or lets it go on.
    ///
    /// # Errors
    ///
    /// When the member is down.
    pub fn pause_member(&self, member: usize, pause: bool) -> anyhow::Result<()> {
        let child = self.members[member].as_ref().context("the member is down")?;
        let signal = if pause { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Forgets all that a member that is down has stored.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn wipe_member(&self, member: usize) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.data_dir(member))?)
    }

    /// Copies what a member that is down has stored to a folder of that name, or back.
    ///
    /// # Errors
    ///
    /// When it cannot be copied.
    pub fn copy_data(&self, member: usize, name: &str, back: bool) -> anyhow::Result<()> {
        let (data, copy) = (self.data_dir(member), self.scratch.path().join(name));
        let (from, to) = if back { (&copy, &data) } else { (&data, &copy) };
        if to.exists() {
            std::fs::remove_dir_all(to)?;
        }
        let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
        ensure!(status.success(), "{} not copied: {status}", from.display());
        Ok(())
    }

    /// Where members log, `m0.log` and so on.
    pub fn log_dir(&self) -> &Path {
        self.scratch.path()
    }

    fn data_dir(&self, member: usize) -> PathBuf {
        self.scratch.path().join(format!("m{member}"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill_member(member);
            let log = std::fs::read_to_string(self.scratch.path().join(format!("m{member}.log")));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.len().saturating_sub(LAST_LINES);
            eprintln!("etcd member {member}:\n{}", lines[last..].join("\n"));
        }
    }
}

/// Ports that nobody listens on, each another, and that no outgoing connection takes meanwhile.
fn lasting_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let all = u64::from(PORTS.end - PORTS.start);
    let ports =
        (0..all).map(|n| PORTS.start + u16::try_from(seed.wrapping_add(n) % all).unwrap_or(0));
    // Held until all are found, so that none is found twice.
    let free = ports.filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)));
    let found: Vec<_> = free.take(count).collect();
    ensure!(found.len() == count, "no {count} free ports");
    Ok(found.into_iter().map(|(port, _)| port).collect())
}
