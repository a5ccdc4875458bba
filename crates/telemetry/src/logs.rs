//! Logs: JSON lines when stderr is not a terminal, text for people when it is. What is logged can change while it runs.

use std::{
    io::{self, IsTerminal},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The filter in force; a process has one log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What to log, such as `info` or `millrace_node=debug,info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilter(pub String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
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
    #[error("log filter {0:?}: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// A second call.
    #[error("logs were started already")]
    Again,
    /// A change before [`init_logs`].
    #[error("logs were not started")]
    NotStarted,
}

/// Sends every event at or above `filter` (such as `info`) to stderr.
///
/// # Errors
/// [`LogsError`]
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogsError> {
    let (filter, handle) = reload::Layer::new(parsed(filter)?);
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let (as_json, as_text) = match json {
        true => {
            // The current span is the last of the list: named apart, its fields would stand there twice.
            let layer = fmt::layer()
                .log_internal_errors(false)
                .json()
                .flatten_event(true)
                .with_current_span(false);
            (Some(layer.with_writer(io::stderr)), None)
        }
        false => (None, Some(fmt::layer().log_internal_errors(false).with_writer(io::stderr))),
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
pub fn set_log_filter(filter: &str) -> Result<(), LogsError> {
    let filter = parsed(filter)?;
    let handle = FILTER.get().ok_or(LogsError::NotStarted)?;
    handle.reload(filter).map_err(|_| LogsError::NotStarted)
}

fn parsed(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(filter).map_err(|error| LogsError::Filter(filter.to_owned(), error))
}
