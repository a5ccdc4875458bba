//! What of the workers' sandbox this kernel and this user can have. `no_new_privs`, seccomp and resource limits must be
//! there; the rest is reported per worker as well, in `GET /v1/streams/{id}`.

use std::fs;

use nix::unistd::geteuid;

use super::finding::Finding;

/// Numbers of capabilities (capabilities(7), linux/capability.h).
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SYS_ADMIN: u32 = 21;

/// What this process may do beyond its user.
struct Capabilities(u64);

impl Capabilities {
    /// From `/proc/self/status` (proc(5)): the effective set.
    fn of(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0))
    }

    const fn has(&self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }
}

/// One finding per measure.
pub fn sandbox() -> Vec<Finding> {
    let may = Capabilities::of(&read("/proc/self/status"));
    vec![seccomp(), landlock(), network(&may), user(&may)]
}

fn seccomp() -> Finding {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    match actions.split_whitespace().any(|action| action == "kill_process") {
        true => Finding::ok("seccomp", "filters are there"),
        false => Finding::missing(
            "seccomp",
            "this kernel has no seccomp filters, and no worker starts without",
            "boot a kernel with CONFIG_SECCOMP_FILTER, as Debian's is",
        ),
    }
}

fn landlock() -> Finding {
    let modules = read("/sys/kernel/security/lsm");
    match modules.split(',').any(|module| module.trim() == "landlock") {
        true => Finding::ok("landlock", "enabled"),
        false if modules.is_empty() => Finding::warn(
            "landlock",
            "not known, /sys/kernel/security is not mounted",
            "see the sandbox of a running worker with `millrace streams ID`",
        ),
        false => Finding::warn(
            "landlock",
            format!("not enabled ({})", modules.trim()),
            "boot with lsm=landlock,… ; files stay closed to workers by seccomp",
        ),
    }
}

fn network(may: &Capabilities) -> Finding {
    let limit = read("/proc/sys/user/max_net_namespaces");
    let users = read("/proc/sys/kernel/unprivileged_userns_clone");
    let count: u64 = limit.trim().parse().unwrap_or(0);
    let check = "network namespace";
    if count == 0 {
        let what_to_do = "sysctl user.max_net_namespaces=1024; sockets stay forbidden by seccomp";
        return Finding::warn(check, "none are allowed", what_to_do);
    }
    if geteuid().is_root() && !may.has(SYS_ADMIN) {
        let found = "root without CAP_SYS_ADMIN: workers stay in this network";
        let what_to_do = "give the node CAP_SYS_ADMIN, or run it as another user; sockets stay forbidden by seccomp";
        return Finding::warn(check, found, what_to_do);
    }
    if !geteuid().is_root() && users.trim() == "0" {
        let what_to_do = "run as root, or sysctl kernel.unprivileged_userns_clone=1";
        return Finding::warn(check, "user namespaces are for root only here", what_to_do);
    }
    Finding::ok(check, "a worker gets an empty one")
}

fn user(may: &Capabilities) -> Finding {
    let check = "worker's user";
    if geteuid().is_root() && !(may.has(SETUID) && may.has(SETGID)) {
        let found = "root without CAP_SETUID and CAP_SETGID: workers stay root, with no capability";
        let what_to_do = "give the node both capabilities, or run it as another user";
        return Finding::warn(check, found, what_to_do);
    }
    let known = read("/etc/passwd").lines().any(|line| line.starts_with("millrace-worker:"));
    match (geteuid().is_root(), known) {
        (true, true) => Finding::ok(check, "millrace-worker"),
        (true, false) => Finding::warn(
            check,
            "no user millrace-worker, workers run as nobody",
            "adduser --system --no-create-home millrace-worker",
        ),
        (false, _) => Finding::warn(
            check,
            "not root: workers run as this user",
            "run as a system service to give workers a user of their own",
        ),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_the_capabilities_of_one_is_named() {
        let all = Capabilities::of("Name:\tx\nCapEff:\t000001ffffffffff\n");
        let of_docker = Capabilities::of("CapEff:\t00000000a80425fb\n");
        let none = Capabilities::of("");
        let has = |may: &Capabilities| [SETGID, SETUID, SYS_ADMIN].map(|number| may.has(number));
        assert_eq!([has(&all), has(&of_docker)], [[true; 3], [true, true, false]]);
        if geteuid().is_root() {
            assert!(network(&of_docker).found.contains("CAP_SYS_ADMIN"));
            assert!(user(&none).found.contains("CAP_SETUID"));
        }
    }
}
