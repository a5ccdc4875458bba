//! The connection to one member at a time: follows, keeps the lease alive, writes what is kept. Any failure ends it,
//! and the next member's turn has come.

use std::{fs, sync::Arc, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use millrace_telemetry::{Clock, LineLimit, SystemClock};
use millrace_types::Mono;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Shared, follow,
    keeper::{Keeper, Step},
    write::{self, Order, Outcome},
};
use crate::RegistryConfig;

/// Before a member is tried again, at first and at most; a random half of it, so that a farm does not come back as one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What outlives a session: the lease and what was written under it.
struct Life {
    lease: watch::Sender<i64>,
    /// When there was a new lease in place of one that was lost.
    regained: Option<Instant>,
    keeper: Keeper,
    began: Instant,
}

/// Holds sessions, one after the other. Never ends.
pub async fn run(config: RegistryConfig, shared: Arc<Shared>) {
    let (lease, keeper) = (watch::Sender::new(0), Keeper::default());
    let mut life = Life { lease, regained: None, keeper, began: Instant::now() };
    let mut pause = PAUSE;
    // Where to begin is chance, so that a farm spreads over the members.
    let mut turn = usize::from(rand::random::<u16>());
    // Tries go on for as long as an outage does.
    let (clock, mut limit) = (SystemClock::new(), LineLimit::default());
    loop {
        let endpoint = &config.endpoints[turn % config.endpoints.len()];
        let began = Instant::now();
        let Err(error) = session(&config, endpoint, &shared, &mut life).await;
        shared.client.send_replace(None);
        shared.set_trouble(error.to_string());
        if let Some(left_out) = limit.admit(clock.mono()) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(endpoint, %error, left_out, "registry session ended");
        }
        let lived = began.elapsed() > LONGEST_PAUSE;
        pause = if lived { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        turn = turn.wrapping_add(1);
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
    }
}

async fn session(
    config: &RegistryConfig,
    endpoint: &str,
    shared: &Shared,
    life: &mut Life,
) -> Result<std::convert::Infallible, Error> {
    let client = Client::connect([endpoint], Some(options(config)?)).await?;
    let work = async {
        tokio::try_join!(
            follow::follow(shared, &client),
            heartbeat(shared, &client, &life.lease, &mut life.regained),
            keep(shared, &client, life.lease.subscribe(), &mut life.keeper, life.began),
        )
    };
    match work.await {
        Err(error) => Err(error),
        Ok(_) => Err(Error::Internal("the session ended".to_owned())),
    }
}

/// The files are read anew for each session, so that renewed certificates count.
fn options(config: &RegistryConfig) -> Result<ConnectOptions, Error> {
    let mut options = ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(Duration::from_secs(config.lease_seconds) / 3);
    if let Some(ca) = &config.ca {
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(fs::read(ca)?));
        if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
            tls = tls.identity(Identity::from_pem(fs::read(certificate)?, fs::read(key)?));
        }
        options = options.with_tls(tls);
    }
    Ok(options)
}

