//! Puts a router together: listeners, sessions, registration.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use millrace_registry::{Kept, Registry, RouterRecord};
use millrace_telemetry::{Metrics, Readiness, SystemClock, reached_at};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    Config, admin,
    ingest::{IngestConfig, IngestServer, Limits},
    metrics::RouterMetrics,
    origin_fence::OriginFence,
    placement::Fleet,
    session::SessionContext,
    sessions::Sessions,
};

/// Seconds of input at the highest bitrate that may be kept for a successor.
const REPLAY_SECONDS: u64 = 12;
/// Events that wait for the list of all.
const EVENTS: usize = 1024;
/// How long publishers may take to leave when the router stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A listener.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Where a running router listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For publishers.
    pub rtmp: SocketAddr,
    /// For operators and Prometheus.
    pub admin: SocketAddr,
}

/// A running router.
#[derive(Debug)]
pub struct Router {
    /// Where it listens.
    pub addresses: Addresses,
    sessions: Sessions,
    stop: CancellationToken,
    ingest: JoinHandle<()>,
    readiness: Readiness,
    kept: Kept<RouterRecord>,
}

impl Router {
    /// Takes no more publishers and tells those it has to connect again.
    pub async fn stop(self) {
        self.readiness.set(false);
        self.stop.cancel();
        self.sessions.stop().await;
        let _ = timeout(STOP_PATIENCE, self.ingest).await;
        self.kept.withdraw().await;
    }
}

/// Starts a router in background tasks. `metrics` may be shared with other programs in the process.
///
/// # Errors
/// [`RouterError`]
pub async fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Result<Router, RouterError> {
    let (rtmp_listener, rtmp) = listen("rtmp", config.listen_rtmp).await?;
    let (admin_listener, admin) = listen("admin", config.listen_admin).await?;
    let addresses = Addresses { rtmp, admin };
    let limits = Limits {
        bits_per_second: config.max_bitrate_kbps * 1000,
        connections_per_address: config.max_connections_per_address,
        connections: config.max_connections,
        ..Limits::default()
    };
    let (events, all_events) = mpsc::channel(EVENTS);
    let replay_bytes = config.max_bitrate_kbps * 1000 / 8 * REPLAY_SECONDS;
    let clock = SystemClock::new();
    let fleet = Fleet { registry: registry.clone(), breakers: watch::Sender::default(), clock };
    let context = SessionContext {
        registry: registry.clone(),
        fleet,
        fence: OriginFence::new(),
        router: config.name.clone(),
        ladder: config.ladder.clone(),
        replay_bytes: usize::try_from(replay_bytes).unwrap_or(usize::MAX),
        metrics: RouterMetrics::new(&metrics),
        events,
        clock,
    };
    let sessions = Sessions::start(context, all_events);
    let ingest =
        IngestServer::new(IngestConfig { limits, proxies: Vec::new() }, Arc::new(sessions.clone()));
    let (stop, readiness) = (CancellationToken::new(), Readiness::default());
    let stopped = stop.clone();
    let ingest = tokio::spawn(async move {
        ingest.serve(rtmp_listener, None, stopped.cancelled_owned()).await;
    });
    let pages = admin::routes(metrics, readiness.clone(), sessions.clone());
    tokio::spawn(async move { axum::serve(admin_listener, pages).await });
    let kept = registry.keep(&RouterRecord {
        router: config.name.clone(),
        admin: reached_at(admin, config.advertise),
        rtmp: reached_at(rtmp, config.advertise),
    });
    readiness.set(true);
    info!(%rtmp, %admin, "router ready");
    Ok(Router { addresses, sessions, stop, ingest, readiness, kept })
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), RouterError> {
    let failed = |source| RouterError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
