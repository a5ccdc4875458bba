//! Whoever started this program and watches over it, told by `sd_notify(3)`: systemd, or a test that speaks as it does.
//!
//! ```text
//! start ──ready──▶ running ──stopping──▶ end
//!                  └─ each half of the watchdog's time: alive
//! ```
//!
//! Only the program's own runtime says that it is alive: when its threads are stuck, or stopped, nobody else does, and the
//! supervisor ends and restarts it. Without a supervisor everything here does nothing.
//! Not here: what to do about a program that is silent; that stands in its unit.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

/// How long a word to the supervisor may take; its queue is full while it is busy or gone.
const SEND: Duration = Duration::from_secs(1);

/// The supervisor of this process, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    /// `NOTIFY_SOCKET`: where it listens.
    address: Option<SocketAddr>,
    /// `WATCHDOG_USEC`: silence after which it takes the program for stuck.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names. What it says for another process (`WATCHDOG_PID`) is not for this one.
    pub fn of_environment() -> Self {
        Self::read(|name| env::var_os(name), std::process::id())
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Self {
        let address = variable("NOTIFY_SOCKET").and_then(|name| {
            let read = address(&name);
            read.inspect_err(|error| warn!(?name, %error, "supervisor has no usable address")).ok()
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let ours = variable("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(u64::from(own_pid));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        Self { address, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Says that the program can work, for the first time or after [`Self::reloading`].
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Says that the program reads its settings again; [`Self::ready`] says when it has.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// Says that the program has begun to stop.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says from now on, from a task of the runtime, that the runtime runs: twice in the time the supervisor waits.
    /// `None` when there is none that waits. Needs a tokio runtime; ends with it.
    pub fn watch(&self) -> Option<JoinHandle<()>> {
        let every = self.watchdog? / 2;
        self.address.as_ref()?;
        let supervisor = self.clone();
        Some(tokio::spawn(async move {
            let mut due = interval(every);
            // After a pause one word, not one for each that was missed.
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                supervisor.say("WATCHDOG=1");
            }
        }))
    }

    fn say(&self, word: &str) {
        let Some(address) = &self.address else { return };
        let said = UnixDatagram::unbound().and_then(|socket| {
            socket.set_write_timeout(Some(SEND))?;
            socket.send_to_addr(word.as_bytes(), address)
        });
        if let Err(error) = said {
            warn!(word, %error, "supervisor not told");
        }
    }
}

/// A path, or behind `@` a name of the abstract namespace (unix(7)).
fn address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    const OWN_PID: u32 = 77;

    fn read(variables: &[(&str, &str)]) -> Supervisor {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Supervisor::read(|name| find(name).map(|(_, value)| value.into()), OWN_PID)
    }

    /// An abstract socket of its own for each test, and a supervisor that listens there.
    fn listening(name: &str, watchdog: Duration) -> (UnixDatagram, Supervisor) {
        let name = format!("@millrace-supervisor-{name}-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&address(&name.clone().into()).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let micros = watchdog.as_micros().to_string();
        (socket, read(&[("NOTIFY_SOCKET", &name), ("WATCHDOG_USEC", &micros)]))
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 64];
        let words = std::iter::from_fn(|| {
            let length = socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        });
        words.collect()
    }

    #[test]
    fn a_program_that_nobody_watches_over_says_nothing_and_waits_for_nobody() {
        let alone = read(&[]);
        alone.ready();
        assert!(alone.watch().is_none());
        let started = Instant::now();
        read(&[("NOTIFY_SOCKET", "/nowhere/at/all")]).ready();
        assert!(started.elapsed() < SEND);
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let with =
            |pid: &str| read(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", pid)]).watchdog;
        assert_eq!(with("77"), Some(Duration::from_secs(2)));
        assert_eq!([with("78"), with("me")], [None, None]);
        assert_eq!(read(&[("WATCHDOG_USEC", "0")]).watchdog, None);
    }

    #[test]
    fn each_word_is_a_datagram_of_its_own() {
        let (socket, supervisor) = listening("words", Duration::from_secs(9));
        supervisor.ready();
        supervisor.reloading();
        supervisor.stopping();
        assert_eq!(heard(&socket), ["READY=1", "RELOADING=1", "STOPPING=1"]);
    }

    #[tokio::test]
    async fn a_runtime_whose_threads_are_stuck_does_not_say_that_it_lives() {
        const EVERY: Duration = Duration::from_millis(20);
        let (socket, supervisor) = listening("stuck", EVERY * 2);
        let watch = supervisor.watch().unwrap();
        let alive = async |least: usize| {
            let mut words = 0;
            while words < least {
                tokio::time::sleep(EVERY).await;
                words += heard(&socket).iter().filter(|word| *word == "WATCHDOG=1").count();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), alive(3)).await.unwrap();

        let (_never_sent, received) = mpsc::channel::<()>();
        let _ = received.recv_timeout(EVERY * 10);
        assert_eq!(heard(&socket), Vec::<String>::new(), "said while its only thread was stuck");
        tokio::time::timeout(Duration::from_secs(10), alive(1)).await.unwrap();
        watch.abort();
    }
}
