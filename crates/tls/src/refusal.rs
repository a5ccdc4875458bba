//! Why somebody who connects is turned away: a closed set, counted, and written so rarely that strangers cannot fill a disk.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use millrace_telemetry::{Clock, LineLimit, Metrics, SystemClock};
use rustls::{CertificateError, Error};
use tracing::warn;

use crate::{metrics::FarmMetrics, verifier::WrongPeer};

/// Why a peer was turned away. `as_str` is the metric label and the log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// It does not speak TLS.
    NotTls,
    /// It showed no certificate.
    NoCertificate,
    /// No authority of ours signed what it showed.
    UnknownAuthority,
    /// Its certificate is not in its time.
    Expired,
    /// It is of the farm, but not for this listener.
    WrongRole,
    /// Its certificate names nobody of the farm.
    NoIdentity,
    /// It took too long.
    Late,
    /// Too many others were being looked at.
    Busy,
    /// The handshake broke otherwise.
    Broken,
}

impl PeerRefusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NotTls,
        Self::NoCertificate,
        Self::UnknownAuthority,
        Self::Expired,
        Self::WrongRole,
        Self::NoIdentity,
        Self::Late,
        Self::Busy,
        Self::Broken,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::WrongRole => "wrong_role",
            Self::NoIdentity => "no_identity",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Broken => "broken",
        }
    }

    /// What broke a handshake.
    pub(crate) fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(Error::InvalidCertificate(why)) => Self::of_certificate(why),
            _ => Self::Broken,
        }
    }

    fn of_certificate(why: &CertificateError) -> Self {
        use CertificateError as E;
        match why {
            E::Expired
            | E::ExpiredContext { .. }
            | E::NotValidYet
            | E::NotValidYetContext { .. } => Self::Expired,
            E::UnknownIssuer | E::BadSignature => Self::UnknownAuthority,
            E::Other(other) => match other.0.downcast_ref::<WrongPeer>() {
                Some(WrongPeer::Nobody(_)) => Self::NoIdentity,
                Some(_) => Self::WrongRole,
                None => Self::Broken,
            },
            _ => Self::Broken,
        }
    }
}

/// Counts and writes refusals.
#[derive(Debug)]
pub(crate) struct RefusalLog {
    clock: SystemClock,
    limits: Mutex<[LineLimit; PeerRefusal::ALL.len()]>,
    metrics: FarmMetrics,
}

impl RefusalLog {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            clock: SystemClock::new(),
            limits: Mutex::default(),
            metrics: FarmMetrics::new(metrics),
        }
    }

    pub(crate) fn metrics(&self) -> &FarmMetrics {
        &self.metrics
    }

    /// Says that `peer` was turned away at the listener of that name.
    pub(crate) fn say(&self, listener: &str, peer: SocketAddr, refusal: PeerRefusal, detail: &str) {
        let reason = refusal.as_str();
        self.metrics.refused_peers.with_label_values(&[reason]).inc();
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = limits[refusal as usize].admit(self.clock.mono()) else { return };
        drop(limits);
        let left_out = (left_out > 0).then_some(left_out);
        warn!(listener, %peer, reason, detail, left_out, "peer refused");
    }
}
