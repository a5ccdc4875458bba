//! Reads a certificate and its key, offers TLS 1.2 and 1.3 with it, and takes a new one in its place.
//!
//! A handshake uses what was read last; connections that are open keep theirs.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

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
    /// Nobody to trust.
    #[error("{file}: {why}")]
    Authority {
        /// The file that names authorities.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate that cannot be this program's.
    #[error("{file}: {why}")]
    Identity {
        /// Its path.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The certificate of a listener.
#[derive(Debug)]
pub struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn load(files: &TlsConfig) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(read(&files.certificate, &files.key)?));
        Ok(Arc::new(Self { current }))
    }

    /// Reads both files again; every handshake from now on shows the new certificate.
    ///
    /// # Errors
    /// [`TlsError`]: the old one stays in use.
    pub fn reload(&self, files: &TlsConfig) -> Result<(), TlsError> {
        let new = Arc::new(read(&files.certificate, &files.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What a TLS listener needs; `protocols` are offered by ALPN (RFC 7301), best first.
    ///
    /// # Errors
    /// [`TlsError::Pair`] when the TLS library has no usable version.
    pub fn server_config(
        self: &Arc<Self>,
        protocols: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(server))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reads a chain and its key, and checks that they belong together.
pub(crate) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(certificate)?;
    let file = key.display().to_string();
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File { file, error })?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

/// Every certificate of a file.
pub(crate) fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    all.map_err(|error| TlsError::File { file: file.display().to_string(), error })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(files: &TlsConfig) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    fn shown(certificate: &Certificate) -> Vec<u8> {
        certificate.current.read().unwrap().cert[0].to_vec()
    }

    #[test]
    fn a_new_certificate_takes_the_place_of_the_old_one_and_a_broken_one_does_not() {
        let dir = std::env::temp_dir().join(format!("millrace-tls-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = TlsConfig { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        let first = write(&files);
        let certificate = Certificate::load(&files).unwrap();
        assert_eq!(shown(&certificate), first);
        let second = write(&files);
        assert_eq!(shown(&certificate), first, "nothing is read unasked");
        certificate.reload(&files).unwrap();
        assert_eq!(shown(&certificate), second);
        // The key of another certificate: caught between the two files of a renewal.
        let other = TlsConfig { certificate: dir.join("other.pem"), key: files.key.clone() };
        write(&other);
        let half = certificate.reload(&files).unwrap_err().to_string();
        fs::write(&files.key, "scrambled").unwrap();
        let broken = certificate.reload(&files).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(half.starts_with("certificate and key: "), "{half}");
        assert!(broken.contains("key.pem") && !broken.contains("scrambled"), "{broken}");
        assert_eq!(shown(&certificate), second);
    }
}
