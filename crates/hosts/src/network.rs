//! Hosts with a network of their own on this machine: a network namespace each, joined by a bridge in a further one. One host can
//! be cut from another, also one way only, and nobody is told: packets are sent and never come. Needs root.
//!
//! ```text
//! host a ─veth─┐
//! host b ─veth─┤ bridge, in a namespace of its own ├─veth─ this namespace: OUTSIDE
//! ```
//!
//! Namespaces have no names: each lives as long as the process that was made in it, and those die with the thread that made
//! them. So nothing is left behind, also after a panic or a SIGKILL. A cut is a wrong neighbour entry of the sender. All that the
//! namespace outside gets is one interface with one address: nothing is forwarded, and no name is looked up.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::subnet;

/// The name of this namespace, that of the machine itself, among the hosts.
pub const OUTSIDE: &str = "outside";
/// The last byte of its address, above those of all hosts.
const OUTSIDE_NUMBER: u8 = 254;
/// Hosts of one network.
const MOST: usize = 250;
/// Nobody's: what is sent there reaches no one.
const NOBODY: &str = "02:00:00:00:00:00";
/// How long a namespace may take to come into being.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a network lacks, or does not have.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program of the system is missing.
    #[error("{name}, of {package}: {why}")]
    Tool {
        /// Which.
        name: &'static str,
        /// Where it comes from.
        package: &'static str,
        /// What the system said.
        why: io::Error,
    },
    /// The system makes no namespace.
    #[error("no network namespace: {0}")]
    Namespace(String),
    /// `ip` does not do it.
    #[error("ip does not take {order:?}: {said}")]
    Refused {
        /// Lines of `ip -batch`.
        order: String,
        /// What it said.
        said: String,
    },
    /// Too many names for the addresses.
    #[error("{0} hosts are too many for one network")]
    TooMany(usize),
    /// All private subnets have a route.
    #[error("no private subnet is free on this host")]
    NoSubnet,
    /// A name that no host has.
    #[error("no host {name}; there are {hosts}")]
    NoHost {
        /// The name.
        name: String,
        /// Those that there are.
        hosts: String,
    },
    /// Who made the network has ended.
    #[error("the network is gone")]
    Gone,
    /// The system does not start, show or end a process.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A namespace: that of a process that does nothing else.
#[derive(Debug, Serialize, Deserialize)]
struct Namespace {
    keeper: u32,
    /// As the kernel calls it: another process may get the keeper's number.
    id: String,
}

impl Namespace {
    fn new(keepers: &mut Vec<Child>) -> Result<Self, NetworkError> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Not that of the terminal: Ctrl-C is for whoever made the network.
        let spawned = command.process_group(0).spawn();
        let tool = |why| NetworkError::Tool { name: "setpriv", package: "util-linux", why };
        let mut child = spawned.map_err(tool)?;
        let keeper = child.id();
        let made = await_own(&mut child);
        keepers.push(child);
        Ok(Self { keeper, id: made? })
    }

    fn path(&self) -> String {
        path(self.keeper)
    }

    fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path())]
    }

    fn ip(&self, order: &str) -> Result<(), NetworkError> {
        match id(self.keeper) {
            Ok(id) if id == self.id => ip(&self.enter(), order),
            _ => Err(NetworkError::Gone),
        }
    }
}

fn path(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

fn id(pid: u32) -> io::Result<String> {
    Ok(fs::read_link(path(pid))?.to_string_lossy().into_owned())
}

/// Waits until a new keeper has a namespace of its own; what it is called.
fn await_own(keeper: &mut Child) -> Result<String, NetworkError> {
    let ours = id(std::process::id())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = id(keeper.id()).ok().filter(|found| *found != ours);
        // Asleep: what is told to `unshare` before is lost.
        if let Some(own) = found.filter(|_| is_asleep(keeper.id())) {
            return Ok(own);
        }
        if keeper.try_wait()?.is_some() {
            let said = keeper.stderr.take().map(io::read_to_string).transpose()?;
            return Err(NetworkError::Namespace(said.unwrap_or_default().trim().to_owned()));
        }
        if Instant::now() > deadline {
            return Err(NetworkError::Namespace(format!("not within {PATIENCE:?}")));
        }
        std::thread::yield_now();
    }
}

