//! Puts a router together: listeners, sessions, registration.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use millrace_registry::{
    Kept, NodeRecord, NodeState, OriginRecord, OwnSettings, Registry, RouterRecord,
};
use millrace_telemetry::{
    DecisionLog, ListenError, Metrics, Readiness, RelayThreads, SettingsError, SystemClock, apart,
    files_for_publishers, listen, reachable, reached_at, reached_from_here_only, within,
};
use millrace_tls::{
    Certificate, Expected, FarmTls, FarmTlsConfig, Role, TlsConfig, TlsError, serve_admin,
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Config, admin, deserted, hot,
    ingest::{IngestConfig, IngestMetrics, IngestServer, Limits},
    metrics::RouterMetrics,
    moves,
    origin_fence::OriginFence,
    placement::Fleet,
    regain,
    session::SessionContext,
    sessions::Sessions,
};

/// Seconds of input at the highest bitrate that may be kept for a successor.
const REPLAY_SECONDS: u64 = 12;
/// The most that `max_bitrate_kbps` may be: ten gigabits a second.
const MAX_KBPS: u64 = 10_000_000;
/// The most that a limit of connections may be; the kernel gives a process no more descriptors.
const MAX_CONNECTIONS: usize = 1 << 30;
/// How long publishers may take to leave when the router stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No RTMPS with this certificate.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// No place in the farm with this certificate.
    #[error("farm_tls: {0}")]
    FarmTls(TlsError),
}

/// Where a running router listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For publishers.
    pub rtmp: SocketAddr,
    /// For publishers with TLS, when there is a certificate.
    pub rtmps: Option<SocketAddr>,
    /// For operators and Prometheus.
    pub admin: SocketAddr,
}

/// What a router shows to whom; each where it is set.
#[derive(Debug)]
struct Certificates {
    /// To publishers.
    public: Option<Arc<Certificate>>,
    /// To the farm.
    farm: Option<Arc<FarmTls>>,
}

impl Certificates {
    fn read(config: &Config, metrics: &Metrics) -> Result<Self, RouterError> {
        let public = config.tls.as_ref().map(Certificate::load).transpose()?;
        let own = Expected::named(Role::Router, config.name.clone());
        let farm = FarmTls::of(config.farm_tls.as_ref(), own, metrics);
        Ok(Self { public, farm: farm.map_err(RouterError::FarmTls)? })
    }
}

impl OwnSettings for Config {
    const RELOADED: &'static [&'static str] =
        &["max_bitrate_kbps", "max_connections", "max_connections_per_address", "tls"];

    type Error = RouterError;

    fn farm_tls(&self) -> Option<&FarmTlsConfig> {
        self.farm_tls.as_ref()
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut listeners =
            vec![("listen_rtmp", self.listen_rtmp), ("listen_admin", self.listen_admin)];
        listeners.extend(self.tls.is_some().then_some(("listen_rtmps", self.listen_rtmps)));
        listeners
    }

    fn doubts(&self) -> Vec<String> {
        match self.farm_tls.is_some() {
            true => reached_from_here_only(&self.listeners(), self.advertise),
            // Without certificates the farm is on this host.
            false => Vec::new(),
        }
    }

    fn values(&self) -> Result<(), SettingsError> {
        let per_address = self.max_connections_per_address;
        SettingsError::all([
            reachable(self.advertise),
            within("max_bitrate_kbps", self.max_bitrate_kbps, 1..=MAX_KBPS),
            within("max_connections", self.max_connections, 1..=MAX_CONNECTIONS),
            within("max_connections_per_address", per_address, 1..=MAX_CONNECTIONS),
            within("hot.viewers", self.hot.viewers, 1..=u64::MAX),
            within("hot.share_percent", self.hot.share_percent, 0..=100),
        ])
    }

    fn files(&self) -> Result<(), RouterError> {
        Certificates::read(self, &Metrics::new())?;
        Ok(self.tls.as_ref().map_or(Ok(()), TlsConfig::check)?)
    }
}

/// A running router.
#[derive(Debug)]
pub struct Router {
    /// Where it listens.
    pub addresses: Addresses,
    pub(crate) sessions: Sessions,
    tls: Certificates,
    ingest: IngestServer<Sessions>,
    stop: CancellationToken,
    listeners: JoinSet<()>,
    readiness: Readiness,
    kept: Kept<RouterRecord>,
}

impl Router {
    /// Takes no more publishers and tells those it has to connect again.
    pub async fn stop(mut self) {
        self.readiness.stopping();
        self.stop.cancel();
        self.sessions.stop().await;
        let gone = async { while self.listeners.join_next().await.is_some() {} };
        let _ = timeout(STOP_PATIENCE, gone).await;
        self.kept.withdraw().await;
    }

    /// Puts the limits and the certificates of `config` in force; all else needs a new start. Publishers who are in keep
    /// the limits they came in under.
    ///
    /// # Errors
    /// A certificate that cannot be used: the old one stays, the limits hold.
    pub async fn reload(&self, config: &Config) -> Result<(), TlsError> {
        self.ingest.set_limits(limits(config));
        self.sessions.set_replay_bytes(replay_bytes(config)).await;
        self.tls.farm.as_ref().map_or(Ok(()), |farm| farm.reload())?;
        match (&self.tls.public, &config.tls) {
            (Some(certificate), Some(files)) => certificate.reload(files),
            (None, None) => Ok(()),
            _ => {
                warn!("rtmps is turned on and off by a new start only");
                Ok(())
            }
        }
    }
}

