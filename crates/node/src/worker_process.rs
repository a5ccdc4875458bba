//! One worker process and its socket: started, confined, ready for work.
//!
//! Its words on standard error go to the node's log, with the stream and epoch once it serves one.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use millrace_lifecycle::Look;
use millrace_sandbox::{Child, Limits, Spawn, SpawnError, says_out_of_memory};
use millrace_types::{EndReason, Epoch, StreamId};
use millrace_wire::{Message, MessageReader, MessageWriter, Ready};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};
use tracing::{Level, debug, error, info, warn};

/// How long a worker may take from its spawn to its `Ready`.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// `millrace-worker`: repackages, no C.
    Passthrough,
    /// `millrace-worker-av`: decodes and encodes.
    Transcode,
}

impl WorkerKind {
    /// Name of the executable.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Passthrough => "millrace-worker",
            Self::Transcode => "millrace-worker-av",
        }
    }
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its socket could not be made or reached.
    #[error("worker socket {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It did not report ready.
    #[error("worker {pid} did not report ready: {text}")]
    NotReady {
        /// Its process.
        pid: u32,
        /// What happened instead.
        text: String,
    },
}

/// Whom a worker serves, for its log lines.
pub type Serves = Option<(StreamId, Epoch)>;

/// A worker that is confined and waits for work.
#[derive(Debug)]
pub struct WorkerProcess {
    /// The process; readable when it has died.
    pub child: AsyncFd<Child>,
    /// What it says.
    pub reader: MessageReader<OwnedReadHalf>,
    /// What it is told.
    pub writer: MessageWriter<OwnedWriteHalf>,
    /// Whom it serves, for its log lines.
    pub serves: watch::Sender<Serves>,
    /// Whether its last words were that no memory was left.
    pub out_of_memory: watch::Receiver<bool>,
    /// What it said of itself.
    pub ready: Ready,
}

impl WorkerProcess {
    /// Starts the worker of that kind and waits until it is confined.
    pub async fn start(
        kind: WorkerKind,
        worker_dir: &Path,
        run_dir: &Path,
        limits: Limits,
    ) -> Result<Self, StartError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = run_dir.join(format!("worker-{}-{number}.sock", std::process::id()));
        let socket = |source| StartError::Socket { path: path.clone(), source };
        let listener = UnixListener::bind(&path).map_err(socket)?;
        let file = SocketFile(path.clone());
        let label = format!("worker-{number}");
        let program = worker_dir.join(kind.program());
        let spawn = Spawn { program: &program, label: &label, listener: listener.as_fd(), limits };
        let mut child = spawn.start()?;
        drop(listener);
        let pid = child.pid();
        let stream = UnixStream::connect(&path).await.map_err(socket);
        drop(file);
        let (serves, whom) = watch::channel(None);
        let (said, out_of_memory) = watch::channel(false);
        if let Some(output) = child.take_output() {
            let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(output).map_err(socket)?;
            tokio::spawn(log_output(pid, pipe, whom, said));
        }
        #[expect(deprecated, reason = "sound here: a Child owns its pidfd for life")]
        let mut child = AsyncFd::new(child).map_err(socket)?;
        let (reader, writer) = stream?.into_split();
        let mut reader = MessageReader::new(reader);
        let ready = match first_word(&mut reader).await {
            Ok(ready) => ready,
            Err(text) => {
                let _ = child.get_ref().kill();
                // Reaped here, or it would stay a zombie: nobody else knows of it.
                let _ = timeout(START_TIMEOUT, death_of(&mut child, &out_of_memory)).await;
                return Err(StartError::NotReady { pid, text });
            }
        };
        for (measure, state) in ready.sandbox.iter().filter(|(_, state)| state != "applied") {
            debug!(pid, measure, state, "sandbox measure");
        }
        let writer = MessageWriter::new(writer);
        Ok(Self { child, reader, writer, serves, out_of_memory, ready })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.get_ref().pid()
    }

    /// What a look at the process finds; one that is gone looks idle, and its death is heard of otherwise.
    pub fn look(&self) -> Look {
        let child = self.child.get_ref();
        Look {
            stopped: child.is_stopped().unwrap_or(false),
            cpu: child.cpu_time().unwrap_or_default(),
        }
    }

    /// SIGKILLs it.
    pub fn kill(&self) {
        if let Err(error) = self.child.get_ref().kill() {
            debug!(pid = self.pid(), %error, "kill");
        }
    }

    /// Waits until it is gone; why.
    pub async fn died(&mut self) -> EndReason {
        death_of(&mut self.child, &self.out_of_memory).await
    }
}

