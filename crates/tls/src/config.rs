//! Where certificates are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Files in PEM form by which the programs of a farm know each other. All three are read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmTlsConfig {
    /// Certificates of the authorities whose word counts; two while one replaces the other.
    pub ca: PathBuf,
    /// This program's certificate chain, its own first; the common name is its role and name, such as `node/gpu-3`.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}