/// Has a lease and keeps it alive; an answer that is missing for a third of its time ends the session.
async fn heartbeat(
    shared: &Shared,
    client: &Client,
    lease_now: &watch::Sender<i64>,
    regained: &mut Option<Instant>,
) -> Result<(), Error> {
    let mut leases = client.lease_client();
    let third = shared.lease / 3;
    let seconds = i64::try_from(shared.lease.as_secs()).unwrap_or(i64::MAX);
    loop {
        let mut lease = *lease_now.borrow();
        if lease == 0 {
            lease = timeout(third, leases.grant(seconds, None)).await.map_err(|_| late())??.id();
            lease_now.send_replace(lease);
            *regained = regained.map(|_| Instant::now());
            tracing::info!(lease, "registry lease granted");
        }
        let alive = match timeout(third, leases.keep_alive(lease)).await.map_err(|_| late())? {
            Err(Error::LeaseKeepAliveError(_)) => None,
            alive => Some(alive?),
        };
        if let Some((mut keeper, mut answers)) = alive {
            shared.hear();
            shared.client.send_if_modified(|now| {
                let first = now.is_none();
                now.get_or_insert_with(|| client.clone());
                first
            });
            loop {
                tokio::select! {
                    () = sleep(third) => {}
                    () = shared.doubts.notified() => {}
                }
                let doubt = shared.view().newest_doubt();
                keeper.keep_alive().await?;
                let answer = timeout(third, answers.message()).await.map_err(|_| late())??;
                let ended = || Error::LeaseKeepAliveError("the stream ended".to_owned());
                if answer.ok_or_else(ended)?.ttl() <= 0 {
                    break;
                }
                shared.hear();
                // Who lost its lease with all others gives them time to come back as well.
                let is_sure = regained.is_none_or(|at| at.elapsed() >= shared.lease);
                if let Some(doubt) = doubt.filter(|_| is_sure) {
                    shared.fold(|view| view.believe(doubt));
                }
            }
        }
        tracing::warn!(lease, "registry lease lost");
        lease_now.send_replace(0);
        *regained = Some(Instant::now());
    }
}

/// Writes what is kept, whenever the view shows something else.
async fn keep(
    shared: &Shared,
    client: &Client,
    mut leases: watch::Receiver<i64>,
    keeper: &mut Keeper,
    began: Instant,
) -> Result<(), Error> {
    let mut synced = shared.synced.subscribe();
    let (mut wishes, mut changes) = (shared.wishes.subscribe(), shared.changes.subscribe());
    let _ = synced.wait_for(|synced| *synced).await;
    let mut superseded = keeper.superseded();
    loop {
        let wanted = wishes.borrow_and_update().clone();
        changes.mark_unchanged();
        let lease = *leases.borrow_and_update();
        let step = if lease == 0 {
            Step::Wait(None)
        } else {
            keeper.leased(lease);
            keeper.next(Mono(began.elapsed()), &shared.view(), &wanted)
        };
        let before = std::mem::replace(&mut superseded, keeper.superseded());
        for key in superseded.difference(&before) {
            tracing::warn!(key, "kept record left to the process that has it now");
        }
        match step {
            Step::Write { key, revision, text } => {
                let text = text.as_deref();
                let order = Order { key: &key, revision: Some(revision), text, lease };
                keeper.writes(&key, revision, wanted.get(&key));
                let attempt = write::attempt(shared, client.clone(), &order);
                let outcome = timeout(shared.lease, attempt).await.map_err(|_| late())?;
                if is_lease_gone(&outcome) {
                    keeper.wrote(Mono(began.elapsed()), &key, false, None);
                    let _ = leases.changed().await;
                    continue;
                }
                let took_place = outcome? == Outcome::Done;
                keeper.wrote(Mono(began.elapsed()), &key, took_place, wanted.get(&key));
            }
            Step::Forget { key } => {
                keeper.forget(&key);
                let done = wanted.get(&key);
                shared.wishes.send_if_modified(|wishes| {
                    let same = wishes.get(&key) == done;
                    same && wishes.remove(&key).is_some()
                });
            }
            Step::Wait(until) => {
                let far = Duration::from_secs(3600);
                let until = until.map_or(Instant::now() + far, |until| began + until.0);
                tokio::select! {
                    _ = wishes.changed() => {}
                    _ = changes.changed() => {}
                    _ = leases.changed() => {}
                    () = sleep_until(until) => {}
                }
            }
        }
    }
}

/// etcd does not know the lease any more; the heartbeat is about to hear of it.
fn is_lease_gone(outcome: &Result<Outcome, Error>) -> bool {
    matches!(outcome, Err(Error::GRpcStatus(status)) if status.message().contains("lease not found"))
}

fn late() -> Error {
    Error::WatchError("no answer in time".to_owned())
}
