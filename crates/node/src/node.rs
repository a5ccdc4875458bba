//! Puts a node together: listeners, books, spare workers, registration.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use millrace_registry::{NodeRecord, NodeState, OwnSettings, Registry};
use millrace_sandbox::{Limits, User};
use millrace_sched::{Capacity, Ledger};
use millrace_telemetry::{
    Clock, DecisionLog, ListenError, Metrics, Readiness, RelayThreads, SettingsError, SystemClock,
    apart, listen, reachable, reached_at, reached_from_here_only, version_line, within,
};
use millrace_tls::{
    Expected, FarmListener, FarmTls, FarmTlsConfig, Gate, Role, TlsError, serve_admin,
};
use millrace_types::Wall;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Config, admin,
    adoption::adopt_all,
    cgroups::Cgroups,
    egress::Egress,
    host::Host,
    link::{self, Desk},
    measure,
    metrics::NodeMetrics,
    origins::Origins,
    registration::Registration,
    run_dir::RunDir,
    spares::{Spares, WorkerPlan},
    stopping::Stopping,
    worker_process::WorkerKind,
};

/// How long the daemon before may take to go.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(6);

/// The least that `worker_memory_bytes` may be: no worker starts with less.
const LEAST_WORKER_BYTES: u64 = 32 << 20;

/// The node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Link without TLS beyond this host.
    #[error(
        "listen_link {0} is not a loopback address, and Link without TLS is taken on loopback only: set farm_tls"
    )]
    PlainLink(SocketAddr),
    /// No place in the farm with this certificate.
    #[error("farm_tls: {0}")]
    FarmTls(TlsError),
    /// The workers' sockets have no place.
    #[error("run_dir {}: {why}", path.display())]
    RunDir {
        /// Where.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A worker's executable is not there.
    #[error("worker_dir: {} is missing: build it with `cargo build --release --workspace --bins`, or set another", .0.display())]
    NoWorker(PathBuf),
}

impl NodeError {
    /// Whether a person must change something first: another daemon in the run directory may just be slow to go.
    pub fn is_of_settings(&self) -> bool {
        !matches!(self, Self::RunDir { why, .. } if why.kind() == io::ErrorKind::ResourceBusy)
    }
}

impl OwnSettings for Config {
    const RELOADED: &'static [&'static str] = &[];

    type Error = NodeError;

    fn farm_tls(&self) -> Option<&FarmTlsConfig> {
        self.farm_tls.as_ref()
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("listen_link", self.listen_link), ("listen_admin", self.listen_admin)]
    }

    fn doubts(&self) -> Vec<String> {
        match self.farm_tls.is_some() {
            true => reached_from_here_only(&self.listeners(), self.advertise),
            // Without certificates the farm is on this host.
            false => Vec::new(),
        }
    }

    fn values(&self) -> Result<(), SettingsError> {
        // No stream could be without one of these; pixels may be, where nothing is to be encoded.
        let some = |key: &str, amount: Option<u64>| within(key, amount.unwrap_or(1), 1..=u64::MAX);
        SettingsError::all([
            reachable(self.advertise),
            within("worker_memory_bytes", self.worker_memory_bytes, LEAST_WORKER_BYTES..=1 << 40),
            some("capacity.workers", self.capacity.workers),
            some("capacity.host_cpu_millicores", self.capacity.host_cpu_millicores),
            some("capacity.egress_bits_per_second", self.capacity.egress_bits_per_second),
        ])
    }

    fn files(&self) -> Result<(), NodeError> {
        farm_tls(self, &Metrics::new())?;
        let fits = RunDir::fits(&self.run_dir);
        fits.map_err(|why| NodeError::RunDir { path: self.run_dir.clone(), why })?;
        worker_dir(self).map(drop)
    }
}

/// Where a running node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For routers.
    pub link: SocketAddr,
    /// For operators and Prometheus.
    pub admin: SocketAddr,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Where it listens.
    pub addresses: Addresses,
    stopping: Stopping,
    connections: TaskTracker,
    spares: Spares,
    readiness: Readiness,
    registration: Registration,
    tls: Option<Arc<FarmTls>>,
}

