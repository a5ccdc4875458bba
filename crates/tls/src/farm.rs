//! One program's place in the farm: the certificate it shows, the authorities it trusts, and the handshakes of both ends.
//!
//! A handshake uses what was read last; connections that are open keep theirs. Nothing is resumed: each connection proves
//! anew who is at its ends.

use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use millrace_telemetry::Metrics;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{ServerName, UnixTime},
    server::{NoServerSessionStorage, danger::ClientCertVerifier as _},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use tokio::net::{TcpStream, ToSocketAddrs};
use tracing::{info, warn};

use crate::{
    Expected, FarmStream, FarmTlsConfig, Identity, Role, Secured, TlsError,
    certificate::{SOON, read, read_chain},
    refusal::RefusalLog,
    verifier::{ClientVerifier, ServerVerifier, in_words},
};

/// What was read last.
#[derive(Clone, Debug)]
struct Loaded {
    own: Arc<CertifiedKey>,
    identity: Identity,
    roots: Arc<RootCertStore>,
}

/// A program's certificate in the farm. Programs share it in an [`Arc`].
#[derive(Debug)]
pub struct FarmTls {
    files: FarmTlsConfig,
    expected: Expected,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<Loaded>>,
    refusals: RefusalLog,
}

impl FarmTls {
    /// [`Self::load`] where there are files; without them the farm has no TLS.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn of(
        files: Option<&FarmTlsConfig>,
        expected: Expected,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        files.map(|files| Self::load(files, expected, metrics)).transpose()
    }

    /// Reads the files and checks that they are of use: certificate and key fit, an authority of `ca` signed them for
    /// both ends of a connection, and they are for `expected`.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn load(
        files: &FarmTlsConfig,
        expected: Expected,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let refusals = RefusalLog::new(metrics);
        let loaded = load(files, &expected, &provider, &refusals)?;
        let current = RwLock::new(Arc::new(loaded));
        Ok(Arc::new(Self { files: files.clone(), expected, provider, current, refusals }))
    }

    /// Reads the files again; every handshake from now on goes by them.
    ///
    /// # Errors
    /// [`TlsError`]: the old ones stay in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = load(&self.files, &self.expected, &self.provider, &self.refusals)?;
        let identity = new.identity.clone();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        info!(%identity, "certificate of the farm read again");
        Ok(())
    }

    /// Who this program is.
    pub fn identity(&self) -> Identity {
        self.current().identity.clone()
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    /// The handshake of who listens, for peers of these roles.
    ///
    /// # Errors
    /// Those of the handshake.
    pub async fn accept(
        &self,
        tcp: TcpStream,
        roles: &'static [Role],
    ) -> io::Result<(FarmStream, Identity)> {
        let server = self.server(roles).map_err(io::Error::other)?;
        let stream = Secured::accept(server, tcp).await?;
        let identity = peer(&stream)?;
        Ok((FarmStream::Secured(Box::new(stream)), identity))
    }

    /// The handshake of who connects, for that peer.
    ///
    /// # Errors
    /// Those of the handshake. A peer that does not want us says so only afterwards: the first read then fails.
    pub async fn connect(&self, tcp: TcpStream, expected: Expected) -> io::Result<FarmStream> {
        // An address is not sent along, so that the name of whom we look for is not seen on the way.
        let name = ServerName::from(tcp.peer_addr()?.ip());
        let client = self.client(expected).map_err(io::Error::other)?;
        let stream = Secured::connect(client, name, tcp).await;
        let stream = stream.map_err(|error| io::Error::new(error.kind(), told(&error)))?;
        Ok(FarmStream::Secured(Box::new(stream)))
    }

    fn server(&self, roles: &'static [Role]) -> Result<ServerConfig, rustls::Error> {
        let Loaded { own, roots, .. } = &*self.current();
        let verifier = ClientVerifier::new(roots.clone(), self.provider.clone(), roles)?;
        let mut server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(server)
    }

    fn client(&self, expected: Expected) -> Result<ClientConfig, rustls::Error> {
        let Loaded { own, roots, .. } = &*self.current();
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = ServerVerifier { roots: roots.clone(), algorithms, expected };
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

/// Connects to a program of the farm: with TLS where there is any.
///
/// # Errors
/// Those of the connection or of the handshake.
pub async fn connect(
    tls: Option<&FarmTls>,
    address: impl ToSocketAddrs,
    expected: Expected,
) -> io::Result<FarmStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    match tls {
        None => Ok(FarmStream::Plain(tcp)),
        Some(tls) => tls.connect(tcp, expected).await,
    }
}

/// What an error of a handshake says to people.
pub(crate) fn told(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.map_or_else(|| error.to_string(), in_words)
}

fn peer(stream: &Secured) -> io::Result<Identity> {
    let shown = stream.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or_else(|| io::Error::other("no certificate was shown"))?;
    Identity::of_certificate(shown).map_err(io::Error::other)
}

fn load(
    files: &FarmTlsConfig,
    expected: &Expected,
    provider: &Arc<CryptoProvider>,
    refusals: &RefusalLog,
) -> Result<Loaded, TlsError> {
    let roots = Arc::new(roots(&files.ca)?);
    let own = Arc::new(read(&files.certificate, &files.key)?);
    let wrong =
        |why: String| TlsError::Identity { file: files.certificate.display().to_string(), why };
    let Some((leaf, rest)) = own.cert.split_first() else {
        return Err(wrong("no certificate in it".to_owned()));
    };
    let identity = Identity::of_certificate(leaf).map_err(|error| wrong(error.to_string()))?;
    if !expected.fits(&identity) {
        return Err(wrong(format!("it is for {identity}, and this is {expected}")));
    }
    // As our peers will: they are shown it by who listens and by who connects.
    let roles: &'static [Role] = &Role::ALL;
    let signed = ClientVerifier::new(roots.clone(), provider.clone(), roles)
        .and_then(|verifier| verifier.verify_client_cert(leaf, rest, UnixTime::now()));
    signed.map_err(|error| {
        wrong(format!("{} (authorities: {})", in_words(&error), files.ca.display()))
    })?;
    let algorithms = provider.signature_verification_algorithms;
    let verifier = ServerVerifier { roots: roots.clone(), algorithms, expected: expected.clone() };
    let here = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    rustls::client::danger::ServerCertVerifier::verify_server_cert(
        &verifier,
        leaf,
        rest,
        &here,
        &[],
        UnixTime::now(),
    )
    .map_err(|error| {
        wrong(format!("{} (authorities: {})", in_words(&error), files.ca.display()))
    })?;
    note_expiry(leaf, &identity, refusals);
    Ok(Loaded { own, identity, roots })
}

/// Whether the file names authorities.
///
/// # Errors
/// [`TlsError`]
pub fn check_authorities(file: &Path) -> Result<(), TlsError> {
    roots(file).map(drop)
}

/// The authorities of a file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |why: String| TlsError::Authority { file: file.display().to_string(), why };
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(file)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("no certificate in it".to_owned())),
        false => Ok(roots),
    }
}

fn note_expiry(leaf: &[u8], identity: &Identity, refusals: &RefusalLog) {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return };
    let until = parsed.validity().not_after;
    refusals.metrics().certificate_expiry.set(until.timestamp());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = u64::try_from(until.timestamp()).unwrap_or(0).saturating_sub(now.as_secs());
    if left < SOON.as_secs() {
        let days = left / (24 * 3600);
        warn!(%identity, days, "certificate of the farm expires soon: issue a new one and send SIGHUP");
    }
}