fn is_asleep(keeper: u32) -> bool {
    fs::read_to_string(format!("/proc/{keeper}/comm")).is_ok_and(|name| name.trim() == "sleep")
}

#[derive(Debug, Serialize, Deserialize)]
struct Host {
    space: Namespace,
    number: u8,
}

/// The network; gone with all its hosts when dropped. Written down and read again, by another process of the same user, it
/// is the same network, which is not gone when that is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    switch: Namespace,
    hosts: BTreeMap<String, Host>,
    /// First three bytes of every address.
    subnet: [u8; 3],
    /// By which the namespace outside reaches the hosts.
    uplink: String,
    #[serde(skip)]
    keepers: Vec<Child>,
}

impl Network {
    /// Makes hosts of these names, 250 at most, with addresses that nobody on this machine uses. It ends with the thread that calls.
    ///
    /// # Errors
    ///
    /// Where namespaces, bridges or the tools for them are not to be had; the text says which.
    pub fn start(names: &[String]) -> Result<Self, NetworkError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if names.len() > MOST {
            return Err(NetworkError::TooMany(names.len()));
        }
        let unique = std::process::id()
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919));
        let routes = tool(Command::new("ip").args(["-4", "-o", "route", "show", "table", "all"]))?;
        let [a, b, c] = subnet::free(unique, &routes).ok_or(NetworkError::NoSubnet)?;
        let mut keepers = Vec::new();
        let switch = Namespace::new(&mut keepers);
        let mut network = match switch {
            Ok(switch) => Self {
                switch,
                hosts: BTreeMap::new(),
                subnet: [a, b, c],
                uplink: format!("mr{a:02x}{b:02x}{c:02x}"),
                keepers,
            },
            Err(error) => {
                end(&mut keepers);
                return Err(error);
            }
        };
        network.switch.ip("link add br0 type bridge\nlink set br0 up\n")?;
        let (uplink, pid) = (&network.uplink, network.switch.keeper);
        ip(
            &[],
            &format!(
                "link add name {uplink} address {} type veth peer name uplink netns {pid}\n\
                 addr add {a}.{b}.{c}.{OUTSIDE_NUMBER}/24 dev {uplink}\nlink set {uplink} up\n",
                mac(OUTSIDE_NUMBER)
            ),
        )?;
        network.switch.ip("link set uplink master br0 up\n")?;
        for (number, name) in (1..).zip(names) {
            network.add(name, number)?;
        }
        Ok(network)
    }

    fn add(&mut self, name: &str, number: u8) -> Result<(), NetworkError> {
        let host = Host { space: Namespace::new(&mut self.keepers)?, number };
        let [a, b, c] = self.subnet;
        host.space.ip(&format!(
            "link set lo up\n\
             link add name eth0 address {} type veth peer name v{number} netns {}\n\
             addr add {a}.{b}.{c}.{number}/24 dev eth0\nlink set eth0 up\n",
            mac(number),
            self.switch.keeper
        ))?;
        self.switch.ip(&format!("link set v{number} master br0 up\n"))?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    fn host(&self, name: &str) -> Result<&Host, NetworkError> {
        self.hosts.get(name).ok_or_else(|| {
            let hosts = self.hosts().collect::<Vec<_>>().join(", ");
            NetworkError::NoHost { name: name.to_owned(), hosts }
        })
    }

    fn number(&self, name: &str) -> Result<u8, NetworkError> {
        if name == OUTSIDE { Ok(OUTSIDE_NUMBER) } else { Ok(self.host(name)?.number) }
    }

    /// What the hosts are called.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// All its addresses, such as `10.128.5.0/24`.
    pub fn subnet(&self) -> String {
        let [a, b, c] = self.subnet;
        format!("{a}.{b}.{c}.0/24")
    }

    /// The interface by which the namespace outside reaches the hosts.
    pub fn uplink(&self) -> &str {
        &self.uplink
    }

    /// The address of a host, or of [`OUTSIDE`].
    ///
    /// # Errors
    ///
    /// When there is no such host.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr, NetworkError> {
        let [a, b, c] = self.subnet;
        Ok(Ipv4Addr::new(a, b, c, self.number(name)?))
    }

    /// What stands before a command line that is to run on that host; the process id is then the command's own.
    ///
    /// # Errors
    ///
    /// When there is no such host.
    pub fn enter(&self, name: &str) -> Result<Vec<String>, NetworkError> {
        Ok(self.host(name)?.space.enter())
    }

    /// From now on nothing that `from`, a host, sends to `to` arrives; what `to` sends does.
    ///
    /// # Errors
    ///
    /// When there is no such host, or `ip` refuses.
    pub fn cut(&self, from: &str, to: &str) -> Result<(), NetworkError> {
        self.host(from)?.space.ip(&self.neighbour(to, NOBODY)?)
    }

    /// Ends a [`Self::cut`].
    ///
    /// # Errors
    ///
    /// As of it.
    pub fn heal(&self, from: &str, to: &str) -> Result<(), NetworkError> {
        self.host(from)?.space.ip(&self.neighbour(to, &mac(self.number(to)?))?)
    }

    fn neighbour(&self, to: &str, mac: &str) -> Result<String, NetworkError> {
        let address = self.address(to)?;
        Ok(format!("neigh replace {address} lladdr {mac} nud permanent dev eth0\n"))
    }

    /// Pulls the cable of a host, or plugs it in again.
    ///
    /// # Errors
    ///
    /// When there is no such host, or `ip` refuses.
    pub fn plug(&self, name: &str, plugged: bool) -> Result<(), NetworkError> {
        let number = self.host(name)?.number;
        let bridge = if plugged { "master br0" } else { "nomaster" };
        self.switch.ip(&format!("link set v{number} {bridge}\n"))
    }

    /// Ends every [`Self::cut`] and plugs in what was pulled. Nothing happens to what was whole.
    ///
    /// # Errors
    ///
    /// When `ip` refuses.
    pub fn heal_all(&self) -> Result<(), NetworkError> {
        for (name, host) in &self.hosts {
            let others = self.hosts().filter(|other| other != name);
            let lines =
                others.chain([OUTSIDE]).map(|to| self.neighbour(to, &mac(self.number(to)?)));
            host.space.ip(&lines.collect::<Result<String, _>>()?)?;
            self.plug(name, true)?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The kernel removes what is in a namespace some time after its last process; who looks now finds nothing of this one.
        if !self.keepers.is_empty() {
            let _ = self.switch.ip("link del uplink\n");
        }
        end(&mut self.keepers);
    }
}

