//! Reads a certificate and its key, offers TLS 1.2 and 1.3 with it, and takes a new one in its place.
//!
//! A handshake uses what was read last; connections that are open keep theirs.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::{error, warn};

use crate::TlsConfig;

/// A certificate that expires within this time is worth a warning whenever it is read.
pub(crate) const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

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
    /// The key is another certificate's.
    #[error("{certificate} and {key} do not belong together")]
    Apart {
        /// Path of the certificate.
        certificate: String,
        /// Path of the key.
        key: String,
    },
    /// The TLS library takes one of the two not.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
    /// Nobody takes it any more, or yet.
    #[error("{file}: {why}: issue a new one")]
    NotInItsTime {
        /// Its path.
        file: String,
        /// Until when it was, or from when it will be.
        why: String,
    },
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
    /// Reads both files. What is wrong with a certificate that can be shown all the same goes to the log: a listener whose
    /// certificate has expired is of more use than none.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn load(files: &TlsConfig) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(looked_at(files)?)) }))
    }

    /// Reads both files again; every handshake from now on shows the new certificate.
    ///
    /// # Errors
    /// [`TlsError`], [`TlsError::NotInItsTime`] among them: the old one stays in use.
    pub fn reload(&self, files: &TlsConfig) -> Result<(), TlsError> {
        files.check()?;
        let new = Arc::new(looked_at(files)?);
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

impl TlsConfig {
    /// Whether a listener could show this certificate, and clients would take it as far as its time goes.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn check(&self) -> Result<(), TlsError> {
        let read = read(&self.certificate, &self.key)?;
        let leaf = read.cert.first().and_then(|leaf| Leaf::of(leaf));
        leaf.map_or(Ok(()), |leaf| leaf.in_its_time(&self.certificate))
    }
}

/// Reads both files, and says what a person should know of the certificate.
fn looked_at(files: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    let read = read(&files.certificate, &files.key)?;
    if let Some(leaf) = read.cert.first().and_then(|leaf| Leaf::of(leaf)) {
        leaf.note(&files.certificate);
    }
    Ok(read)
}

/// What clients will look at in a certificate besides its name.
struct Leaf {
    is_authority: bool,
    from: String,
    until: String,
    is_early: bool,
    /// None once it is over.
    left: Option<Duration>,
}

impl Leaf {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
        let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
        Some(Self {
            is_authority: parsed.is_ca(),
            from: from.to_string(),
            until: until.to_string(),
            is_early: seconds(from.timestamp()) > now,
            left: seconds(until.timestamp()).checked_sub(now),
        })
    }

    fn in_its_time(&self, file: &Path) -> Result<(), TlsError> {
        let why = match (self.is_early, self.left) {
            (true, _) => format!("valid from {} on", self.from),
            (_, None) => format!("expired on {}", self.until),
            _ => return Ok(()),
        };
        Err(TlsError::NotInItsTime { file: file.display().to_string(), why })
    }

    fn note(&self, file: &Path) {
        let shown = file.display();
        if let Err(error) = self.in_its_time(file) {
            error!(%error, "clients refuse this certificate");
        } else if let Some(left) = self.left.filter(|left| *left < SOON) {
            let days = left.as_secs() / (24 * 3600);
            warn!(file = %shown, days, "certificate expires soon: issue a new one and send SIGHUP");
        }
        if self.is_authority {
            warn!(
                file = %shown,
                "the certificate is an authority's (CA:TRUE), which many clients refuse, `millrace --api` among them: make one with basicConstraints=CA:FALSE"
            );
        }
    }
}

/// Reads a chain and its key, and checks that they belong together.
pub(crate) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(certificate)?;
    if chain.is_empty() {
        let (file, why) = (certificate.display().to_string(), "no certificate in it".to_owned());
        return Err(TlsError::Identity { file, why });
    }
    let named = key.display().to_string();
    let key = PrivateKeyDer::from_pem_file(key);
    let key = key.map_err(|error| match error {
        pem::Error::NoItemsFound => {
            TlsError::Identity { file: named.clone(), why: "no private key in it".to_owned() }
        }
        error => TlsError::File { file: named.clone(), error },
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Apart { certificate: certificate.display().to_string(), key: named }
        }
        other => TlsError::Pair(other),
    })
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
        fs::write(&files.certificate, "nothing").unwrap();
        let empty = certificate.reload(&files).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(empty.ends_with("cert.pem: no certificate in it"), "{empty}");
        assert!(half.ends_with("do not belong together"), "{half}");
        assert!(broken.contains("key.pem") && !broken.contains("scrambled"), "{broken}");
        assert_eq!(shown(&certificate), second);
    }

    #[test]
    fn a_certificate_out_of_its_time_is_found_by_a_check_takes_no_place_and_closes_no_listener() {
        let dir = std::env::temp_dir().join(format!("millrace-tls-time-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = TlsConfig { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        let first = write(&files);
        let inside = Certificate::load(&files).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let checked = |from: i32, until: i32| {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            assert!(Certificate::load(&files).is_ok(), "{from} to {until}");
            let (checked, reloaded) = (files.check(), inside.reload(&files));
            assert_eq!(checked.is_ok(), reloaded.is_ok(), "{from} to {until}");
            checked.map_err(|error| error.to_string())
        };
        let (over, early) = (checked(2001, 2002).unwrap_err(), checked(2900, 2901).unwrap_err());
        assert_eq!(shown(&inside), first, "one in its time is kept");
        let now = checked(2001, 2900);
        fs::remove_dir_all(&dir).unwrap();
        assert!(over.contains("cert.pem: expired on Jan  1") && over.contains("2002"), "{over}");
        assert!(early.contains("valid from") && early.contains("2900"), "{early}");
        assert_eq!(now, Ok(()));
    }
}
