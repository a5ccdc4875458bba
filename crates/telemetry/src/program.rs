//! What the `main` of every program does besides its own work: says which arguments all of them take, starts the logs,
//! waits for signals, says when it is ready, and stops within a deadline.
//!
//! ```text
//! arguments → settings → begin → (build, announce) → ready → run, reloading on SIGHUP → drain → exit
//! ```

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    InForce, LogFilter, LogFormat, LogThread, SettingsError, Signals, Supervisor, Told, init_logs,
    raise_open_files, set_log_filter, try_whole, write_whole,
};

/// What every program can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ProgramArguments {
    /// Settings; without it those of /etc/millrace/<program>.toml, if it exists, else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Written once the program can work: its name and real addresses as JSON.
    #[arg(long, value_name = "FILE")]
    pub ready_json: Option<PathBuf>,
    /// What to log, such as `info` or `millrace_node=debug,info`; goes before `log` of the settings [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<LogFilter>,
}

impl ProgramArguments {
    fn filter<'a>(&'a self, in_file: &'a LogFilter) -> &'a LogFilter {
        self.log.as_ref().unwrap_or(in_file)
    }
}

/// The ready file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("--ready-json {}: {why}", path.display())]
pub struct ReadyFileError {
    /// Which.
    path: PathBuf,
    /// Why.
    why: io::Error,
}

/// A program between its first log line and its last.
#[derive(Debug)]
pub struct Program {
    ready_json: Option<PathBuf>,
    supervisor: Supervisor,
    signals: Signals,
    _logs: LogThread,
}

impl Program {
    /// Starts the logs by the flag or else by `log` of the settings, raises the limit of open files, listens for signals, removes the ready file of an earlier run
    /// and finds out whether a new one can be written, and tells whoever watches over the program that its runtime runs. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`SettingsError`]: a person must give something else.
    pub fn begin(arguments: &ProgramArguments, log: &LogFilter) -> Result<Self, SettingsError> {
        let logs = init_logs(arguments.filter(log), LogFormat::Auto).map_err(SettingsError::of)?;
        raise_open_files();
        let signals = Signals::new().map_err(SettingsError::of)?;
        let ready_json = arguments.ready_json.clone();
        if let Some(path) = &ready_json {
            let tried = remove(path).and_then(|()| try_whole(path));
            tried.map_err(ready_file(path)).map_err(SettingsError::of)?;
        }
        let supervisor = Supervisor::of_environment();
        supervisor.watch();
        Ok(Self { ready_json, supervisor, signals, _logs: logs })
    }

    /// Waits for `starting`; `None` when a signal came first.
    pub async fn start<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = starting => Some(started),
            () = self.signals.stop() => None,
        }
    }

    /// Says that the program can work, and where: in the ready file first, then to the supervisor.
    ///
    /// # Errors
    /// [`ReadyFileError`]
    pub fn ready(&self, ready: &impl Serialize) -> Result<(), ReadyFileError> {
        info!("ready");
        if let Some(path) = &self.ready_json {
            write_whole(path, ready).map_err(ready_file(path))?;
        }
        self.supervisor.ready();
        Ok(())
    }

    /// Waits for SIGTERM or SIGINT, and does `reload` at each SIGHUP before.
    pub async fn run(&mut self, mut reload: impl AsyncFnMut()) {
        while self.signals.next().await == Told::Reload {
            reload().await;
        }
    }

    /// Waits for `stopping`, but not beyond `patience` or a second signal.
    pub async fn drain(&mut self, patience: Duration, stopping: impl Future<Output = ()>) {
        self.supervisor.stopping();
        info!("stopping");
        tokio::select! {
            stopped = timeout(patience, stopping) => {
                if stopped.is_err() {
                    warn!(seconds = patience.as_secs(), "not everything stopped in time");
                }
            }
            () = self.signals.stop() => warn!("stopped at once by a second signal"),
        }
        if let Some(path) = &self.ready_json {
            let _ = remove(path);
        }
        info!("stopped");
    }
}

/// What of a program's settings counts after SIGHUP, when they can be read: the log filter here, unless a flag stands
/// before it, and whatever `apply` does with the rest. What cannot be used changes nothing and is a warning, as is what needs
/// a new start.
pub async fn reloaded<T: Serialize, E: fmt::Display>(
    arguments: &ProgramArguments,
    in_force: &InForce,
    read: Result<(LogFilter, T), impl fmt::Display>,
    apply: impl AsyncFnOnce(T) -> Result<(), E>,
) {
    let (log, settings) = match read {
        Ok(read) => read,
        Err(error) => return warn!(%error, "settings not reloaded"),
    };
    if let Err(error) = set_log_filter(arguments.filter(&log)) {
        warn!(%error, "log filter not reloaded");
    }
    in_force.warn_of_others(&settings);
    if let Err(error) = apply(settings).await {
        return warn!(%error, "certificate not reloaded, all else was");
    }
    info!(log = arguments.filter(&log).as_str(), "settings reloaded");
}

fn ready_file(path: &Path) -> impl FnOnce(io::Error) -> ReadyFileError {
    let path = path.to_path_buf();
    move |why| ReadyFileError { path, why }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
            log: Some("warn".parse().unwrap()),
        };
        let program = Program::begin(&arguments, &LogFilter::default()).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left of the try");
        program.ready(&["127.0.0.1:1"]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  \"127.0.0.1:1\"\n]\n");
        let tried = try_whole(&dir.join("missing/ready.json"));
        let directory = try_whole(&dir);
        fs::remove_dir_all(dir).unwrap();
        assert!(tried.is_err() && directory.is_err());
    }
}