fn end(keepers: &mut Vec<Child>) {
    for mut keeper in keepers.drain(..) {
        let _ = keeper.kill();
        let _ = keeper.wait();
    }
}

/// The hardware address of a host.
fn mac(number: u8) -> String {
    format!("02:6d:72:00:00:{number:02x}")
}

/// Runs lines of `ip`, in the namespace that `enter` enters.
fn ip(enter: &[String], lines: &str) -> Result<(), NetworkError> {
    let words = enter.iter().map(String::as_str).chain(["ip", "-batch", "-"]);
    let words: Vec<&str> = words.collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(no_ip)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    said(child.wait_with_output()?, lines).map(drop)
}

/// What a command of `ip` prints.
fn tool(command: &mut Command) -> Result<String, NetworkError> {
    let order = format!("{command:?}");
    said(command.output().map_err(no_ip)?, &order)
}

fn said(output: std::process::Output, order: &str) -> Result<String, NetworkError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Behind it stands the number of the line.
    let said =
        String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    Err(NetworkError::Refused { order: order.to_owned(), said })
}

fn no_ip(why: io::Error) -> NetworkError {
    NetworkError::Tool { name: "ip", package: "iproute2", why }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use nix::sched::{CloneFlags, setns};

    use super::*;

    /// Does something on that host, on a thread of its own. Sockets made there stay there and can be used from anywhere.
    fn within<T: Send>(network: &Network, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(network.host(name).expect("host").space.path()).expect("open");
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                setns(space, CloneFlags::CLONE_NEWNET).expect("entered");
                work()
            });
            there.join().expect("work")
        })
    }

    /// What a socket gets within a moment.
    fn word(socket: &mut TcpStream) -> io::Result<[u8; 4]> {
        let mut word = [0; 4];
        socket.read_exact(&mut word).map(|()| word)
    }

    /// A network of two hosts, and a connection from the first to the second.
    fn connected() -> Option<(Network, TcpStream, TcpStream)> {
        let network = match Network::start(&["a".to_owned(), "b".to_owned()]) {
            Ok(network) => network,
            Err(error) => {
                println!("not enforceable here: {error:#}");
                return None;
            }
        };
        let address = network.address("b").expect("host");
        let listener = within(&network, "b", || TcpListener::bind((address, 0)));
        let listener = listener.expect("port");
        let target = listener.local_addr().expect("address");
        let near = within(&network, "a", || TcpStream::connect(target));
        let (near, far) = (near.expect("connected"), listener.accept().expect("accepted").0);
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
        }
        Some((network, near, far))
    }

    #[test]
    fn a_cut_holds_one_direction_only_and_what_was_sent_meanwhile_comes_when_it_is_healed() {
        let Some((network, mut near, mut far)) = connected() else { return };
        near.write_all(b"ping").expect("sent");
        assert_eq!(word(&mut far).expect("arrives"), *b"ping");
        network.cut("a", "b").expect("cut");
        near.write_all(b"lost").expect("sent");
        word(&mut far).expect_err("cut");
        far.write_all(b"back").expect("sent");
        assert_eq!(word(&mut near).expect("the other direction stands"), *b"back");
        network.heal("a", "b").expect("healed");
        far.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        assert_eq!(word(&mut far).expect("arrives late"), *b"lost");
    }

    #[test]
    fn a_host_whose_cable_is_pulled_hears_nobody_until_it_is_plugged_in() {
        let Some((network, mut near, mut far)) = connected() else { return };
        network.plug("b", false).expect("pulled");
        for socket in [&mut near, &mut far] {
            socket.write_all(b"ping").expect("sent");
        }
        word(&mut near).expect_err("cut");
        word(&mut far).expect_err("cut");
        network.plug("b", true).expect("plugged in");
        for socket in [&mut near, &mut far] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            assert_eq!(word(socket).expect("arrives late"), *b"ping");
        }
    }

    #[test]
    fn a_network_that_is_read_again_is_the_same_and_is_gone_with_the_first_only() {
        let Some((network, mut near, mut far)) = connected() else { return };
        let text = serde_json::to_string(&network).expect("written");
        let read = || serde_json::from_str::<Network>(&text).expect("read");
        read().cut("a", "b").expect("cut");
        read().plug("b", false).expect("pulled");
        near.write_all(b"lost").expect("sent");
        word(&mut far).expect_err("cut");
        read().heal_all().expect("healed");
        far.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        assert_eq!(word(&mut far).expect("arrives late"), *b"lost");
        let unknown = read().cut("a", "c").expect_err("no such host").to_string();
        assert!(unknown.contains("there are a, b"), "{unknown}");
        let interface = format!("/sys/class/net/{}", network.uplink());
        assert!(fs::exists(&interface).expect("looked"));
        drop(network);
        assert!(matches!(read().cut("a", "b"), Err(NetworkError::Gone)));
        assert!(!fs::exists(&interface).expect("looked"));
    }

    #[test]
    fn a_command_runs_on_its_host_and_this_namespace_reaches_it() {
        let Some((network, ..)) = connected() else { return };
        let enter = network.enter("a").expect("host");
        let mut command = Command::new(&enter[0]);
        let output = command.args(&enter[1..]).args(["ip", "-4", "addr"]).output().expect("runs");
        let there = String::from_utf8_lossy(&output.stdout).into_owned();
        let (own, other) = (network.address("a"), network.address("b"));
        assert!(there.contains(&own.expect("host").to_string()), "{there}");
        assert!(!there.contains(&other.expect("host").to_string()), "{there}");
        let listener = within(&network, "a", || TcpListener::bind(("0.0.0.0", 0)));
        let port = listener.as_ref().expect("port").local_addr().expect("address").port();
        TcpStream::connect((network.address("a").expect("host"), port)).expect("reached");
    }
}
