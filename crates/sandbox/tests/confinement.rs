//! The sandbox from outside: real processes, started as the node starts them, and how each of their deeds ends.
//!
//! As root, as the node usually runs, it tries both ways; as anybody else, the unprivileged one.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use millrace_sandbox::{
    CgroupLimits, Child, Death, Hierarchy, Limits, Measure, Report, Spawn, State, User,
    says_out_of_memory,
};
use millrace_types::EndReason;
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    libc,
};

const PATIENCE: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { memory_bytes: 256 << 20, threads: None, user: Some(User::NOBODY) };

/// The hostile example, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/hostile");
    assert!(program.exists(), "{}: build it with --examples", program.display());
    program
}

/// A worker and the path of its socket, which is removed at the end.
struct Worker {
    child: Child,
    socket: PathBuf,
}

impl Worker {
    fn start(label: &str, limits: Limits) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("millrace-sandbox-{}-{number}", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let program = program();
        let spawn = Spawn { program: &program, label, listener: listener.as_fd(), limits };
        Self { child: spawn.start().unwrap(), socket }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A line over and back: from then on it is confined and serves.
    fn echo(stream: &mut UnixStream) {
        stream.write_all(b"ping").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.pid()))
    }

    /// The kernel's account of it: the fields of proc_pid_status(5), blanks made one.
    fn status(&self) -> BTreeMap<String, String> {
        let words = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.collect::<Vec<_>>().join(" ")))
        };
        fs::read_to_string(self.proc("status")).unwrap().lines().filter_map(words).collect()
    }

    /// Its death and all that it said.
    fn end(&mut self) -> (Death, String) {
        let death = self.child.wait_for(PATIENCE).unwrap().expect("dead in time");
        // Its end of the pipe may still be open in a child that another test is just starting: wait for the end of file.
        let pipe = self.child.take_output().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut output = String::new();
        fs::File::from(pipe).read_to_string(&mut output).unwrap();
        (death, output)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait_for(PATIENCE);
        let _ = fs::remove_file(&self.socket);
    }
}

/// The worker serves, powerless, is looked at meanwhile, and exits in peace; what it reported.
fn serve(mut worker: Worker, look: impl FnOnce(&Worker)) -> Report {
    let mut stream = worker.connect();
    Worker::echo(&mut stream);
    assert_powerless(&worker);
    look(&worker);
    drop(stream);
    let (death, output) = worker.end();
    assert_eq!(death, Death::Exited(0), "{output}");
    serde_json::from_str(output.lines().next().unwrap()).unwrap_or_else(|_| panic!("{output}"))
}

fn deed(label: &str) -> (Death, String) {
    Worker::start(label, LIMITS).end()
}