/// Starts a router in background tasks; its streams run on `threads`. `metrics` may be shared with other programs in the process.
///
/// # Errors
/// [`RouterError`]
pub fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
    threads: RelayThreads,
) -> Pin<Box<dyn Future<Output = Result<Router, RouterError>> + Send>> {
    Box::pin(begin(config, registry, metrics, threads))
}

/// Boxed by [`start`], so that it is built here, and not once more in every program and test that starts one.
async fn begin(
    config: Config,
    registry: Registry,
    metrics: Metrics,
    threads: RelayThreads,
) -> Result<Router, RouterError> {
    apart(&config.listeners())?;
    let tls = Certificates::read(&config, &metrics)?;
    let (rtmp_listener, rtmp) = listen("listen_rtmp", config.listen_rtmp).await?;
    let mut listeners = vec![(rtmp_listener, None)];
    let mut rtmps = None;
    if let Some(certificate) = &tls.public {
        let (listener, address) = listen("listen_rtmps", config.listen_rtmps).await?;
        listeners.push((listener, Some(certificate.server_config(&[])?)));
        rtmps = Some(address);
    }
    let (admin_tcp, admin) = listen("listen_admin", config.listen_admin).await?;
    let addresses = Addresses { rtmp, rtmps, admin };
    let decisions = DecisionLog::new(config.name.clone());
    let (stop, heats) = (CancellationToken::new(), watch::Sender::default());
    let router_metrics = RouterMetrics::new(&metrics);
    let looking = hot::Looking {
        registry: registry.clone(),
        router: config.name.clone(),
        config: config.hot.clone(),
        metrics: router_metrics.clone(),
        clock: SystemClock::new(),
    };
    let heated = heats.subscribe();
    let sessions =
        sessions(&config, &registry, router_metrics, &decisions, tls.farm.clone(), heated);
    tokio::spawn(looking.run(heats, stop.clone()));
    let looking = deserted::Looking {
        registry: registry.clone(),
        router: config.name.clone(),
        decisions: decisions.clone(),
        clock: SystemClock::new(),
    };
    tokio::spawn(looking.run(sessions.clone(), stop.clone()));
    tokio::spawn(moves::run(registry.clone(), sessions.clone(), SystemClock::new(), stop.clone()));
    tokio::spawn(regain::run(registry.clone(), sessions.clone(), SystemClock::new(), stop.clone()));
    let ingest = IngestConfig { limits: limits(&config), proxies: config.proxies.clone(), threads };
    let ingest =
        IngestServer::new(ingest, Arc::new(sessions.clone()), IngestMetrics::new(&metrics));
    let readiness = Readiness::default();
    let serve =
        |(listener, tls)| ingest.clone().serve(listener, tls, stop.clone().cancelled_owned());
    let listeners: JoinSet<()> = listeners.into_iter().map(serve).collect();
    let pages = admin::routes(metrics, readiness.clone(), sessions.clone(), decisions);
    // To the process's end: who stops a router looks at its pages.
    tokio::spawn(serve_admin(admin_tcp, tls.farm.clone(), pages, CancellationToken::new()));
    let kept = registry.keep(&RouterRecord {
        router: config.name.clone(),
        admin: reached_at(admin, config.advertise),
        rtmp: reached_at(rtmp, config.advertise),
        speaks: config.newest_version.versions(),
    });
    readiness.ask_for_fault("registry", registry.silence());
    readiness.ask_for_fault("farm", farm_lacks(registry.clone()));
    readiness.started();
    let with_tls = rtmps.map(tracing::field::display);
    info!(%rtmp, rtmps = with_tls, %admin, "router ready");
    Ok(Router { addresses, sessions, tls, ingest, stop, listeners, readiness, kept })
}

/// What new streams would want for: a node that takes them, an origin that shows them.
fn farm_lacks(registry: Registry) -> impl Fn() -> Option<String> {
    move || {
        let nodes = registry.list::<NodeRecord>();
        let takes_more = nodes.iter().any(|node| node.state == NodeState::Ready);
        match (nodes.is_empty(), takes_more, registry.list::<OriginRecord>().is_empty()) {
            (true, ..) => Some("no node is registered: new streams are turned away".to_owned()),
            (_, false, _) => {
                Some("no node takes new streams: `millrace nodes` says why".to_owned())
            }
            (.., true) => Some("no origin is registered: nobody can watch".to_owned()),
            _ => None,
        }
    }
}

/// The sessions, with all that each of them works with.
pub(crate) fn sessions(
    config: &Config,
    registry: &Registry,
    metrics: RouterMetrics,
    decisions: &DecisionLog,
    tls: Option<Arc<FarmTls>>,
    heats: watch::Receiver<hot::Heats>,
) -> Sessions {
    let (clock, breakers) = (SystemClock::new(), watch::Sender::default());
    let (registry, decisions) = (registry.clone(), decisions.clone());
    let fence = OriginFence::new(tls.clone());
    let fleet = Fleet {
        registry: registry.clone(),
        tls,
        breakers,
        decisions: decisions.clone(),
        clock,
        speaks: config.newest_version.versions(),
    };
    Sessions::start(SessionContext {
        registry,
        fleet,
        fence,
        router: config.name.clone(),
        ladder: config.ladder.clone(),
        replay_bytes: replay_bytes(config),
        metrics,
        heats,
        decisions,
        clock,
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        bits_per_second: config.max_bitrate_kbps * 1000,
        connections_per_address: config.max_connections_per_address,
        connections: config.max_connections.min(files_for_publishers()),
        ..Limits::default()
    }
}

/// What a stream may keep for a successor.
fn replay_bytes(config: &Config) -> usize {
    let bytes = config.max_bitrate_kbps * 1000 / 8 * REPLAY_SECONDS;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
