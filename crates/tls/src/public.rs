//! HTTP for people and their tools: a listener that anybody may reach by TLS, and this host also without; and the connections of
//! who asks one.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower_service::Service;
use tracing::debug;

use crate::{
    Certificate, FarmStream, Peer, Socket, TlsError,
    connector::{address, late},
    farm::{roots, told},
    listener::{Admit, HANDSHAKE_TIMEOUT, speaks_plain},
};

/// Where Debian's `ca-certificates` keeps the authorities that a host trusts.
const AUTHORITIES_OF_THE_HOST: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Lets anybody in who speaks TLS, and this host also without.
#[derive(Clone)]
pub struct PublicGate(TlsAcceptor);

impl std::fmt::Debug for PublicGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicGate")
    }
}

impl PublicGate {
    /// By that certificate, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`TlsError::Pair`]
    pub fn new(certificate: &Arc<Certificate>) -> Result<Self, TlsError> {
        Ok(Self(TlsAcceptor::from(certificate.server_config(&[b"h2", b"http/1.1"])?)))
    }
}

impl Admit for PublicGate {
    async fn admit(self, tcp: TcpStream, address: SocketAddr) -> Option<(FarmStream, Peer)> {
        let look = async {
            if address.ip().to_canonical().is_loopback() && speaks_plain(&tcp).await? {
                return Ok(FarmStream::Plain(tcp));
            }
            let stream = self.0.accept(Socket::new(tcp)).await?;
            Ok::<_, io::Error>(FarmStream::Tls(Box::new(stream.into())))
        };
        let stream = timeout(HANDSHAKE_TIMEOUT, look).await.map_err(late).flatten();
        let refused = |error: &io::Error| debug!(%address, %error, "no handshake");
        Some((stream.inspect_err(refused).ok()?, Peer { address, identity: None }))
    }

    fn busy(&self, address: SocketAddr) {
        debug!(%address, "too many handshakes");
    }
}

/// Connects hyper's client to servers that authorities vouch for by name, or without TLS where the URL says `http`.
#[derive(Clone, Debug)]
pub struct WebConnector {
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

impl WebConnector {
    /// For `http` only. Connecting may take `patience`, handshake included.
    pub fn plain(patience: Duration) -> Self {
        Self { tls: None, patience }
    }

    /// For `https` as well, to servers with a certificate from an authority in the PEM file `ca`, or from one that this host
    /// trusts.
    ///
    /// # Errors
    /// [`TlsError`]: no authority could be read.
    pub fn trusting(ca: Option<&Path>, patience: Duration) -> Result<Self, TlsError> {
        let roots = match ca {
            Some(ca) => roots(ca)?,
            None => roots_of_the_host()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(Arc::new(config)), patience })
    }
}

/// Whoever answers does not speak TLS: found in the cause of an error of [`WebConnector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what listens there does not speak TLS")]
pub struct NotTls;

/// Its first words are none of TLS, or it hung up at ours.
fn is_not_tls(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

fn roots_of_the_host() -> Result<RootCertStore, TlsError> {
    let none = |why: String| TlsError::Authority { file: AUTHORITIES_OF_THE_HOST.to_owned(), why };
    let text = fs::read(AUTHORITIES_OF_THE_HOST).map_err(|error| none(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    // A bundle of everybody's holds odd ones, too.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    match roots.is_empty() {
        true => Err(none("no certificate in it".to_owned())),
        false => Ok(roots),
    }
}

impl Service<Uri> for WebConnector {
    type Response = TokioIo<FarmStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { tls, patience } = self.clone();
        Box::pin(async move {
            let connecting = async {
                let (host, port) = address(&uri)?;
                let tcp = TcpStream::connect((host, port)).await?;
                if uri.scheme_str() != Some("https") {
                    return Ok(FarmStream::Plain(tcp));
                }
                let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
                let tls = tls.ok_or_else(|| invalid("no authorities to ask".to_owned()))?;
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|error| invalid(format!("{host}: {error}")))?;
                let stream = TlsConnector::from(tls).connect(name, Socket::new(tcp)).await;
                let stream = stream.map_err(|error| match is_not_tls(&error) {
                    true => io::Error::other(NotTls),
                    false => io::Error::new(error.kind(), told(&error)),
                })?;
                Ok::<_, io::Error>(FarmStream::Tls(Box::new(stream.into())))
            };
            Ok(TokioIo::new(timeout(patience, connecting).await.map_err(late)??))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::TlsConfig;

    /// What comes of who connects from `address` and sends that.
    async fn admitted(gate: &PublicGate, address: &str, sends: &[u8]) -> Option<FarmStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(sends).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let admitted = gate.clone().admit(tcp, address.parse().unwrap()).await;
        let mut rest = Vec::new();
        if admitted.is_none() {
            // Closed, with no word of HTTP.
            client.read_to_end(&mut rest).await.unwrap_or_default();
            assert!(!rest.starts_with(b"HTTP"));
        }
        admitted.map(|(stream, _)| stream)
    }

    #[tokio::test]
    async fn without_tls_only_this_host_is_let_in() {
        let dir = std::env::temp_dir().join(format!("millrace-public-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsConfig { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let gate = PublicGate::new(&Certificate::load(&files).unwrap()).unwrap();
        let ask = b"GET / HTTP/1.1\r\n\r\n";
        let here = admitted(&gate, "127.0.0.1:1", ask).await;
        assert!(matches!(here, Some(FarmStream::Plain(_))), "{here:?}");
        assert!(admitted(&gate, "192.0.2.7:1", ask).await.is_none());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |host| format!("https://{host}:{}/", listener.local_addr().unwrap().port());
        let mut trusting =
            WebConnector::trusting(Some(&files.certificate), Duration::from_secs(3)).unwrap();
        let mut connect = async |host| {
            let asking = trusting.call(url(host).parse().unwrap());
            let serving = async {
                let (tcp, _) = listener.accept().await.unwrap();
                gate.clone().admit(tcp, "192.0.2.7:1".parse().unwrap()).await
            };
            let (asked, served) = tokio::join!(asking, serving);
            asked.map(|_| served.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(connect("localhost").await, Ok(true));
        let other = connect("127.0.0.1").await.unwrap_err();
        let plain = async |answer: &'static [u8]| {
            let mut trusting =
                WebConnector::trusting(Some(&files.certificate), Duration::from_secs(3)).unwrap();
            let serving = async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tcp.read_u8().await.unwrap();
                tcp.write_all(answer).await.unwrap();
                tcp.shutdown().await.unwrap();
                while tcp.read(&mut [0; 512]).await.unwrap_or(0) > 0 {}
            };
            let (asked, ()) =
                tokio::join!(trusting.call(url("localhost").parse().unwrap()), serving);
            asked.unwrap_err().get_ref().and_then(|inner| inner.downcast_ref::<NotTls>()).copied()
        };
        let plain = [plain(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, plain(b"").await];
        fs::remove_dir_all(&dir).unwrap();
        assert!(other.contains("not valid for name"), "{other}");
        assert_eq!(plain, [Some(NotTls); 2]);
    }
}
