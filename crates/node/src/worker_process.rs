//! One worker process and its socket: started and confined, or adopted from the daemon before this one.
//!
//! Its words on standard error go to the node's log, with the stream and epoch once it serves one.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_lifecycle::Look;
use millrace_sandbox::{Child, Limits, Measure, Spawn, SpawnError, listen_to, says_out_of_memory};
use millrace_types::{EndReason, Epoch, StreamId, Versions};
use millrace_wire::{Message, MessageReader, MessageWriter, Ready};
use nix::unistd::geteuid;
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

use crate::{
    cgroups::{Cgroups, OutOfMemory},
    run_dir::{RunDir, WorkerFiles},
};

/// How long a worker may take from its spawn to its `Ready`.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one may take that works already; Links wait for it.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a killed one may take to be gone: longer means that it sleeps in a driver, or on a disk that does not answer.
const DEATH: Duration = Duration::from_secs(1);
/// Room for what a worker says on standard error: a few lines.
const WORDS_BYTES: usize = 1 << 10;

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
    #[error("worker socket {}: {why}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        why: io::Error,
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
    /// Whether that is why it died.
    pub out_of_memory: OutOfMemory,
    /// What it said of itself.
    pub ready: Ready,
    /// What is spoken on its socket.
    pub version: u32,
    /// An earlier daemon started it: how it dies, only its own last word can tell.
    pub is_adopted: bool,
    files: WorkerFiles,
}

impl WorkerProcess {
    /// Starts the worker of that kind and waits until it is confined.
    pub async fn start(
        kind: WorkerKind,
        worker_dir: &Path,
        run_dir: &RunDir,
        limits: Limits,
        cgroups: &Cgroups,
    ) -> Result<Self, StartError> {
        let files = run_dir.new_worker();
        let program = worker_dir.join(kind.program());
        let started = Self::start_at(&files, &program, limits, cgroups).await;
        if started.is_err() {
            files.remove();
        }
        started
    }

    async fn start_at(
        files: &WorkerFiles,
        program: &Path,
        limits: Limits,
        cgroups: &Cgroups,
    ) -> Result<Self, StartError> {
        let path = files.socket();
        let socket = |why| StartError::Socket { path: path.clone(), why };
        let listener = UnixListener::bind(&path).map_err(socket)?;
        let label = files.label();
        let spawn = Spawn { program, label: &label, listener: listener.as_fd(), limits };
        let child = spawn.start_heard_at(&files.pipe())?;
        drop(listener);
        if let Err(error) = files.identify(&child) {
            // It serves this daemon as well as any; only a later one will not find it.
            let path = files.identity().display().to_string();
            warn!(pid = child.pid(), path, %error, "worker not written down: the next daemon will not adopt it");
        }
        let stream = UnixStream::connect(&path).await;
        Self::greeted(child, stream, files.clone(), cgroups, START_TIMEOUT).await
    }

    /// Takes a worker on that an earlier daemon started.
    pub async fn adopt(
        files: WorkerFiles,
        child: Child,
        cgroups: &Cgroups,
    ) -> Result<Self, StartError> {
        let path = files.socket();
        let socket = |why| StartError::Socket { path: path.clone(), why };
        let stream = UnixStream::connect(&path).await.map_err(socket)?;
        // Who listens got the socket from a daemon of this user, or it is none of our workers.
        if stream.peer_cred().map_err(socket)?.uid() != geteuid().as_raw() {
            return Err(socket(io::ErrorKind::PermissionDenied.into()));
        }
        let child = match listen_to(&files.pipe()) {
            Ok(words) => child.with_output(words),
            Err(error) => {
                warn!(pid = child.pid(), %error, "adopted worker is not heard");
                child
            }
        };
        let mut adopted = Self::greeted(child, Ok(stream), files, cgroups, ADOPT_TIMEOUT).await?;
        adopted.is_adopted = true;
        Ok(adopted)
    }

