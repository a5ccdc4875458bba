//! Logs: JSON lines when stderr is not a terminal, text for people when it is. What is logged can change while it runs.

use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{self as lines, MakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::log_lines::{LogLines, lost};

/// The filter in force; a process has one log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Names of levels, and the numbers that stand for them.
const LEVELS: [&str; 12] =
    ["off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5"];

/// What to log, such as `info` or `millrace_node=debug,info`: one that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct LogFilter(String);

impl LogFilter {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogFilter {
    type Err = LogsError;
    fn from_str(text: &str) -> Result<Self, LogsError> {
        let wrong = |why: &dyn fmt::Display| LogsError::Filter(text.to_owned(), why.to_string());
        EnvFilter::try_new(text).map_err(|error| wrong(&error))?;
        match unknown_word(text) {
            Some(word) => Err(wrong(&format_args!("{word:?} is no level"))),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for LogFilter {
    type Error = LogsError;
    fn try_from(text: String) -> Result<Self, LogsError> {
        text.parse()
    }
}

/// A word alone that is neither a level nor a program of ours. The filter would take it for the name of some part of the
/// program, and nothing would be logged.
fn unknown_word(text: &str) -> Option<&str> {
    if text.contains('[') {
        return None;
    }
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut alone = words.filter(|word| !word.contains('=') && !word.starts_with("millrace"));
    alone.find(|word| !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)))
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless stderr is a terminal.
    #[default]
    Auto,
    /// One JSON object a line; the fields of its spans in `spans`, outermost first.
    Json,
    /// For people.
    Text,
}

/// The filter cannot be read, or logs were started already.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Not a filter of the form `info` or `millrace_node=debug,info`.
    #[error(
        "log filter {0:?}: {1}; write a level (off, error, warn, info, debug, trace), or millrace_node=debug,info"
    )]
    Filter(String, String),
    /// A second call.
    #[error("logs were started already")]
    Again,
    /// A change before [`init_logs`].
    #[error("logs were not started")]
    NotStarted,
}

/// Lines that wait for whoever reads stderr; beyond that, the newest are left out and counted.
const WAITING_LINES: usize = 8_192;
/// Counts those that were left out.
static LEFT_OUT: OnceLock<ErrorCounter> = OnceLock::new();

/// Log lines are written until this is dropped; what waits then is, within a second.
#[derive(Debug)]
#[must_use]
pub struct LogThread {
    _writer: WorkerGuard,
}

/// Sends every event that passes `filter` to stderr, from a thread of its own: however slowly that is read, the program goes on.
///
/// # Errors
/// [`LogsError`]
pub fn init_logs(filter: &LogFilter, format: LogFormat) -> Result<LogThread, LogsError> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    let (lines, writer) = builder.thread_name("logs").finish(LogLines::new(io::stderr()));
    let left_out = lines.error_counter();
    init_logs_to(lines, filter, format)?;
    LEFT_OUT.set(left_out).map_err(|_| LogsError::Again)?;
    Ok(LogThread { _writer: writer })
}

/// Log lines that were left out so far, since nobody read stderr, or since it could not be written to.
pub(crate) fn lines_left_out() -> u64 {
    let unread = LEFT_OUT.get().map_or(0, |counter| counter.dropped_lines() as u64);
    unread + lost()
}

/// Sends every event that passes `filter` to stderr, from the thread that it happens on: for who may start no thread, and says little.
///
/// # Errors
/// [`LogsError`]
pub fn init_few_logs(filter: &LogFilter, format: LogFormat) -> Result<(), LogsError> {
    init_logs_to(io::stderr, filter, format)
}

fn init_logs_to<W>(to: W, filter: &LogFilter, format: LogFormat) -> Result<(), LogsError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parsed(filter)?);
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let (as_json, as_text) = match json {
        true => {
            // The current span is the last of the list: named apart, its fields would stand there twice.
            let layer = lines::layer()
                .log_internal_errors(false)
                .json()
                .flatten_event(true)
                .with_current_span(false);
            (Some(layer.with_writer(to)), None)
        }
        false => {
            let layer = lines::layer().log_internal_errors(false);
            (None, Some(layer.with_ansi(io::stderr().is_terminal()).with_writer(to)))
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(as_json)
        .with(as_text)
        .try_init()
        .map_err(|_| LogsError::Again)?;
    FILTER.set(handle).map_err(|_| LogsError::Again)
}

/// Logs what passes `filter` from now on.
///
/// # Errors
/// [`LogsError`]: the old filter stays.
pub fn set_log_filter(filter: &LogFilter) -> Result<(), LogsError> {
    let filter = parsed(filter)?;
    let handle = FILTER.get().ok_or(LogsError::NotStarted)?;
    handle.reload(filter).map_err(|_| LogsError::NotStarted)
}

fn parsed(filter: &LogFilter) -> Result<EnvFilter, LogsError> {
    let LogFilter(text) = filter;
    EnvFilter::try_new(text).map_err(|error| LogsError::Filter(text.clone(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_or_would_log_nothing_is_refused_with_what_to_write() {
        for wrong in ["a=b=c[", "verbose", "info,everything", "millrace_node=loud"] {
            let error = wrong.parse::<LogFilter>().unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("millrace_node=debug,info"), "{error}");
        }
        for right in ["INFO", "off", "", "millrace_node", "hyper=warn, debug", "[session]=trace"] {
            assert_eq!(right.parse::<LogFilter>().unwrap().as_str(), right);
        }
    }
}