fn assert_powerless(worker: &Worker) {
    let status = worker.status();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!((status["NoNewPrivs:"].as_str(), status["Seccomp:"].as_str()), ("1", "2"));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn an_honest_worker_serves_its_socket_with_threads_and_exits_in_peace() {
    let mut worker = Worker::start("serve", LIMITS);
    let mut stream = worker.connect();
    Worker::echo(&mut stream);
    drop(stream);
    let (death, output) = worker.end();
    assert_eq!(death, Death::Exited(0), "{output}");
    assert_eq!(death.reason(false), EndReason::Stopped);
}

#[test]
fn every_forbidden_call_kills_the_worker_and_is_named_so() {
    let own = format!("tgkill {}", std::process::id());
    for label in [
        "socket",
        "connect",
        "datagrams",
        "exec",
        "ptrace",
        "kill",
        &own,
        "fork",
        "share-memory",
        "grow-memory",
        "run-memory",
        "mount",
        "unshare",
        "setuid",
        "unlink",
    ] {
        let (death, output) = deed(label);
        assert_eq!(death, Death::Signal(libc::SIGSYS), "{label}: {output}");
        assert_eq!(death.reason(false), EndReason::KilledSeccomp);
        assert!(!output.contains("done") && !output.contains("refused"), "{label}: {output}");
    }
}

#[test]
fn a_worker_finds_no_file_and_is_told_so() {
    let (death, output) = deed("open");
    assert_eq!(death, Death::Exited(0), "{output}");
    assert!(output.contains("refused: Permission denied"), "{output}");
}

#[test]
fn files_that_were_granted_are_read_and_all_others_stay_shut() {
    let (death, output) = deed("read /etc/passwd");
    assert_eq!(death, Death::Exited(0), "{output}");
    assert!(output.contains("refused: Permission denied"), "{output}");
}

#[test]
fn too_much_memory_ends_the_worker_and_is_told_from_other_deaths() {
    let (death, output) = deed("allocate 2147483648");
    assert_eq!(death, Death::Signal(libc::SIGABRT), "{output}");
    assert!(output.lines().any(says_out_of_memory), "{output}");
    assert_eq!(death.reason(true), EndReason::KilledMemory);
    // The same deed below the limit: what ended the first was the limit.
    let (death, output) = deed("allocate 67108864");
    assert_eq!(death, Death::Exited(1), "{output}");
    // Memory that was only reserved counts once it is made usable.
    let (death, output) = deed("reserve-memory");
    assert_eq!(death, Death::Exited(0), "{output}");
    assert!(output.contains("refused: Cannot allocate memory"), "{output}");
}

#[test]
fn a_bomb_of_threads_is_stopped_at_the_limit_of_the_workers_own_user() {
    let user = Some(User { uid: 64_017, gid: 65_534 });
    let (death, output) =
        Worker::start("threads", Limits { threads: Some(32), user, ..LIMITS }).end();
    assert_eq!(death, Death::Exited(0), "{output}");
    assert!(output.contains("refused: after 31 threads"), "{output}");
}

#[test]
fn a_bug_looks_like_a_bug_and_not_like_an_attack() {
    let (death, output) = deed("panic");
    assert_eq!(death, Death::Exited(101), "{output}");
    assert!(output.contains("a bug"), "{output}");
    assert_eq!(death.reason(false), EndReason::Bug);
    assert_eq!(deed("abort").0, Death::Signal(libc::SIGABRT));
    let (death, output) = deed("overflow 0");
    assert_eq!(death, Death::Signal(libc::SIGABRT), "{output}");
    assert!(output.contains("overflowed its stack"), "{output}");
}

#[test]
fn confinement_is_refused_once_a_second_thread_runs() {
    let (death, output) = deed("threads-before");
    assert_eq!(death, Death::Exited(70));
    assert!(output.contains("not confined: 2 threads are running"), "{output}");
}

/// What the report claims is looked up in the kernel's own account of the process.
#[test]
fn the_report_of_a_worker_started_as_root_agrees_with_the_kernel() {
    if !nix::unistd::geteuid().is_root() {
        println!("not tried: needs root, as the node has it on a host of its own");
        return;
    }
    let report = serve(Worker::start("serve", LIMITS), |worker| {
        let status = worker.status();
        for name in ["Uid:", "Gid:"] {
            assert_eq!(status[name], "65534 65534 65534 65534", "{name}");
        }
        assert_eq!(status["Groups:"], "");
        let namespace = |path: &Path| fs::read_link(path).unwrap();
        assert_ne!(namespace(&worker.proc("ns/net")), namespace(Path::new("/proc/self/ns/net")));
        let devices = fs::read_to_string(worker.proc("net/dev")).unwrap();
        let names = devices.lines().skip(2).filter_map(|line| line.split(':').next());
        assert_eq!(names.collect::<Vec<_>>(), ["    lo"]);
    });
    for measure in [
        Measure::ResourceLimits,
        Measure::Network,
        Measure::User,
        Measure::Capabilities,
        Measure::NoNewPrivs,
        Measure::Files,
        Measure::Scope,
        Measure::Seccomp,
    ] {
        assert_eq!(report.state(measure), Some(&State::Applied), "{report}");
    }
    assert!(matches!(report.state(Measure::Threads), Some(State::Unavailable(_))), "{report}");
}

#[test]
fn a_worker_that_stays_root_for_want_of_a_user_can_do_nothing_with_it_and_says_so() {
    let limits = Limits { user: None, threads: Some(64), ..LIMITS };
    let report = serve(Worker::start("serve", limits), |_| {});
    assert!(matches!(report.state(Measure::User), Some(State::Unavailable(_))), "{report}");
}

#[test]
fn an_unprivileged_worker_leaves_the_network_through_a_user_namespace() {
    let limits = Limits { threads: Some(64), ..LIMITS };
    let report = serve(Worker::start("as-nobody", limits), |worker| {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        assert_ne!(fs::read_link(worker.proc("ns/net")).unwrap(), own);
    });
    for measure in [Measure::Network, Measure::Threads, Measure::Capabilities, Measure::Seccomp] {
        assert_eq!(report.state(measure), Some(&State::Applied), "{report}");
    }
    assert!(matches!(report.state(Measure::User), Some(State::Unavailable(_))), "{report}");
}

/// As root in a container: it may become another user, and user namespaces are there, but not CAP_SYS_ADMIN.
#[test]
fn a_worker_of_a_root_without_cap_sys_admin_knows_its_daemon_and_says_why_it_has_the_hosts_network()
{
    if !nix::unistd::geteuid().is_root() {
        println!("not tried: only root can become another user");
        return;
    }
    // Of this thread alone, and of what it starts: root's programs get what the bounding set leaves them.
    let started = std::thread::spawn(|| {
        for set in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
            caps::drop(None, set, Capability::CAP_SYS_ADMIN).unwrap();
        }
        Worker::start("serve", LIMITS)
    });
    let report = serve(started.join().unwrap(), |_| {});
    assert_eq!(report.state(Measure::User), Some(&State::Applied), "{report}");
    let network = report.state(Measure::Network).unwrap().to_string();
    assert!(network.contains("give the node CAP_SYS_ADMIN"), "{network}");
}

