//! What tools need to know of a running standalone, as one JSON file that appears whole or not at all.

use std::{fs, io, path::Path};

use millrace_telemetry::{try_whole, write_whole};
use serde::Serialize;

use crate::prerequisite::Prerequisite;

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
    /// The same with TLS, when there is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playback_tls: Option<String>,
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
    /// Writes the file. Only its owner can read it: there is a stream key in it.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, self)
    }
}

/// Finds out, before anything is started, whether the file can be written, and removes that of an earlier run, which must
/// not be mistaken for ours.
///
/// # Errors
/// A [`Prerequisite`] that names the path.
pub fn prepare(path: &Path) -> Result<(), Prerequisite> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let tried = removed.and_then(|()| try_whole(path));
    tried.map_err(|error| Prerequisite(format!("--ready-json {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_path_that_cannot_be_written_is_found_out_first_and_the_file_is_its_owners() {
        let dir = std::env::temp_dir().join(format!("millrace-ready-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("ready.json");
        fs::write(&path, "old").unwrap();
        prepare(&path).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left of the try");
        write_whole(&path, &["new"]).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        for bad in [dir.join("missing/ready.json"), dir.clone()] {
            let error = prepare(&bad).unwrap_err().to_string();
            assert!(error.contains(&format!("--ready-json {}", bad.display())), "{error}");
        }
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(mode, 0o600);
    }
}
