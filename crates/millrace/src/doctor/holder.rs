//! Which process listens on a TCP port of this host, as far as this user may see: read from `/proc` (proc(5)).

use std::fs;

/// `st` of a listening socket in `/proc/net/tcp`: `TCP_LISTEN`.
const LISTENING: &str = "0A";

/// Process id and name of who listens on `port`; `None` where nobody does, or another user.
pub fn holder(port: u16) -> Option<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<_> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(|line| listening(line, port)))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim().to_owned()))
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

/// The inode in a line of `/proc/net/tcp` that is a listener on `port`.
fn listening(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (_, local_port) = local.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *state == LISTENING;
    is_it.then_some(*inode)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_and_a_free_port_has_no_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(port).map(|(pid, _)| pid), Some(std::process::id()));
        drop(listener);
        assert_eq!(holder(port), None);
    }
}