#[test]
fn a_worker_inherits_four_descriptors_and_its_limits_and_nothing_else() {
    let leak = fs::File::open("/dev/null").unwrap();
    fcntl(&leak, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();

    let worker = Worker::start("spin", LIMITS);
    eventually("confined", || worker.status()["Seccomp:"] == "2");
    let mut open: Vec<_> = fs::read_dir(worker.proc("fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2", "3"]);
    let environment = fs::read(worker.proc("environ")).unwrap();
    let expected = b"MILLRACE_MEMORY_BYTES=268435456\0MILLRACE_USER=65534:65534\0";
    assert_eq!(environment, expected);
    let pid = worker.child.pid().to_string();
    let stat = fs::read_to_string(worker.proc("stat")).unwrap();
    assert_eq!(stat.split(' ').nth(5), Some(pid.as_str()), "leads its own session: {stat}");
}

#[test]
fn death_is_told_at_once_by_the_pidfd() {
    let mut worker = Worker::start("serve", LIMITS);
    let mut stream = worker.connect();
    Worker::echo(&mut stream);
    assert_eq!(worker.child.try_wait().unwrap(), None);
    let start = Instant::now();
    worker.child.kill().unwrap();
    let death = worker.child.wait_for(PATIENCE).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(death, Some(Death::Signal(libc::SIGKILL)));
    assert_eq!(worker.child.try_wait().unwrap(), death, "asked again, the same answer");
    assert!(worker.child.kill().is_err() && worker.child.is_stopped().is_err());
}

#[test]
fn sigterm_ends_a_worker_that_has_no_handler_for_it() {
    let mut worker = Worker::start("spin", LIMITS);
    worker.child.terminate().unwrap();
    assert_eq!(worker.end().0, Death::Signal(libc::SIGTERM));
}

#[test]
fn a_stopped_worker_is_seen_and_a_busy_one_by_its_cpu_time() {
    let worker = Worker::start("spin", LIMITS);
    eventually("using CPU", || worker.child.cpu_time().unwrap() > Duration::from_millis(50));
    assert!(!worker.child.is_stopped().unwrap());
    assert!(worker.child.resident_bytes().unwrap() > 100_000);
    assert!(worker.child.waits_for_the_host().unwrap(), "it runs, or would");
    let asleep = Worker::start("serve", LIMITS);
    eventually("asleep", || !asleep.child.waits_for_the_host().unwrap());

    let pid = nix::unistd::Pid::from_raw(worker.child.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    eventually("stopped", || worker.child.is_stopped().unwrap());
    let stood_at = worker.child.cpu_time().unwrap();
    assert_eq!(worker.child.cpu_time().unwrap(), stood_at, "its clock stands still");
    assert!(!worker.child.waits_for_the_host().unwrap(), "for somebody who lets it go on");
}

#[test]
fn a_worker_of_an_earlier_daemon_can_be_adopted_and_ended() {
    let mut worker = Worker::start("spin", LIMITS);
    let mut adopted = Child::adopt(worker.child.pid()).unwrap();
    assert_eq!(adopted.try_wait().unwrap(), None);
    adopted.terminate().unwrap();
    assert_eq!(worker.child.wait_for(PATIENCE).unwrap(), Some(Death::Signal(libc::SIGTERM)));
    assert_eq!(adopted.wait_for(PATIENCE).unwrap(), Some(Death::Unobserved));
    assert!(Child::adopt(worker.child.pid()).is_err());
}

#[test]
fn a_program_that_does_not_exist_is_an_error_and_no_death() {
    let socket = std::env::temp_dir().join(format!("millrace-none-{}", std::process::id()));
    let listener = UnixListener::bind(&socket).unwrap();
    fs::remove_file(&socket).unwrap();
    let program = Path::new("/nonexistent/worker");
    let spawn = Spawn { program, label: "demo", listener: listener.as_fd(), limits: LIMITS };
    let error = spawn.start().unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/worker: ENOENT"), "{error}");
}

/// On many hosts the limits by cgroup cannot be had: then the reason is told, and printed.
#[test]
fn cgroup_limits_hold_a_worker_or_the_reason_why_not_is_told() {
    let hierarchy = match Hierarchy::delegated() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            println!("not enforceable here: {error}");
            assert!(error.to_string().contains("cgroup"), "{error}");
            return;
        }
    };
    let mut worker = Worker::start("spin", LIMITS);
    let limits = CgroupLimits { memory_bytes: 256 << 20, threads: 64, cpu_weight: 100 };
    let cgroup = hierarchy.place("of-a-test", worker.child.pid(), limits).unwrap();
    let own = fs::read_to_string(worker.proc("cgroup")).unwrap();
    assert!(own.contains("/worker-of-a-test"), "{own}");
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    worker.child.kill().unwrap();
    worker.end();
    cgroup.remove().unwrap();
}
