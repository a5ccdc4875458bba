//! Hosts with a network of their own on this machine: a network namespace each, joined by a bridge in a further one. A test can
//! cut one host from another, also one way only, and nobody is told: packets are sent and never come. Needs root.
//!
//! ```text
//! host a ─veth─┐
//! host b ─veth─┤ bridge, in a namespace of its own ├─veth─ this namespace: OUTSIDE
//! ```
//!
//! Namespaces have no names: each lives as long as the process that was made in it, and those die with the thread that made
//! them. So nothing is left behind, also after a panic or a SIGKILL. A cut is a wrong neighbour entry of the sender.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::sched::{CloneFlags, setns};

/// The name of this namespace, where the test itself runs, among the hosts.
pub const OUTSIDE: &str = "outside";
/// The last byte of its address, above those of all hosts.
const OUTSIDE_NUMBER: u8 = 254;
/// Nobody's: what is sent there reaches no one.
const NOBODY: &str = "02:00:00:00:00:00";
/// How long a namespace may take to come into being.
const PATIENCE: Duration = Duration::from_secs(5);

/// A namespace, and the process that keeps it.
#[derive(Debug)]
struct Namespace {
    keeper: Child,
}

impl Namespace {
    fn new() -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut space = Self { keeper: command.spawn().context("setpriv, of util-linux")? };
        let ours = fs::read_link("/proc/self/ns/net")?;
        let deadline = Instant::now() + PATIENCE;
        // Its own by then, and `sleep`: what is told to `unshare` before is lost.
        while fs::read_link(space.path()).is_ok_and(|path| path == ours) || !space.is_asleep() {
            if space.keeper.try_wait()?.is_some() {
                let said = space.keeper.stderr.take().map(std::io::read_to_string);
                bail!("no network namespace: {}", said.transpose()?.unwrap_or_default().trim());
            }
            ensure!(Instant::now() < deadline, "no network namespace within {PATIENCE:?}");
            std::thread::yield_now();
        }
        Ok(space)
    }

    fn is_asleep(&self) -> bool {
        let comm = format!("/proc/{}/comm", self.keeper.id());
        fs::read_to_string(comm).is_ok_and(|name| name.trim() == "sleep")
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }

    fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path())]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[derive(Debug)]
struct Host {
    space: Namespace,
    number: u8,
}

/// The network; gone with all its hosts when dropped.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    hosts: BTreeMap<String, Host>,
    /// First three bytes of every address.
    subnet: [u8; 3],
}

