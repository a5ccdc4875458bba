//! Whom the farm believes: a certificate counts when an authority of ours signed it, it is in its time, and its common name
//! says who one means. Addresses in it do not count: hosts change theirs, and a name is what rights are given to.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{Expected, Identity, IdentityError, Role};

/// A genuine certificate, but not of whom one means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongPeer {
    /// Who connects may not.
    #[error("{0} may not connect here")]
    MayNot(Identity),
    /// Whoever answers is somebody else.
    #[error("{found} answers, {expected} was meant")]
    SomebodyElse {
        /// Who it is.
        found: Identity,
        /// Who was meant.
        expected: Expected,
    },
    /// Nobody of the farm.
    #[error(transparent)]
    Nobody(#[from] IdentityError),
}

impl From<WrongPeer> for Error {
    fn from(wrong: WrongPeer) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
    }
}

/// What went wrong in a handshake, in our words where we have any.
pub(crate) fn in_words(error: &Error) -> String {
    let ours = match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let wrong = other.0.downcast_ref::<WrongPeer>().map(WrongPeer::to_string);
            wrong.or_else(|| of_an_authority(&other.0.to_string()))
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some("no authority that counts here signed the certificate".to_owned()),
        _ => None,
    };
    ours.unwrap_or_else(|| error.to_string())
}

/// webpki has no variant for it in rustls, only this word.
fn of_an_authority(said: &str) -> Option<String> {
    let what = "the server shows an authority's certificate as its own: make one with basicConstraints=CA:FALSE";
    said.contains("CaUsedAsEndEntity").then(|| what.to_owned())
}

fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, Error> {
    Ok(Identity::of_certificate(certificate).map_err(WrongPeer::from)?)
}

/// For who listens: takes certificates of some roles.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    roles: &'static [Role],
}

impl ClientVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        roles: &'static [Role],
    ) -> Result<Self, Error> {
        // No hints: a stranger need not know whom we trust.
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chain, roles })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let found = identity(end_entity)?;
        match self.roles.contains(&found.role) {
            true => Ok(verified),
            false => Err(WrongPeer::MayNot(found).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// For who connects: takes the certificate of whom one means.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) expected: Expected,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let found = identity(end_entity)?;
        match self.expected.fits(&found) {
            true => Ok(ServerCertVerified::assertion()),
            false => {
                let expected = self.expected.clone();
                Err(WrongPeer::SomebodyElse { found, expected }.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
