//! Reads a certificate and its key, and says what TLS offers: 1.2 and 1.3, HTTP/2 before HTTP/1.1.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::TlsConfig;

/// The certificate or its key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{file}: {error}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// The two do not fit.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
}

/// An acceptor with the certificate of `config`.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let named = |path: &std::path::Path| {
        let file = path.display().to_string();
        move |error| TlsError::File { file, error }
    };
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(named(&config.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(named(&config.key))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
