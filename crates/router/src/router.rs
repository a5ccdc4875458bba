//! Puts a router together: listeners, sessions, registration.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use millrace_registry::{Registry, RegistryError, RouterRecord};
use millrace_telemetry::{Metrics, Readiness, SystemClock};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    Config, admin,
    ingest::{IngestConfig, IngestServer, Limits},
    metrics::RouterMetrics,
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
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
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
}

impl Router {
    /// Takes no more publishers and tells those it has to connect again.
    pub async fn stop(self) {
        self.stop.cancel();
        self.sessions.stop().await;
        let _ = timeout(STOP_PATIENCE, self.ingest).await;
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
    let context = SessionContext {
        registry: registry.clone(),
        router: config.name.clone(),
        ladder: config.ladder.clone(),
        replay_bytes: usize::try_from(replay_bytes).unwrap_or(usize::MAX),
        metrics: RouterMetrics::new(&metrics),
        events,
        clock: SystemClock::new(),
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
    registry.put(&RouterRecord { router: config.name.clone(), admin, rtmp }).await?;
    readiness.set(true);
    info!(%rtmp, %admin, "router ready");
    Ok(Router { addresses, sessions, stop, ingest })
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
