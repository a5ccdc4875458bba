//! A program under a supervisor's socket, started by the command line of its unit; only the directories are the test's.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use millrace_testkit::Scratch;
use millrace_tests::program;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::units::unit::Unit;

/// How long a start may take; the node measures the host first, maybe beside other tests.
const START: Duration = Duration::from_secs(60);
/// How long an answer to a signal may take.
const SOON: Duration = Duration::from_secs(8);
/// The watchdog's time: twice in it the program says that it is alive.
const WATCHDOG: Duration = Duration::from_millis(400);

/// Settings under which two farms meet nowhere.
const FREE_PORTS: &str = r#"
[router]
listen_rtmp = "127.0.0.1:0"
listen_admin = "127.0.0.1:0"
[node]
listen_link = "127.0.0.1:0"
listen_admin = "127.0.0.1:0"
[origin]
listen_playback = "127.0.0.1:0"
listen_intake = "127.0.0.1:0"
listen_admin = "127.0.0.1:0"
[api]
listen_api = "127.0.0.1:0"
listen_admin = "127.0.0.1:0"
"#;

/// A program, and what it says to its supervisor.
struct Supervised {
    process: Child,
    socket: UnixDatagram,
    scratch: Scratch,
}

impl Supervised {
    fn start(unit: &Unit, settings: &str) -> Self {
        let scratch = Scratch::new("supervised").unwrap();
        // Without a path, which would be too long in a checkout deep in the tree; the folder's name is nobody else's.
        let listening = scratch.path().file_name().unwrap().to_str().unwrap();
        let address = SocketAddr::from_abstract_name(listening).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let (name, arguments) = unit.command();
        for argument in arguments.iter().filter(|word| word.starts_with('/')) {
            let path = placed(&scratch, argument);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if argument.starts_with("/etc/") {
                fs::write(path, settings).unwrap();
            }
        }
        let log = fs::File::create(scratch.path().join("log")).unwrap();
        let mut command = Command::new(program(name).unwrap());
        for argument in arguments {
            match argument.starts_with('/') {
                true => command.arg(placed(&scratch, argument)),
                false => command.arg(argument),
            };
        }
        command.env("NOTIFY_SOCKET", format!("@{listening}"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { process: command.spawn().unwrap(), socket, scratch }
    }

    /// The next word, if one comes before `until`.
    fn word(&self, until: Instant) -> Option<String> {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut bytes = [0; 128];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Waits for that word.
    fn hear(&self, wanted: &str, patience: Duration) {
        let until = Instant::now() + patience;
        while let Some(word) = self.word(until) {
            if word == wanted {
                return;
            }
        }
        panic!("no {wanted} within {patience:?}\n{}", self.log());
    }

    /// All that is said in that time.
    fn listen(&self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        std::iter::from_fn(|| self.word(until)).collect()
    }

    /// Throws away what was said and not heard.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 128]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end\n{}", self.log());
            let _ = self.word((Instant::now() + WATCHDOG).min(until));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.signal(Signal::SIGCONT);
            self.signal(Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

/// The host's `path` below the test's folder.
fn placed(scratch: &Scratch, path: &str) -> PathBuf {
    scratch.path().join(path.trim_start_matches('/'))
}

#[test]
fn standalone_tells_its_supervisor_when_it_is_ready_alive_and_stopping() {
    let unit = Unit::named("millrace-standalone.service");
    let mut farm = Supervised::start(&unit, FREE_PORTS);
    let (_, arguments) = unit.command();
    let ready_json = arguments[arguments.iter().position(|it| *it == "--ready-json").unwrap() + 1];
    let ready_json = placed(&farm.scratch, ready_json);
    farm.hear("READY=1", START);
    assert!(ready_json.is_file(), "ready before its ready file is there");

    let alive = farm.listen(WATCHDOG * 10);
    assert!(alive.iter().all(|word| word == "WATCHDOG=1"), "{alive:?}");
    // 20 are due; a busy host delays some, and no host makes more.
    assert!((8..=22).contains(&alive.len()), "{} signs of life", alive.len());

    farm.signal(Signal::SIGSTOP);
    farm.forget();
    assert_eq!(farm.listen(WATCHDOG * 3), Vec::<String>::new(), "said by a stopped program");
    farm.signal(Signal::SIGCONT);
    farm.hear("WATCHDOG=1", SOON);

    farm.signal(Signal::SIGTERM);
    farm.hear("STOPPING=1", SOON);
    assert!(farm.exit().success(), "{}", farm.log());
}

#[test]
fn a_program_that_cannot_start_says_so_with_the_exit_code_that_its_unit_does_not_restart() {
    let unit = Unit::named("millrace-standalone.service");
    let mut farm = Supervised::start(&unit, "[ruoter]\n");
    let code = farm.exit().code().unwrap();
    assert_eq!(unit.values("RestartPreventExitStatus"), [code.to_string()]);
    assert_eq!(farm.listen(WATCHDOG).iter().filter(|word| *word == "READY=1").count(), 0);
}
