//! Binds an origin's listeners and runs it in the background until it is told to stop.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use millrace_registry::{OwnSettings, Registry};
use millrace_telemetry::{
    Clock, DecisionLog, ListenError, Metrics, Readiness, SettingsError, SystemClock, admin_routes,
    apart, decision_routes, listen, reachable, reached_from_here_only, within,
};
use millrace_tls::{
    Certificate, Expected, FarmListener, FarmTls, FarmTlsConfig, Peer, Role, TlsConfig, TlsError,
    serve_admin,
};
use millrace_types::StreamId;
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, audience,
    awake::Awake,
    intake,
    listener::PlayerListener,
    metrics::OriginMetrics,
    owners::Owners,
    peer::Peers,
    pipe::Pipes,
    places::Places,
    player::Player,
    relay::Relay,
    slab::Slabs,
    streams::{Retention, Streams},
    writers::Writers,
};

/// How often ended and idle streams are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sweeps from one word to the farm about viewers to the next.
const TELL_EVERY: u64 = 3;

/// The most that `max_connections` may be; the kernel gives a process no more descriptors.
const MAX_CONNECTIONS: usize = 1 << 30;
/// The longest that something ended or idle may be kept: a week.
const LONGEST_S: u64 = 7 * 24 * 3600;
/// The shortest `idle_end_s`: a stream whose encoder returns within 30 s goes on, and nobody writes meanwhile.
const SHORTEST_IDLE_S: u64 = 40;

/// An origin could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Intake without TLS beyond this host.
    #[error(
        "listen_intake {0} is not a loopback address, and media without TLS is taken on loopback only: set farm_tls"
    )]
    PlainIntake(SocketAddr),
    /// No HTTPS with this certificate.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// No place in the farm with this certificate.
    #[error("farm_tls: {0}")]
    FarmTls(TlsError),
}

/// Where an origin really listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Players, HTTP.
    pub playback: SocketAddr,
    /// Players, HTTPS.
    pub playback_tls: Option<SocketAddr>,
    /// Nodes.
    pub intake: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// An origin that runs in background tasks. Dropping it aborts them.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    certificate: Option<Arc<Certificate>>,
    farm_tls: Option<Arc<FarmTls>>,
    places: Arc<Places>,
    stop: CancellationToken,
    readiness: Readiness,
    tasks: JoinSet<()>,
    viewers: watch::Receiver<BTreeMap<StreamId, u64>>,
}

impl Running {
    /// Takes nothing new, lets running answers finish for up to about a second, and returns.
    pub async fn stop(mut self) {
        self.readiness.stopping();
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// How many watch the streams of this origin, for its record: those with the most viewers, every few seconds anew.
    pub fn viewers(&self) -> watch::Receiver<BTreeMap<StreamId, u64>> {
        self.viewers.clone()
    }

    /// Puts the limit on connections and the certificates of `config` in force; all else needs a new start. Connections
    /// that are open stay.
    ///
    /// # Errors
    /// A certificate that cannot be used: the old one stays, the limit holds.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        self.places.set(config.max_connections);
        self.farm_tls.as_ref().map_or(Ok(()), |farm| farm.reload())?;
        match (&self.certificate, &config.tls) {
            (Some(certificate), Some(files)) => certificate.reload(files),
            (None, None) => Ok(()),
            _ => {
                tracing::warn!("https is turned on and off by a new start only");
                Ok(())
            }
        }
    }
}

/// What it shows to players, and to the farm.
type Certificates = (Option<Arc<Certificate>>, Option<Arc<FarmTls>>);

fn certificates(config: &Config, metrics: &Metrics) -> Result<Certificates, StartError> {
    if config.farm_tls.is_none() && !config.listen_intake.ip().is_loopback() {
        return Err(StartError::PlainIntake(config.listen_intake));
    }
    let own = Expected::named(Role::Origin, config.name.clone());
    let farm_tls = FarmTls::of(config.farm_tls.as_ref(), own, metrics);
    let farm_tls = farm_tls.map_err(StartError::FarmTls)?;
    Ok((config.tls.as_ref().map(Certificate::load).transpose()?, farm_tls))
}

impl OwnSettings for Config {
    const RELOADED: &'static [&'static str] = &["max_connections", "tls"];

    type Error = StartError;

    fn farm_tls(&self) -> Option<&FarmTlsConfig> {
        self.farm_tls.as_ref()
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut listeners = vec![
            ("listen_playback", self.listen_playback),
            ("listen_intake", self.listen_intake),
            ("listen_admin", self.listen_admin),
        ];
        let secure = ("listen_playback_tls", self.listen_playback_tls);
        listeners.extend(self.tls.is_some().then_some(secure));
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
        SettingsError::all([
            reachable(self.advertise),
            within("max_connections", self.max_connections, 1..=MAX_CONNECTIONS),
            within("keep_ended_s", self.keep_ended_s, 0..=LONGEST_S),
            within("idle_end_s", self.idle_end_s, SHORTEST_IDLE_S..=LONGEST_S),
        ])
    }

    fn files(&self) -> Result<(), StartError> {
        certificates(self, &Metrics::new())?;
        Ok(self.tls.as_ref().map_or(Ok(()), TlsConfig::check)?)
    }
}

