//! How fast the network is that media leaves this host by, as far as the kernel says: the speed of the interface that leads to
//! the origins, or of the fastest one where no origin is known yet. Asks the kernel for routes; sends nothing.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use nix::ifaddrs::getifaddrs;

/// Where the kernel keeps what it knows of interfaces (sysfs(5)).
const INTERFACES: &str = "/sys/class/net";

/// The way to the origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By an interface whose speed is known.
    Known {
        /// Its name.
        interface: String,
        /// Its speed.
        bits_per_second: u64,
    },
    /// By an interface whose speed the kernel does not know, as of many virtual machines.
    Unknown {
        /// Its name.
        interface: String,
    },
    /// By no network: the origins are on this host.
    OnThisHost,
    /// No interface is up.
    Nowhere,
}

impl Egress {
    /// Bits per second that can leave this host, `None` where nobody knows or nothing does.
    pub const fn bits_per_second(&self) -> Option<u64> {
        match self {
            Self::Known { bits_per_second, .. } => Some(*bits_per_second),
            Self::Unknown { .. } | Self::OnThisHost | Self::Nowhere => None,
        }
    }

    /// That of the interface which leads to those `intakes`: the slowest, if they are behind several. Without any intake, that of
    /// the fastest interface with hardware behind it.
    pub fn to(intakes: &[SocketAddr]) -> Self {
        let interfaces = Path::new(INTERFACES);
        let routes: Vec<Route> = intakes.iter().filter_map(|intake| route(*intake)).collect();
        match routes.is_empty() {
            true => fastest(interfaces),
            false => slowest(interfaces, &routes),
        }
    }
}

/// For people.
impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { interface, bits_per_second } => {
                write!(f, "{interface}: {} Mbit/s", bits_per_second / 1_000_000)
            }
            Self::Unknown { interface } => {
                write!(f, "{interface}: the kernel does not know its speed")
            }
            Self::OnThisHost => f.write_str("the origins are on this host"),
            Self::Nowhere => f.write_str("no interface is up"),
        }
    }
}

/// What leads to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Loopback,
    Interface(String),
}

fn route(to: SocketAddr) -> Option<Route> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Of a datagram socket this only chooses the route (connect(2)).
    socket.connect(to).ok()?;
    let from = socket.local_addr().ok()?.ip();
    if from == to.ip() || from.is_loopback() {
        return Some(Route::Loopback);
    }
    let has = |address: &nix::ifaddrs::InterfaceAddress| {
        let address = address.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
    };
    let found = getifaddrs().ok()?.find(|address| has(address) == Some(from))?;
    Some(Route::Interface(found.interface_name))
}

/// What is narrowest of several ways, where that is known.
fn slowest(interfaces: &Path, routes: &[Route]) -> Egress {
    let ways = routes.iter().map(|route| match route {
        Route::Loopback => Egress::OnThisHost,
        Route::Interface(interface) => of(interfaces, interface),
    });
    let rank = |way: &Egress| match way {
        Egress::Known { bits_per_second, .. } => (0, *bits_per_second),
        Egress::Unknown { .. } => (1, 0),
        Egress::OnThisHost | Egress::Nowhere => (2, 0),
    };
    ways.min_by_key(rank).unwrap_or(Egress::Nowhere)
}

/// The fastest interface that is up; those without hardware, such as bridges, only carry what leaves by others.
fn fastest(interfaces: &Path) -> Egress {
    let entries = fs::read_dir(interfaces).into_iter().flatten().flatten();
    let up = entries.filter(|entry| {
        let path = entry.path();
        let state = fs::read_to_string(path.join("operstate")).unwrap_or_default();
        state.trim() == "up" && path.join("device").exists()
    });
    let names = up.filter_map(|entry| entry.file_name().into_string().ok());
    let ways = names.map(|interface| of(interfaces, &interface));
    ways.max_by_key(Egress::bits_per_second).unwrap_or(Egress::Nowhere)
}

/// The kernel says -1, or nothing, of an interface whose speed it does not know.
fn of(interfaces: &Path, interface: &str) -> Egress {
    let said = fs::read_to_string(interfaces.join(interface).join("speed")).ok();
    let megabits = said.and_then(|said| said.trim().parse::<i64>().ok());
    let megabits = megabits.and_then(|it| u64::try_from(it).ok()).filter(|&it| it > 0);
    let interface = interface.to_owned();
    match megabits {
        Some(it) => Egress::Known { interface, bits_per_second: it.saturating_mul(1_000_000) },
        None => Egress::Unknown { interface },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as sysfs has it: name, speed, state, and whether there is hardware.
    fn sysfs(interfaces: &[(&str, &str, &str, bool)]) -> std::path::PathBuf {
        let of_test = format!("millrace-egress-{}-{}", std::process::id(), interfaces.len());
        let root = std::env::temp_dir().join(of_test);
        let _ = fs::remove_dir_all(&root);
        for (name, speed, state, device) in interfaces {
            let path = root.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("speed"), speed).unwrap();
            fs::write(path.join("operstate"), state).unwrap();
            if *device {
                fs::create_dir(path.join("device")).unwrap();
            }
        }
        root
    }

    fn known(interface: &str, bits_per_second: u64) -> Egress {
        Egress::Known { interface: interface.to_owned(), bits_per_second }
    }

    #[test]
    fn a_speed_that_the_kernel_does_not_know_is_no_limit_and_never_none_at_all() {
        let root = sysfs(&[("eth0", "-1\n", "up\n", true)]);
        let unknown = Egress::Unknown { interface: "eth0".to_owned() };
        assert_eq!([of(&root, "eth0"), fastest(&root)], [unknown.clone(), unknown.clone()]);
        assert_eq!(unknown.bits_per_second(), None);
        assert_eq!(of(&root, "gone").bits_per_second(), None);
        assert_eq!(fastest(&root.join("nowhere")), Egress::Nowhere);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_way_to_the_origins_counts_or_else_the_fastest_hardware_that_is_up() {
        let root = sysfs(&[
            ("eth0", "1000\n", "up\n", true),
            ("eth1", "10000\n", "up\n", true),
            ("eth2", "25000\n", "down\n", true),
            ("veth0", "40000\n", "up\n", false),
        ]);
        assert_eq!(fastest(&root), known("eth1", 10_000_000_000));
        let by = |name: &str| Route::Interface(name.to_owned());
        let narrow = known("eth0", 1_000_000_000);
        assert_eq!(slowest(&root, &[Route::Loopback, by("eth1"), by("eth0")]), narrow);
        assert_eq!(slowest(&root, &[Route::Loopback]), Egress::OnThisHost);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_origin_on_this_host_is_reached_by_no_network() {
        assert_eq!(Egress::to(&[([127, 0, 0, 7], 7_002).into()]), Egress::OnThisHost);
    }
}
