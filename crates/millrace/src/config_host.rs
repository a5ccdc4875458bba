//! What the host at hand says to a file of settings: whether it has the addresses, and whether workers' sockets can lie where they
//! are to.
//!
//! A file may be checked on another host than the one it is for, and by another user. An address that is not here, and a directory
//! that only this user may not write, are therefore said and no error. A directory that cannot be at all is one, as is any other
//! file that is not there.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use millrace_telemetry::try_whole;

use crate::prerequisite::Prerequisite;

/// A line for each address that this host does not have.
pub fn foreign<'a>(listeners: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> Vec<String> {
    let is_foreign = |address: &SocketAddr| {
        let bound = TcpListener::bind((address.ip(), 0));
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let foreign = listeners.into_iter().filter(|(_, address)| is_foreign(address));
    foreign
        .map(|(setting, address)| {
            format!(
                "{setting} {address}: this host has no such address (`ip address` shows those it has); right only if the file is for another host"
            )
        })
        .collect()
}

/// Whether sockets can be made in a directory, which is made for a moment where it is missing; a line where only this user may not.
///
/// # Errors
/// [`Prerequisite`]: nobody can.
pub fn sockets_in(dir: &Path) -> Result<Option<String>, Prerequisite> {
    let shown = dir.display();
    match tried(dir) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some(format!(
            "run_dir {shown}: this user may not write there; the program's must (RuntimeDirectory= of its unit sees to that)"
        ))),
        Err(error) => Err(Prerequisite(format!(
            "run_dir: {shown}: {error}; name a directory that can be made and written, such as /run/millrace"
        ))),
    }
}

fn tried(dir: &Path) -> io::Result<()> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(missing).collect();
    let tried = fs::create_dir_all(dir).and_then(|()| try_whole(&dir.join("worker.sock")));
    for made in missing {
        // Its program may just have started there.
        let _ = fs::remove_dir(made);
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_another_host_is_named() {
        let listeners = ["0.0.0.0:1935", "127.0.0.1:9101", "192.0.2.7:7001", "[::]:80"];
        let listeners = listeners.map(|address| ("listen", address.parse().unwrap()));
        let said = foreign(listeners);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("listen 192.0.2.7:7001: this host has no such address"));
    }

    #[test]
    fn a_directory_that_can_be_made_is_not_left_behind_and_one_that_cannot_be_says_what_to_do() {
        let parent = std::env::temp_dir().join(format!("millrace-run-{}", std::process::id()));
        let dir = parent.join("node/sockets");
        assert_eq!(sockets_in(&dir).unwrap(), None);
        assert!(!parent.exists());
        for never in ["/dev/null/run", "/proc/run"] {
            let error = sockets_in(Path::new(never)).unwrap_err().to_string();
            assert!(error.contains(never) && error.contains("name a directory"), "{error}");
        }
    }
}
