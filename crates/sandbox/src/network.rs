//! An empty network namespace: not even the loopback device is up in it. Inherited Unix sockets go on working.

use std::fs;

use nix::{
    sched::{CloneFlags, unshare},
    sys::prctl::{get_dumpable, set_dumpable},
    unistd::{Gid, Uid, getegid, geteuid},
};

/// Why a worker that was root and is no longer has no user namespace: root, as whom its daemon runs, is unknown there, so that
/// the peer credentials of its socket would name nobody, and it would turn its own daemon away.
pub(crate) const STAYS_BESIDE_ITS_DAEMON: &str = "in a user namespace it could not tell its daemon, which is root, from a stranger: give the node CAP_SYS_ADMIN";

/// As root. The user namespace stays that of the host, so that the peer credentials of the socket still name the daemon.
pub(crate) fn leave_as_root() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare as root: {errno}"))
}

/// As anybody, where the host allows user namespaces: in one of its own, which knows only the worker's own user.
/// Grants all capabilities within that namespace; the caller drops them. Peer credentials then name a daemon of the
/// same user rightly, and anybody else as the overflow user 65534.
pub(crate) fn leave_by_user_namespace() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    let dumpable = get_dumpable().map_err(|errno| format!("dumpable: {errno}"))?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("unshare with a user namespace: {errno}"))?;
    // One's own files below /proc belong to root while one is not dumpable, as after a change of user (proc(5)).
    set_dumpable(true).map_err(|errno| format!("dumpable: {errno}"))?;
    let mapped = map_own_user(uid, gid);
    set_dumpable(dumpable).map_err(|errno| format!("dumpable: {errno}"))?;
    mapped
}

fn map_own_user(uid: Uid, gid: Gid) -> Result<(), String> {
    // user_namespaces(7): a group may be mapped without privilege only once setgroups is denied.
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("/proc/self/{file}: {error}"))?;
    }
    Ok(())
}
