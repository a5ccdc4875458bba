//! Which process listens on a TCP port of this host, as far as this user may see: read from `/proc` (proc(5)).

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

/// `st` of a listening socket in `/proc/net/tcp`: `TCP_LISTEN`.
const LISTENING: &str = "0A";

/// Who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// What the process is called.
    pub name: String,
    /// At all addresses of the host.
    pub everywhere: bool,
}

/// Who keeps others from listening at `address`: who listens there, or on that port of all addresses; `None` where nobody does,
/// or another user.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    let (ip, port) = (address.ip(), address.port());
    let is_it = |it: &Listening<'_>| {
        it.port == port && (it.everywhere() || ip.is_unspecified() || it.is_at(ip))
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets = tables.iter().flatten().flat_map(|table| table.lines().filter_map(listening));
    let sockets: Vec<_> = sockets.filter(is_it).collect();
    let names: Vec<_> = sockets.iter().map(|it| format!("socket:[{}]", it.inode)).collect();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds(*pid, &names))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let everywhere = sockets.iter().any(Listening::everywhere);
    Some(Holder { pid, name: name.trim().to_owned(), everywhere })
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

/// A listener, as a line of `/proc/net/tcp` has it.
struct Listening<'a> {
    /// In hexadecimal, each 32 bits in the order of this host's bytes.
    ip: &'a str,
    port: u16,
    inode: &'a str,
}

impl Listening<'_> {
    fn everywhere(&self) -> bool {
        self.ip.bytes().all(|digit| digit == b'0')
    }

    fn is_at(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ip == format!("{:08X}", u32::from_ne_bytes(ip.octets())),
            IpAddr::V6(ip) => {
                let octets = ip.octets();
                let words = octets.as_chunks::<4>().0.iter();
                let words = words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
                self.ip == words.collect::<String>()
            }
        }
    }
}

fn listening(line: &str) -> Option<Listening<'_>> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (*state == LISTENING).then_some(Listening { ip, port, inode })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_at_another_address_holds_none_but_its_own_and_who_listens_at_all_holds_each() {
        for (listens, at, everywhere) in [
            ("127.9.8.7:0", "127.9.8.7", false),
            ("[::1]:0", "::1", false),
            ("0.0.0.0:0", "127.9.8.7", true),
        ] {
            let listener = TcpListener::bind(listens).unwrap();
            let port = listener.local_addr().unwrap().port();
            let at = SocketAddr::new(at.parse().unwrap(), port);
            let found = holder(at).map(|holder| (holder.pid, holder.everywhere));
            assert_eq!(found, Some((std::process::id(), everywhere)), "{listens}");
            let beside = holder(SocketAddr::new("127.9.8.8".parse().unwrap(), port));
            assert_eq!(beside.is_some(), everywhere, "{listens}");
            drop(listener);
            assert_eq!(holder(at), None, "{listens} is free");
        }
    }
}
