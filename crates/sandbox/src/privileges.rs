//! Who the worker is and what it may: an unprivileged user, no capability in any set, no way back.

use caps::CapSet;
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Uid, geteuid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid},
};

use crate::User;

/// Empties the bounding set, as far as we may: it needs CAP_SETPCAP.
pub(crate) fn empty_bounding_set() -> Result<(), String> {
    caps::clear(None, CapSet::Bounding).map_err(|error| format!("bounding set: {error}"))
}

/// Becomes `user` for good: real, effective and saved, without supplementary groups.
pub(crate) fn become_user(user: Option<User>) -> Result<(), String> {
    if !geteuid().is_root() {
        return Err(format!("not root: stays user {}", geteuid()));
    }
    let user = user.ok_or("no user was given: stays root")?;
    if user.uid == 0 || user.gid == 0 {
        return Err("the given user or group is root's".to_owned());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let step = |name| move |errno: Errno| format!("{name}: {errno}");
    setgroups(&[]).map_err(step("setgroups"))?;
    setresgid(gid, gid, gid).map_err(step("setresgid"))?;
    setresuid(uid, uid, uid).map_err(step("setresuid"))?;

    let uids = getresuid().map_err(step("getresuid"))?;
    let gids = getresgid().map_err(step("getresgid"))?;
    let groups = getgroups().map_err(step("getgroups"))?;
    let all_changed = [uids.real, uids.effective, uids.saved].iter().all(|found| *found == uid)
        && [gids.real, gids.effective, gids.saved].iter().all(|found| *found == gid)
        && groups.is_empty();
    if all_changed { Ok(()) } else { Err(format!("found {uids:?}, {gids:?}, {groups:?}")) }
}

/// Empties every capability set and looks whether they are.
pub(crate) fn drop_capabilities() -> Result<(), String> {
    let bounding = empty_bounding_set();
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| format!("{set:?}: {error}"))?;
        let left = caps::read(None, set).map_err(|error| format!("{set:?}: {error}"))?;
        if !left.is_empty() {
            return Err(format!("{set:?} still holds {left:?}"));
        }
    }
    // Asked last: without any other capability and with no_new_privs a bounding set can grant nothing.
    bounding
}

/// No `execve` grants a privilege from now on.
pub(crate) fn forbid_new() -> Result<(), Errno> {
    prctl::set_no_new_privs()
}
