//! What tools need to know of a running standalone, as one JSON file that appears whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// The ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Where to publish; the stream key is the last element of the path.
    pub rtmp: String,
    /// The same with TLS, when there is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtmps: Option<String>,
    /// A key that is accepted.
    pub stream_key: String,
    /// The stream that the key publishes.
    pub stream: String,
    /// The stream's multivariant playlist.
    pub playback: String,
    /// The stream's watch page.
    pub watch: String,
    /// API and console.
    pub api: String,
    /// Metrics, by program.
    pub metrics: MetricsUrls,
}

/// Where each program's metrics are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricsUrls {
    /// Router.
    pub router: String,
    /// Node.
    pub node: String,
    /// Origin.
    pub origin: String,
    /// API.
    pub api: String,
}

impl Ready {
    /// Writes the file under another name and renames it.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, self)
    }
}

/// Writes a value as JSON under another name and renames it.
///
/// # Errors
/// The directory cannot be written to.
pub fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let draft = draft_of(path);
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}