impl Node {
    /// Reads this node's certificate in the farm again.
    ///
    /// # Errors
    /// A certificate that cannot be used: the old one stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Takes no more streams and lets go of those it has: their routers place them on other nodes.
    pub async fn stop(self) {
        self.readiness.stopping();
        self.registration.withdraw().await;
        self.stopping.end();
        all_gone(&self.connections).await;
        self.spares.ended().await;
    }

    /// Takes no more streams and leaves those it has, their workers included, to the daemon that comes next on this host. Their
    /// routers are told to wait for it.
    pub async fn hand_over(self) {
        self.readiness.stopping();
        self.stopping.hand_over();
        all_gone(&self.connections).await;
        self.registration.leave().await;
    }
}

async fn all_gone(connections: &TaskTracker) {
    connections.close();
    connections.wait().await;
}

/// Starts a node in background tasks; its streams run on `threads`. `metrics` may be shared with other programs in the process.
///
/// # Errors
/// [`NodeError`]
pub fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
    threads: RelayThreads,
) -> Pin<Box<dyn Future<Output = Result<Node, NodeError>> + Send>> {
    Box::pin(begin(config, registry, metrics, threads))
}

/// Boxed by [`start`], so that it is built here, and not once more in every program and test that starts one.
async fn begin(
    config: Config,
    registry: Registry,
    metrics: Metrics,
    threads: RelayThreads,
) -> Result<Node, NodeError> {
    apart(&config.listeners())?;
    let tls = farm_tls(&config, &metrics)?;
    let run_dir = RunDir::take(&config.run_dir, PREDECESSOR_PATIENCE).await;
    let run_dir = run_dir.map_err(|why| NodeError::RunDir { path: config.run_dir.clone(), why })?;
    let worker_dir = worker_dir(&config)?;
    let (link_listener, link) = listen("listen_link", config.listen_link).await?;
    let (admin_tcp, admin) = listen("listen_admin", config.listen_admin).await?;
    let addresses = Addresses { link, admin };
    let limits = limits(&config);
    let cgroups = Cgroups::of_this_node(config.divide_cgroup, &limits);
    let orphans = adopt_all(&run_dir, &cgroups).await;
    let decisions = DecisionLog::new(config.name.clone());
    orphans.iter().for_each(|orphan| drop(decisions.record(orphan.decision())));
    let abandoned: Vec<_> = orphans.iter().map(|orphan| orphan.work.hello.clone()).collect();
    let plan = WorkerPlan { worker_dir, run_dir, limits, cgroups };
    let origins = Origins { only: config.origin_intake, registry: registry.clone() };
    let egress = egress(&config, &origins);
    let capacity = measure::capacity(&config, &plan, &egress, !orphans.is_empty()).await;
    let node_metrics = NodeMetrics::new(&metrics);
    let (ledger, view) = (Ledger::new(capacity), registry.clone());
    let host = Host::start(ledger, tls.clone(), view, node_metrics.clone(), orphans);
    let (stopping, readiness) = (Stopping::default(), Readiness::default());
    let pages = admin::routes(metrics, readiness.clone(), host.clone(), decisions.clone());
    // To the process's end: who stops a node looks at its pages.
    tokio::spawn(serve_admin(admin_tcp, tls.clone(), pages, CancellationToken::new()));
    let spares = Spares::keep(&plan, &stopping.token());
    let connections = TaskTracker::new();
    let desk = Desk {
        host: host.clone(),
        origins,
        spares: spares.clone(),
        metrics: node_metrics,
        decisions,
        clock: SystemClock::new(),
        stopping: stopping.clone(),
        connections: connections.clone(),
        threads,
        speaks: config.newest_version.versions(),
    };
    for hello in abandoned {
        connections.spawn(link::without_router(hello, desk.clone()));
    }
    let routers =
        |tls| Gate { tls, roles: &[Role::Router], listener: "link", plain_from_here: false };
    let link_listener = FarmListener::new(link_listener, tls.clone().map(routers));
    tokio::spawn(link::serve(link_listener, desk));
    let record = record(&config, addresses, capacity, SystemClock::new().wall());
    readiness.ask_for_fault("registry", registry.silence());
    readiness.started();
    let registration = Registration::start(record, registry, host, readiness.clone());
    tell(addresses, &capacity, &egress);
    Ok(Node { addresses, stopping, connections, spares, readiness, registration, tls })
}

