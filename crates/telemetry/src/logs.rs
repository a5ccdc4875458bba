//! Logs: JSON lines when stderr is not a terminal, text for people when it is.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless stderr is a terminal.
    #[default]
    Auto,
    /// One JSON object a line, spans' fields among them.
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
}

/// Sends every event at or above `filter` (such as `info`) to stderr.
///
/// # Errors
/// [`LogsError`]
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogsError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| LogsError::Filter(filter.to_owned(), error))?;
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let (as_json, as_text) = match json {
        true => (Some(fmt::layer().json().flatten_event(true).with_writer(io::stderr)), None),
        false => (None, Some(fmt::layer().with_writer(io::stderr))),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(as_json)
        .with(as_text)
        .try_init()
        .map_err(|_| LogsError::Again)
}