/// The file of a socket until both ends are connected; gone with its owner, also where starting is cut short.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that somebody else removed is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a new worker says first, which must be that it is ready; else what happened instead.
async fn first_word(reader: &mut MessageReader<OwnedReadHalf>) -> Result<Ready, String> {
    match timeout(START_TIMEOUT, reader.next()).await {
        Ok(Ok(Some(Message::Ready(ready)))) => Ok(ready),
        Ok(Ok(Some(_))) => Err("it said something else first".to_owned()),
        Ok(Ok(None)) => Err("it closed its socket".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("within {START_TIMEOUT:?}")),
    }
}

/// Waits until the process is gone; why. Cancel-safe.
pub async fn death_of(
    child: &mut AsyncFd<Child>,
    out_of_memory: &watch::Receiver<bool>,
) -> EndReason {
    loop {
        // A process is asked about only once its descriptor says that it has ended: this is waited for beside every message.
        let Ok(mut ended) = child.readable_mut().await else {
            // The runtime is shutting down.
            return std::future::pending().await;
        };
        match ended.get_inner_mut().try_wait() {
            Ok(Some(death)) => return death.reason(*out_of_memory.borrow()),
            Ok(None) => {}
            Err(error) => {
                warn!(pid = ended.get_inner().pid(), %error, "worker cannot be waited for");
            }
        }
        ended.clear_ready();
    }
}

/// Passes a worker's lines on until its pipe closes.
async fn log_output(
    pid: u32,
    pipe: tokio::net::unix::pipe::Receiver,
    serves: watch::Receiver<Serves>,
    out_of_memory: watch::Sender<bool>,
) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if says_out_of_memory(&line) {
            out_of_memory.send_replace(true);
        }
        let (level, said) = read_line(&line);
        let (stream, epoch) = match &*serves.borrow() {
            Some((stream, epoch)) => (Some(stream.to_string()), Some(epoch.to_string())),
            None => (None, None),
        };
        match level {
            Level::ERROR => error!(stream, epoch, pid, said, "worker says"),
            Level::WARN => warn!(stream, epoch, pid, said, "worker says"),
            Level::INFO => info!(stream, epoch, pid, said, "worker says"),
            _ => debug!(stream, epoch, pid, said, "worker says"),
        }
    }
}

/// A worker's log line without what the node's own line says anyway. What is no log line of ours is a warning: a panic, or
/// the words of a C library.
fn read_line(line: &str) -> (Level, String) {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return (Level::WARN, line.to_owned());
    };
    let level = fields.get("level").and_then(Value::as_str).and_then(|level| level.parse().ok());
    for known in ["timestamp", "level", "target", "span", "spans"] {
        fields.remove(known);
    }
    let message = match fields.remove("message") {
        Some(Value::String(message)) => message,
        _ => String::new(),
    };
    let said = fields.iter().fold(message, |said, (name, value)| format!("{said} {name}={value}"));
    (level.unwrap_or(Level::WARN), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_log_line_keeps_its_level_and_fields_and_anything_else_is_a_warning() {
        let line = r#"{"timestamp":"t","level":"ERROR","message":"no encoder","rung":"720p","target":"x"}"#;
        assert_eq!(read_line(line), (Level::ERROR, r#"no encoder rung="720p""#.to_owned()));
        let words = "memory allocation of 9 bytes failed";
        assert_eq!(read_line(words), (Level::WARN, words.to_owned()));
    }
}
