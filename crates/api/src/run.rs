//! Binds the API's listeners and serves in the background until it is told to stop.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use millrace_registry::{OwnSettings, Registry};
use millrace_telemetry::{
    DecisionLog, ListenError, Metrics, Readiness, SettingsError, admin_routes, apart,
    decision_routes, listen, within,
};
use millrace_tls::{
    Certificate, Expected, FarmListener, FarmTls, FarmTlsConfig, PublicGate, Role, TlsConfig,
    TlsError, serve_admin, serve_pages,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    Config, TokenFile, TokensError,
    access::Access,
    channels::MAX_OVERLAP,
    farm::Farm,
    metrics::ApiMetrics,
    moves,
    routes::{Door, routes},
    tokens::Tokens,
};

/// From one look at the file of tokens to the next, so that a mistake in it is seen before somebody shows a token.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The API could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No place in the farm with this certificate.
    #[error("farm_tls: {0}")]
    FarmTls(TlsError),
    /// A certificate that cannot be used for `listen_api`.
    #[error("tls: {0}")]
    Tls(TlsError),
    /// The file of tokens.
    #[error("tokens: {0}")]
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
    public: Option<(Arc<Certificate>, TlsConfig)>,
}

impl Api {
    /// Takes nothing new, lets running answers finish for up to a second, and returns.
    pub async fn stop(mut self) {
        self.readiness.stopping();
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Reads the API's certificates again, that of its listener and that in the farm.
    ///
    /// # Errors
    /// A certificate that cannot be used: the old one stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        if let Some((certificate, files)) = &self.public {
            certificate.reload(files)?;
        }
        self.farm_tls.as_ref().map_or(Ok(()), |farm| farm.reload())
    }
}

/// What it shows to whom; each where it is set.
struct Certificates {
    farm: Option<Arc<FarmTls>>,
    public: Option<(Arc<Certificate>, TlsConfig)>,
    gate: Option<PublicGate>,
}

impl Certificates {
    fn read(config: &Config, metrics: &Metrics) -> Result<Self, StartError> {
        let own = Expected::any(Role::Api);
        let farm = FarmTls::of(config.farm_tls.as_ref(), own, metrics);
        let farm = farm.map_err(StartError::FarmTls)?;
        let load = |files: TlsConfig| Certificate::load(&files).map(|loaded| (loaded, files));
        let public = config.tls.clone().map(load).transpose().map_err(StartError::Tls)?;
        let gate = public.as_ref().map(|(certificate, _)| PublicGate::new(certificate));
        Ok(Self { farm, gate: gate.transpose().map_err(StartError::Tls)?, public })
    }
}

impl OwnSettings for Config {
    const RELOADED: &'static [&'static str] = &[];

    type Error = StartError;

    fn farm_tls(&self) -> Option<&FarmTlsConfig> {
        self.farm_tls.as_ref()
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("listen_api", self.listen_api), ("listen_admin", self.listen_admin)]
    }

    fn values(&self) -> Result<(), SettingsError> {
        within("rotation_overlap_s", self.rotation_overlap_s, 0..=MAX_OVERLAP.as_secs())
    }

    fn files(&self) -> Result<(), StartError> {
        Certificates::read(self, &Metrics::new())?;
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check).map_err(StartError::Tls)?;
        Ok(self.tokens.as_ref().map_or(Ok(()), TokenFile::check)?)
    }
}

/// Starts the API of the farm that `registry` knows; its metrics are registered in `metrics`.
///
/// # Errors
/// [`StartError`]: nothing runs then.
pub fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Pin<Box<dyn Future<Output = Result<Api, StartError>> + Send>> {
    Box::pin(begin(config, registry, metrics))
}

/// Boxed by [`start`], so that it is built here, and not once more in every program and test that starts one.
async fn begin(config: Config, registry: Registry, metrics: Metrics) -> Result<Api, StartError> {
    apart(&config.listeners())?;
    let Certificates { farm: farm_tls, public, gate } = Certificates::read(&config, &metrics)?;
    let (api, api_at) = listen("listen_api", config.listen_api).await?;
    let (admin, admin_at) = listen("listen_admin", config.listen_admin).await?;
    let addresses = Addresses { api: api_at, admin: admin_at };
    let Config { token, tokens, read_needs_token, trust_this_host, .. } = config;
    let has_tokens = token.is_some() || tokens.is_some();
    let trusts_this_host = trust_this_host.unwrap_or(!has_tokens);
    if has_tokens && public.is_none() && !addresses.api.ip().is_loopback() {
        warn!(listen_api = %addresses.api, "tokens are sent in the clear: give the API a certificate with tls");
    }
    let api_metrics = ApiMetrics::new(&metrics);
    let tokens = tokens.map(|file| Tokens::read(file, api_metrics.clone())).transpose()?;
    let overlap = Duration::from_secs(config.rotation_overlap_s);
    let (stop, readiness, mut tasks) =
        (CancellationToken::new(), Readiness::default(), JoinSet::new());
    if let Some(tokens) = &tokens {
        let looking = look_at_tokens(tokens.clone(), readiness.clone());
        let looking = stop.clone().run_until_cancelled_owned(looking);
        tasks.spawn(async move { looking.await.unwrap_or_default() });
    }
    let tidying = stop.clone().run_until_cancelled_owned(moves::tidy(registry.clone()));
    tasks.spawn(async move { tidying.await.unwrap_or_default() });
    let door = Door {
        access: Access { token, tokens, read_needs_token, trusts_this_host },
        metrics: api_metrics,
    };
    let decisions = DecisionLog::new(config.name);
    readiness.ask_for_fault("registry", registry.silence());
    let farm = Farm::new(registry, decisions.clone(), overlap, farm_tls.clone());
    let api = FarmListener::new(api, gate);
    tasks.spawn(serve_pages("api", api, routes(farm, door), stop.clone()));
    let pages = admin_routes(metrics, readiness.clone()).merge(decision_routes(decisions));
    tasks.spawn(serve_admin(admin, farm_tls.clone(), pages, stop.clone()));
    readiness.started();
    Ok(Api { addresses, stop, readiness, tasks, farm_tls, public })
}

/// Tells `/readyz` while the file of tokens cannot be used.
async fn look_at_tokens(tokens: Tokens, readiness: Readiness) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        readiness.set_fault("tokens", tokens.look());
    }
}
