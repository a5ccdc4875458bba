//! What the `main` of every program does besides its own work: says which arguments all of them take, starts the logs,
//! waits for signals, says when it is ready, and stops within a deadline.
//!
//! ```text
//! arguments → settings → begin → (build, announce) → ready → until a signal → drain → exit
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tracing::{info, warn};

use crate::{LogFormat, LogsError, Supervisor, init_logs};

/// What every program can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ProgramArguments {
    /// Settings; without it those of /etc/millrace/<program>.toml, if it exists, else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Written once the program can work: its name and real addresses as JSON.
    #[arg(long, value_name = "FILE")]
    pub ready_json: Option<PathBuf>,
    /// What to log, such as `info` or `millrace_node=debug,info`.
    #[arg(long, default_value = "info")]
    pub log: String,
}

/// A program cannot begin, or cannot say that it has.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The logs.
    #[error("--log: {0}")]
    Logs(#[from] LogsError),
    /// The ready file, or the handlers of signals.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// A program between its first log line and its last.
#[derive(Debug)]
pub struct Program {
    ready_json: Option<PathBuf>,
    supervisor: Supervisor,
    terminate: Signal,
    interrupt: Signal,
}

impl Program {
    /// Starts the logs, listens for signals, removes the ready file of an earlier run, and tells whoever watches over the
    /// program that its runtime runs. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ProgramError`]
    pub fn begin(arguments: &ProgramArguments) -> Result<Self, ProgramError> {
        init_logs(&arguments.log, LogFormat::Auto)?;
        let listen = |kind| {
            signal(kind).map_err(|source| ProgramError::Io { what: "signals".to_owned(), source })
        };
        let (terminate, interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let ready_json = arguments.ready_json.clone();
        if let Some(path) = &ready_json {
            remove(path).map_err(named(path))?;
        }
        let supervisor = Supervisor::of_environment();
        supervisor.watch();
        Ok(Self { ready_json, supervisor, terminate, interrupt })
    }

    /// Waits for `starting`; `None` when a signal came first.
    pub async fn start<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = starting => Some(started),
            () = self.signal() => None,
        }
    }

    /// Says that the program can work, and where: in the ready file first, then to the supervisor.
    ///
    /// # Errors
    /// [`ProgramError::Io`] when the ready file cannot be written.
    pub fn ready(&self, ready: &impl Serialize) -> Result<(), ProgramError> {
        info!("ready");
        if let Some(path) = &self.ready_json {
            write_whole(path, ready).map_err(named(path))?;
        }
        self.supervisor.ready();
        Ok(())
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Runs until a signal, then waits for `stopping`, but not beyond `patience` or a second signal.
    pub async fn drain(&mut self, patience: Duration, stopping: impl Future<Output = ()>) {
        self.signal().await;
        self.supervisor.stopping();
        info!("stopping");
        tokio::select! {
            stopped = timeout(patience, stopping) => {
                if stopped.is_err() {
                    warn!(seconds = patience.as_secs(), "not everything stopped in time");
                }
            }
            () = self.signal() => warn!("stopped at once by a second signal"),
        }
        if let Some(path) = &self.ready_json {
            let _ = remove(path);
        }
        info!("stopped");
    }
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> ProgramError {
    let what = path.display().to_string();
    move |source| ProgramError::Io { what, source }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Under another name first: whoever waits for the file finds it whole or not at all.
fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let mut draft = path.file_name().unwrap_or_default().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(draft);
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ready_file_of_an_earlier_run_is_gone_until_the_program_is_ready() {
        let dir = std::env::temp_dir().join(format!("millrace-program-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ready.json");
        fs::write(&path, "old").unwrap();
        let arguments = ProgramArguments {
            config: None,
            ready_json: Some(path.clone()),
            log: "warn".to_owned(),
        };
        let program = Program::begin(&arguments).unwrap();
        assert!(!path.exists());
        program.ready(&["127.0.0.1:1"]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  \"127.0.0.1:1\"\n]\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
