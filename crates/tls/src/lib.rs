//! Certificates of our TLS listeners: read from files, and replaced while connections are open.

mod certificate;
mod config;

pub use certificate::{Certificate, TlsError};
pub use config::TlsConfig;