/// By what the farm knows this node; without it Link stays on this host.
fn farm_tls(config: &Config, metrics: &Metrics) -> Result<Option<Arc<FarmTls>>, NodeError> {
    if config.farm_tls.is_none() && !config.listen_link.ip().is_loopback() {
        return Err(NodeError::PlainLink(config.listen_link));
    }
    let own = Expected::named(Role::Node, config.name.clone());
    FarmTls::of(config.farm_tls.as_ref(), own, metrics).map_err(NodeError::FarmTls)
}

fn worker_dir(config: &Config) -> Result<PathBuf, NodeError> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.to_path_buf());
    let dir = config.worker_dir.clone().or_else(beside).unwrap_or_default();
    for kind in [WorkerKind::Passthrough, WorkerKind::Transcode] {
        let program = dir.join(kind.program());
        if !Path::new(&program).is_file() {
            return Err(NodeError::NoWorker(program));
        }
    }
    Ok(dir)
}

fn limits(config: &Config) -> Limits {
    // nobody:nogroup of every Debian; a host of ours has the configured user.
    const NOBODY: User = User { uid: 65_534, gid: 65_534 };
    let named = User::named(&config.worker_user);
    if named.is_none() {
        warn!(user = config.worker_user, "no such user: workers run as nobody");
    }
    Limits {
        memory_bytes: config.worker_memory_bytes,
        threads: None,
        user: Some(named.unwrap_or(NOBODY)),
    }
}

/// The way by which media leaves this host. Where Link is taken on loopback only, the farm is on this host.
fn egress(config: &Config, origins: &Origins) -> Egress {
    let intakes = origins.intakes();
    match intakes.is_empty() && config.farm_tls.is_none() {
        true => Egress::OnThisHost,
        false => Egress::to(&intakes),
    }
}

fn tell(addresses: Addresses, capacity: &Capacity, egress: &Egress) {
    info!(
        link = %addresses.link,
        decode_pixels_per_second = capacity.decode_pixels_per_second,
        encode_pixels_per_second = capacity.encode_pixels_per_second,
        workers = capacity.workers,
        memory_bytes = capacity.memory_bytes,
        host_cpu_millicores = capacity.host_cpu_millicores,
        egress_bits_per_second = capacity.egress_bits_per_second,
        "node ready"
    );
    if capacity.egress_bits_per_second.is_none() {
        info!(why = %egress, "egress is not limited: capacity.egress_bits_per_second would limit it");
    }
}

fn record(config: &Config, addresses: Addresses, capacity: Capacity, started: Wall) -> NodeRecord {
    let speaks = config.newest_version.versions();
    let said = |amount: Option<u64>| amount.filter(|_| !speaks.is_unsaid());
    NodeRecord {
        host_cpu_millicores: said(capacity.host_cpu_millicores),
        egress_bits_per_second: said(capacity.egress_bits_per_second),
        node: config.name.clone(),
        link: reached_at(addresses.link, config.advertise),
        admin: reached_at(addresses.admin, config.advertise),
        state: NodeState::Ready,
        decode_pixels_per_second: capacity.decode_pixels_per_second,
        encode_pixels_per_second: capacity.encode_pixels_per_second,
        workers: capacity.workers,
        memory_bytes: capacity.memory_bytes,
        allocated: Default::default(),
        labels: config.labels.clone(),
        started,
        version: version_line().to_owned(),
        speaks,
    }
}