/// Starts an origin whose metrics are registered in `metrics`. It finds the other origins, and who owns what, in `registry`.
///
/// # Errors
/// [`StartError`]: nothing runs then.
pub fn start(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Pin<Box<dyn Future<Output = Result<Running, StartError>> + Send>> {
    Box::pin(begin(config, registry, metrics))
}

/// Boxed by [`start`], so that it is built here, and not once more in every program and test that starts one.
async fn begin(
    config: Config,
    registry: Registry,
    metrics: Metrics,
) -> Result<Running, StartError> {
    apart(&config.listeners())?;
    let (certificate, farm_tls) = certificates(&config, &metrics)?;
    let (playback, playback_at) = listen("listen_playback", config.listen_playback).await?;
    let secure = match &certificate {
        Some(certificate) => {
            let tls = TlsAcceptor::from(certificate.server_config(&[b"h2", b"http/1.1"])?);
            let (tcp, at) = listen("listen_playback_tls", config.listen_playback_tls).await?;
            Some((tcp, at, tls))
        }
        None => None,
    };
    let (intake, intake_at) = listen("listen_intake", config.listen_intake).await?;
    let (admin, admin_at) = listen("listen_admin", config.listen_admin).await?;
    let addresses = Addresses {
        playback: playback_at,
        playback_tls: secure.as_ref().map(|(_, at, _)| *at),
        intake: intake_at,
        admin: admin_at,
    };

    let (stop, readiness, mut tasks) =
        (CancellationToken::new(), Readiness::default(), JoinSet::new());
    let player = Arc::new(player(&config, farm_tls.clone(), registry.clone(), &metrics));
    readiness.ask_for_fault("registry", registry.silence());
    follow_owners(&player, registry, &stop, &mut tasks);
    let places = Arc::new(Places::new(config.max_connections, player.metrics.clone()));
    let secure = secure.map(|(tcp, _, tls)| (tcp, Some(tls)));
    let listeners = [(playback, None)].into_iter().chain(secure);
    for (tcp, tls) in listeners {
        let (player, places) = (player.clone(), places.clone());
        let listener = PlayerListener { tcp, tls, player, places };
        tasks.spawn(listener.run(stop.clone()));
    }
    let intake = intake::listener(intake, farm_tls.clone());
    tasks.spawn(serve(intake, intake::service(player.clone()), stop.clone()));
    let pages = admin_routes(metrics, readiness.clone());
    let pages = pages.merge(decision_routes(player.decisions.clone()));
    tasks.spawn(serve_admin(admin, farm_tls.clone(), pages, stop.clone()));
    let tell = watch::Sender::default();
    let viewers = tell.subscribe();
    tasks.spawn(sweep(player, config, tell, stop.clone()));
    readiness.started();
    Ok(Running { addresses, certificate, farm_tls, places, stop, readiness, tasks, viewers })
}

/// Sees which streams have gone to other origins, also while this one was not awake.
fn follow_owners(
    player: &Player,
    registry: Registry,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let moved = stop.clone().run_until_cancelled_owned(player.owners.clone().give_up_moved());
    tasks.spawn(async move { moved.await.unwrap_or_default() });
    let awake = player.awake.clone().run(registry, player.owners.clone());
    let awake = stop.clone().run_until_cancelled_owned(awake);
    tasks.spawn(async move { awake.await.unwrap_or_default() });
}

pub(crate) fn player(
    config: &Config,
    tls: Option<Arc<FarmTls>>,
    registry: Registry,
    metrics: &Metrics,
) -> Player {
    let (streams, clock) = (Arc::new(Streams::default()), SystemClock::new());
    let metrics = OriginMetrics::new(metrics);
    let owners = Owners::new(config.name.clone(), registry, streams.clone());
    let relay = Arc::new(Relay::new(owners.clone(), Peers::new(tls), clock, metrics.clone()));
    let (writers, awake) = (Writers::default(), Arc::new(Awake::new(clock)));
    let decisions = DecisionLog::new(config.name.clone());
    let speaks = config.newest_version.versions();
    let slabs = Slabs::new(metrics.media_bytes.clone());
    let pipes = Pipes::new(metrics.uncopied_bytes.clone());
    Player {
        streams,
        writers,
        metrics,
        decisions,
        clock,
        owners,
        relay,
        awake,
        slabs,
        pipes,
        speaks,
    }
}

/// Serves farm-internal HTTP. On `stop` it waits no longer than a node needs to see its answer.
async fn serve(
    listener: FarmListener,
    service: IntoMakeServiceWithConnectInfo<axum::Router, Peer>,
    stop: CancellationToken,
) {
    let stopping = stop.clone();
    let serving = axum::serve(listener, service)
        .with_graceful_shutdown(async move { stopping.cancelled().await });
    tokio::select! {
        _ = async { serving.await } => {}
        () = async { stop.cancelled().await; tokio::time::sleep(Duration::from_secs(1)).await } => {}
    }
}

/// Looks at all streams again and again: ends and forgets some, and tells how many watch the others.
async fn sweep(
    player: Arc<Player>,
    config: Config,
    tell: watch::Sender<BTreeMap<StreamId, u64>>,
    stop: CancellationToken,
) {
    let retention = Retention {
        keep_ended: Duration::from_secs(config.keep_ended_s),
        idle_end: Duration::from_secs(config.idle_end_s),
    };
    let mut sweeps = 0_u64;
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        player.streams.sweep(player.clock.mono(), retention, &player.decisions);
        player.writers.retain(|stream| player.streams.get(stream).is_some());
        player.relay.sweep();
        let (watchable, now) = (player.streams.watchable(), player.clock.mono());
        player.metrics.streams.set(i64::try_from(watchable.len()).unwrap_or(i64::MAX));
        let watched: Vec<_> =
            watchable.iter().map(|it| (it.id.clone(), it.audience.viewers(now))).collect();
        let viewers = watched.iter().map(|(_, viewers)| *viewers).sum::<u64>();
        player.metrics.viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
        sweeps += 1;
        if sweeps.is_multiple_of(TELL_EVERY) {
            let told = audience::told(watched.into_iter(), config.tell_viewers_from);
            tell.send_if_modified(|before| {
                let is_news = *before != told;
                *before = told;
                is_news
            });
        }
    }
}