    /// Waits for a worker's first word, if it listens.
    async fn greeted(
        mut child: Child,
        stream: io::Result<UnixStream>,
        files: WorkerFiles,
        cgroups: &Cgroups,
        patience: Duration,
    ) -> Result<Self, StartError> {
        let pid = child.pid();
        let socket = |why| StartError::Socket { path: files.socket(), why };
        let (serves, whom) = watch::channel(None);
        let (says, said) = watch::channel(false);
        // Before it reads a byte of a stream.
        let (cgroup, limited) = cgroups.place(pid);
        let mut out_of_memory = OutOfMemory { said, cgroup };
        if let Some(output) = child.take_output() {
            let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(output).map_err(socket)?;
            tokio::spawn(log_output(pid, pipe, whom, says));
        }
        #[expect(deprecated, reason = "sound here: a Child owns its pidfd for life")]
        let mut child = AsyncFd::new(child).map_err(socket)?;
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                bury(&mut child, &mut out_of_memory).await;
                return Err(socket(error));
            }
        };
        let (reader, writer) = stream.into_split();
        let mut reader = MessageReader::new(reader);
        let (mut ready, version) = match first_word(&mut reader, patience).await {
            Ok(greeting) => greeting,
            Err(text) => {
                bury(&mut child, &mut out_of_memory).await;
                return Err(StartError::NotReady { pid, text });
            }
        };
        ready.sandbox.push((Measure::Cgroup.as_str().to_owned(), limited));
        for (measure, state) in ready.sandbox.iter().filter(|(_, state)| state != "applied") {
            debug!(pid, measure, state, "sandbox measure");
        }
        let writer = MessageWriter::new(writer);
        let is_adopted = false;
        Ok(Self { child, reader, writer, serves, out_of_memory, ready, version, files, is_adopted })
    }

    /// Its socket is waited for where this is called from then on.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn move_here(&mut self) -> io::Result<()> {
        let socket: &UnixStream = self.reader.stream().as_ref();
        let socket = std::os::unix::net::UnixStream::from(socket.as_fd().try_clone_to_owned()?);
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        drop(self.reader.move_to(reader));
        // Dropped, it would end the conversation.
        self.writer.move_to(writer).forget();
        Ok(())
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
            waits: child.waits_for_the_host().unwrap_or(false),
            cpu: child.cpu_time().unwrap_or_default(),
        }
    }

    /// SIGKILLs it.
    pub fn kill(&self) {
        if let Err(error) = self.child.get_ref().kill() {
            debug!(pid = self.pid(), %error, "kill");
        }
    }

    /// SIGKILLs it and waits for a moment; whether it is gone.
    pub async fn end(&mut self) -> bool {
        self.kill();
        timeout(DEATH, self.died()).await.is_ok()
    }

    /// Waits until it is gone; why.
    pub async fn died(&mut self) -> EndReason {
        death_of(&mut self.child, &self.out_of_memory).await
    }
}

impl Drop for WorkerProcess {
    /// A worker that lives is left to the next daemon, with its files.
    fn drop(&mut self) {
        if !matches!(self.child.get_mut().try_wait(), Ok(None)) {
            self.files.remove();
            self.out_of_memory.remove_cgroup();
        }
    }
}

/// What a worker says first, which must be that it is ready, and what is spoken with it; else what happened instead.
async fn first_word(
    reader: &mut MessageReader<OwnedReadHalf>,
    patience: Duration,
) -> Result<(Ready, u32), String> {
    match timeout(patience, reader.next()).await {
        Ok(Ok(Some(Message::Ready(ready)))) => {
            let version = Versions::OURS.common(ready.speaks).map_err(|error| error.to_string())?;
            Ok((ready, version))
        }
        Ok(Ok(Some(_))) => Err("it said something else first".to_owned()),
        Ok(Ok(None)) => Err("it closed its socket".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("within {patience:?}")),
    }
}

/// Ends a process that nobody else knows of, which would stay a zombie.
async fn bury(child: &mut AsyncFd<Child>, out_of_memory: &mut OutOfMemory) {
    let _ = child.get_ref().kill();
    let _ = timeout(DEATH, death_of(child, out_of_memory)).await;
    out_of_memory.remove_cgroup();
}

/// Waits until the process is gone; why. Cancel-safe.
pub async fn death_of(child: &mut AsyncFd<Child>, out_of_memory: &OutOfMemory) -> EndReason {
    loop {
        // A process is asked about only once its descriptor says that it has ended: this is waited for beside every message.
        let Ok(mut ended) = child.readable_mut().await else {
            // The runtime is shutting down.
            return std::future::pending().await;
        };
        match ended.get_inner_mut().try_wait() {
            Ok(Some(death)) => return death.reason(out_of_memory.is_so()),
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
    let mut lines = BufReader::with_capacity(WORDS_BYTES, pipe).lines();
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