impl Network {
    /// Makes hosts of these names, 250 at most.
    ///
    /// # Errors
    ///
    /// Where namespaces, bridges or the tools for them are not to be had; the text says which.
    pub fn start(names: &[String]) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(names.len() <= 250, "{} hosts are too many for one network", names.len());
        let unique = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) * 7_919);
        let [_, _, high, low] = unique.to_be_bytes();
        let subnet = [10, 128 | high, low];
        let switch = Namespace::new()?;
        let uplink = format!("mr{unique}");
        ip(&switch.enter(), "link add br0 type bridge\nlink set br0 up\n")?;
        let (pid, [a, b, c]) = (switch.keeper.id(), subnet);
        ip(
            &[],
            &format!(
                "link add name {uplink} address {} type veth peer name uplink netns {pid}\n\
                 addr add {a}.{b}.{c}.{OUTSIDE_NUMBER}/24 dev {uplink}\nlink set {uplink} up\n",
                mac(OUTSIDE_NUMBER)
            ),
        )?;
        ip(&switch.enter(), "link set uplink master br0 up\n")?;
        let mut network = Self { switch, hosts: BTreeMap::new(), subnet };
        for (number, name) in (1..).zip(names) {
            network.add(name, number)?;
        }
        Ok(network)
    }

    fn add(&mut self, name: &str, number: u8) -> anyhow::Result<()> {
        let host = Host { space: Namespace::new()?, number };
        let [a, b, c] = self.subnet;
        ip(
            &host.space.enter(),
            &format!(
                "link set lo up\n\
                 link add name eth0 address {} type veth peer name v{number} netns {}\n\
                 addr add {a}.{b}.{c}.{number}/24 dev eth0\nlink set eth0 up\n",
                mac(number),
                self.switch.keeper.id()
            ),
        )?;
        ip(&self.switch.enter(), &format!("link set v{number} master br0 up\n"))?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    fn host(&self, name: &str) -> anyhow::Result<&Host> {
        self.hosts.get(name).with_context(|| format!("no host {name}"))
    }

    fn number(&self, name: &str) -> anyhow::Result<u8> {
        if name == OUTSIDE { Ok(OUTSIDE_NUMBER) } else { Ok(self.host(name)?.number) }
    }

    /// The address of a host, or of [`OUTSIDE`].
    ///
    /// # Errors
    ///
    /// When there is no such host.
    pub fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        let [a, b, c] = self.subnet;
        Ok(Ipv4Addr::new(a, b, c, self.number(name)?))
    }

    /// What stands before a command line that is to run on that host; the process id is then the command's own.
    ///
    /// # Errors
    ///
    /// When there is no such host.
    pub fn enter(&self, name: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.host(name)?.space.enter())
    }

    /// From now on nothing that `from`, a host, sends to `to` arrives; what `to` sends does.
    ///
    /// # Errors
    ///
    /// When there is no such host, or `ip` refuses.
    pub fn cut(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.neighbour(from, to, NOBODY)
    }

    /// Ends a [`Self::cut`].
    ///
    /// # Errors
    ///
    /// As of it.
    pub fn heal(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.neighbour(from, to, &mac(self.number(to)?))
    }

    fn neighbour(&self, from: &str, to: &str, mac: &str) -> anyhow::Result<()> {
        let order =
            format!("neigh replace {} lladdr {mac} nud permanent dev eth0\n", self.address(to)?);
        ip(&self.host(from)?.space.enter(), &order)
    }

    /// Pulls the cable of a host, or plugs it in again.
    ///
    /// # Errors
    ///
    /// When there is no such host, or `ip` refuses.
    pub fn plug(&self, name: &str, plugged: bool) -> anyhow::Result<()> {
        let number = self.host(name)?.number;
        let bridge = if plugged { "master br0" } else { "nomaster" };
        ip(&self.switch.enter(), &format!("link set v{number} {bridge}\n"))
    }

    /// Does something on that host, on a thread of its own. Sockets made there stay there and can be used from anywhere.
    ///
    /// # Errors
    ///
    /// When there is no such host, or it cannot be entered.
    pub fn within<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        let space = File::open(self.host(name)?.space.path())?;
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                setns(space, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            there.join().map_err(|_| anyhow::anyhow!("work on {name} panicked"))?
        })
    }
}

/// The hardware address of a host.
fn mac(number: u8) -> String {
    format!("02:6d:72:00:00:{number:02x}")
}

/// Runs lines of `ip`, in the namespace that `enter` enters.
fn ip(enter: &[String], lines: &str) -> anyhow::Result<()> {
    let words = enter.iter().map(String::as_str).chain(["ip", "-batch", "-"]);
    let words: Vec<&str> = words.collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("ip, of iproute2")?;
    child.stdin.take().context("invariant: stdin is piped")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip does not take {lines:?}: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

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
        let listener = network.within("b", || TcpListener::bind((address, 0))).expect("there");
        let listener = listener.expect("port");
        let target = listener.local_addr().expect("address");
        let near = network.within("a", || TcpStream::connect(target)).expect("there");
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
    fn a_command_runs_on_its_host_and_this_namespace_reaches_it() {
        let Some((network, ..)) = connected() else { return };
        let enter = network.enter("a").expect("host");
        let mut command = Command::new(&enter[0]);
        let output = command.args(&enter[1..]).args(["ip", "-4", "addr"]).output().expect("runs");
        let there = String::from_utf8_lossy(&output.stdout).into_owned();
        let (own, other) = (network.address("a"), network.address("b"));
        assert!(there.contains(&own.expect("host").to_string()), "{there}");
        assert!(!there.contains(&other.expect("host").to_string()), "{there}");
        let listener = network.within("a", || TcpListener::bind(("0.0.0.0", 0))).expect("there");
        let port = listener.as_ref().expect("port").local_addr().expect("address").port();
        TcpStream::connect((network.address("a").expect("host"), port)).expect("reached");
    }
}
