//! Binds the API's listeners and serves in the background until it is told to stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use millrace_registry::Registry;
use millrace_telemetry::{DecisionLog, Metrics, Readiness, admin_routes, decision_routes};
use millrace_tls::{Expected, FarmTls, Role, TlsError, admin_listener, admin_service};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, TokensError,
    access::Access,
    farm::Farm,
    metrics::ApiMetrics,
    routes::{Door, routes},
};

/// How long running answers may take once the API stops.
const GRACE: Duration = Duration::from_secs(1);

/// The API could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{what} on {address}: {error}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// The address wanted.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// No place in the farm with this certificate.
    #[error("farm_tls: {0}")]
    FarmTls(TlsError),
    /// The file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

/// Where a running API listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `/v1/…` and the console.
    pub api: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// An API that runs in background tasks. Dropping it aborts them.
#[derive(Debug)]
pub struct Api {
    /// Where it listens.
    pub addresses: Addresses,
    stop: CancellationToken,
    readiness: Readiness,
    tasks: JoinSet<()>,
    farm_tls: Option<Arc<FarmTls>>,
}

impl Api {
    /// Takes nothing new, lets running answers finish for up to a second, and returns.
    pub async fn stop(mut self) {
        self.readiness.set(false);
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Reads the API's certificate in the farm again.
    ///
    /// # Errors
    /// A certificate that cannot be used: the old one stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.farm_tls.as_ref().map_or(Ok(()), |farm| farm.reload())
    }
}

/// Starts the API of the farm that `registry` knows; its metrics are registered in `metrics`.
///
/// # Errors
/// [`StartError`]: nothing runs then.
pub async fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Result<Api, StartError> {
    let own = Expected::any(Role::Api);
    let farm_tls = FarmTls::of(config.farm_tls.as_ref(), own, &metrics);
    let farm_tls = farm_tls.map_err(StartError::FarmTls)?;
    let api = bind("api", config.listen_api).await?;
    let admin = bind("admin", config.listen_admin).await?;
    let addresses = Addresses { api: address(&api), admin: address(&admin) };
    let Config { token, tokens, read_needs_token, .. } = config;
    if let Some(tokens) = &tokens {
        tokens.check()?;
    }
    let access = Access { token, tokens, read_needs_token };
    let door = Door { access, metrics: ApiMetrics::new(&metrics) };
    let overlap = Duration::from_secs(config.rotation_overlap_s);
    let (stop, readiness, mut tasks) =
        (CancellationToken::new(), Readiness::default(), JoinSet::new());
    let decisions = DecisionLog::new(config.name);
    let farm = Farm::new(registry, decisions.clone(), overlap, farm_tls.clone());
    let service = routes(farm, door).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(api, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    tasks.spawn(graceful(serving, stop.clone()));
    let pages = admin_routes(metrics, readiness.clone()).merge(decision_routes(decisions));
    let pages = admin_service(pages);
    let admin = admin_listener(admin, farm_tls.clone());
    let serving = axum::serve(admin, pages).with_graceful_shutdown(stop.clone().cancelled_owned());
    tasks.spawn(graceful(serving, stop.clone()));
    readiness.set(true);
    Ok(Api { addresses, stop, readiness, tasks, farm_tls })
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| StartError::Bind { what, address, error })
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("invariant: a bound listener has an address")
}

/// Runs `serving`, after `stop` not much longer.
async fn graceful(serving: impl IntoFuture<Output = io::Result<()>>, stop: CancellationToken) {
    tokio::select! {
        _ = serving.into_future() => {}
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {}
    }
}
