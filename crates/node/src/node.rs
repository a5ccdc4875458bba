//! Puts a node together: listeners, books, spare workers, registration.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_registry::{NodeRecord, NodeState, Registry};
use millrace_sandbox::{Limits, User};
use millrace_sched::{Capacity, Ledger};
use millrace_telemetry::{Clock, Metrics, Readiness, SystemClock, reached_at, version_line};
use millrace_types::Wall;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Config, admin,
    host::Host,
    link::{self, Desk},
    metrics::NodeMetrics,
    origins::Origins,
    registration::Registration,
    spares::{Spares, WorkerPlan},
    worker_process::WorkerKind,
};

/// From one look at what is left to the next while the node stops.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
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
    /// Link without TLS beyond this host.
    #[error(
        "listen_link {0} is not a loopback address, and Link without TLS is taken on loopback only"
    )]
    PlainLink(SocketAddr),
    /// The workers' sockets have no place.
    #[error("directory {} for workers' sockets: {source}", path.display())]
    RunDir {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A worker's executable is not there.
    #[error("{} is missing: build it with `cargo build --release --workspace --bins`, or set worker_dir", .0.display())]
    NoWorker(PathBuf),
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
    stop: CancellationToken,
    readiness: Readiness,
    host: Host,
    registration: Registration,
}

impl Node {
    /// Takes no more streams and lets go of those it has: their routers place them on other nodes.
    pub async fn stop(self) {
        self.readiness.set(false);
        self.registration.withdraw().await;
        self.stop.cancel();
        while !self.host.streams().await.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Starts a node in background tasks. `metrics` may be shared with other programs in the process.
///
/// # Errors
/// [`NodeError`]
pub async fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Result<Node, NodeError> {
    if !config.listen_link.ip().is_loopback() {
        return Err(NodeError::PlainLink(config.listen_link));
    }
    let run_dir = config.run_dir.clone();
    std::fs::create_dir_all(&run_dir)
        .map_err(|source| NodeError::RunDir { path: run_dir.clone(), source })?;
    let worker_dir = worker_dir(&config)?;
    let link_listener = listen("link", config.listen_link).await?;
    let admin_listener = listen("admin", config.listen_admin).await?;
    let local = |listener: &TcpListener, what, address| {
        listener.local_addr().map_err(|source| NodeError::Listen { what, address, source })
    };
    let addresses = Addresses {
        link: local(&link_listener, "link", config.listen_link)?,
        admin: local(&admin_listener, "admin", config.listen_admin)?,
    };
    let plan = WorkerPlan { worker_dir, run_dir, limits: limits(&config) };
    let capacity = match config.capacity {
        Some(capacity) => capacity,
        None => measured(&config, &plan).await,
    };
    let node_metrics = NodeMetrics::new(&metrics);
    let host = Host::start(Ledger::new(capacity), node_metrics.clone());
    let (stop, readiness) = (CancellationToken::new(), Readiness::default());
    let pages = admin::routes(metrics, readiness.clone(), host.clone());
    tokio::spawn(async move { axum::serve(admin_listener, pages).await });
    let spares = Spares::keep(&plan, &stop);
    let origins = Origins { only: config.origin_intake, registry: registry.clone() };
    let (clock, stopping) = (SystemClock::new(), stop.clone());
    let desk = Desk { host: host.clone(), origins, spares, metrics: node_metrics, clock, stopping };
    tokio::spawn(link::serve(link_listener, desk));
    let record = record(&config, addresses, capacity, clock.wall());
    readiness.set(true);
    let registration = Registration::start(record, registry, host.clone(), readiness.clone());
    info!(link = %addresses.link, ?capacity, "node ready");
    Ok(Node { addresses, stop, readiness, host, registration })
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { what, address, source })
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

/// What the host can do: the speed of one core times the cores, less what is kept free.
async fn measured(config: &Config, plan: &WorkerPlan) -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let speed = crate::measure::one_core(&plan.worker_dir).await;
    let promised = |per_core: u64| (per_core as f64 * cores as f64 * config.usable_share) as u64;
    let memory_bytes = crate::measure::memory_bytes().unwrap_or(4 << 30);
    Capacity {
        decode_pixels_per_second: promised(speed.decode_pixels_per_second),
        encode_pixels_per_second: promised(speed.encode_pixels_per_second),
        workers: 64 * cores as u64,
        memory_bytes: (memory_bytes as f64 * config.usable_share) as u64,
    }
}

fn record(config: &Config, addresses: Addresses, capacity: Capacity, started: Wall) -> NodeRecord {
    NodeRecord {
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
    }
}
