//! The node's books: capacity promised, streams held. One task owns them; everybody else asks through [`Host`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use millrace_registry::{NodeState, OriginRecord, Registry, StreamRecord};
use millrace_sched::{Demand, Ledger, NoRoom, Reservation, Resource, cost};
use millrace_tls::FarmTls;
use millrace_types::{EndReason, Epoch, RefusalReason, StreamId};
use millrace_wire::{ChangeOrigin, Hello};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    adoption::{Orphan, Unfit},
    metrics::NodeMetrics,
    origin_client::OriginClient,
    output::Output,
};

/// Questions that wait for the books.
const QUEUE: usize = 64;
/// How long a stream that is not made here any more can be continued from what it published here.
const KEPT: Duration = Duration::from_secs(120);
/// The same when nobody makes it anywhere any more. A session that was just claimed is not placed yet, for less than this.
const KEPT_WHEN_OVER: Duration = Duration::from_secs(10);
/// From one look at what is kept to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A stream may be made here.
#[derive(Debug)]
pub struct Granted {
    /// What it has published from here before.
    pub output: Output,
    /// The stream's origin.
    pub origin: OriginClient,
    /// Cancelled when a newer assignment of the stream has come.
    pub superseded: CancellationToken,
    /// The worker that an earlier daemon started for the stream.
    pub orphan: Option<Orphan>,
}

/// Milliseconds of media that a worker lags behind its input; clones share them: who writes them wakes nobody.
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<AtomicU32>);

impl Lag {
    /// As it is now.
    pub fn set(&self, ms: u32) {
        self.0.store(ms, Ordering::Relaxed);
    }
}

impl Serialize for Lag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.load(Ordering::Relaxed).serialize(serializer)
    }
}

/// What one assignment looks like to an operator.
#[derive(Clone, Debug, Serialize)]
pub struct StreamStatus {
    /// Which stream.
    pub stream: StreamId,
    /// Its right to write.
    pub epoch: Epoch,
    /// Process id of its worker.
    pub worker_pid: u32,
    /// What the worker lags behind its input, milliseconds of media.
    pub lag_ms: Lag,
    /// The sandbox of its worker: measure, and `applied` or `unavailable: why`.
    pub sandbox: Vec<(String, String)>,
}

#[derive(Debug)]
enum Question {
    Admit {
        stream: StreamId,
        epoch: Epoch,
        demand: Demand,
        intake: SocketAddr,
        reply: oneshot::Sender<Result<Granted, Denied>>,
    },
    Abandoned {
        stream: StreamId,
        intake: SocketAddr,
        reply: oneshot::Sender<Option<Granted>>,
    },
    Report(StreamStatus),
    ChangeOrigin {
        stream: StreamId,
        epoch: Epoch,
        change: ChangeOrigin,
    },
    Left {
        stream: StreamId,
        epoch: Epoch,
        reason: Option<EndReason>,
        over: bool,
    },
    Withhold {
        pid: u32,
        demand: Demand,
    },
    GiveBack {
        pid: u32,
    },
    Streams(oneshot::Sender<Vec<StreamStatus>>),
    OriginsBut(SocketAddr, oneshot::Sender<Vec<OriginClient>>),
    SetState(NodeState),
}

/// What a stream needs of the host that makes it.
pub fn demand_of(hello: &Hello) -> Demand {
    cost(hello.source_pixels_per_second, hello.announced, &hello.ladder)
}

/// Why a stream may not be made here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not enough of something.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// A newer assignment is here already.
    #[error("epoch {asked} is not above {held}, which this node holds")]
    Old {
        /// The one that asks.
        asked: Epoch,
        /// The one that is here.
        held: Epoch,
    },
    /// The node was ordered to take no new streams.
    #[error("the node takes no new streams: it is {}", .0.as_str())]
    NotReady(NodeState),
    /// The node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl Denied {
    /// The closed reason.
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::NoRoom(_) => RefusalReason::NoCapacity,
            Self::NotReady(_) => RefusalReason::NodeUnavailable,
            Self::Old { .. } => RefusalReason::Fenced,
            Self::ShuttingDown => RefusalReason::ShuttingDown,
        }
    }
}

/// A handle on the books.
#[derive(Clone, Debug)]
pub struct Host {
    questions: mpsc::Sender<Question>,
    promised: watch::Receiver<Demand>,
}

impl Host {
    /// Opens the books of a host on which `orphans` wait for their routers; origins are spoken to with `tls`.
    pub fn start(
        ledger: Ledger,
        tls: Option<Arc<FarmTls>>,
        registry: Registry,
        metrics: NodeMetrics,
        orphans: Vec<Orphan>,
    ) -> Self {
        let (questions, inbox) = mpsc::channel(QUEUE);
        let (shown, promised) = watch::channel(Demand::ZERO);
        let mut books = Books {
            ledger,
            tls,
            registry,
            state: NodeState::Ready,
            origins: BTreeMap::new(),
            metrics,
            shown,
            streams: BTreeMap::new(),
            orphans: BTreeMap::new(),
            withheld: BTreeMap::new(),
        };
        orphans.into_iter().for_each(|orphan| books.wait_for_router(orphan));
        tokio::spawn(books.run(inbox));
        Self { questions, promised }
    }

    /// What is promised to streams, and each change of it.
    pub fn promised(&self) -> watch::Receiver<Demand> {
        self.promised.clone()
    }

    /// From now on new streams are taken, or only those that were made here until now.
    pub async fn set_state(&self, state: NodeState) {
        let _ = self.questions.send(Question::SetState(state)).await;
    }

    /// Promises capacity and cancels an older assignment of the same stream, which is pushed to the origin at `intake`.
    pub async fn admit(
        &self,
        stream: StreamId,
        epoch: Epoch,
        demand: Demand,
        intake: SocketAddr,
    ) -> Result<Granted, Denied> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Admit { stream, epoch, demand, intake, reply };
        self.questions.send(question).await.map_err(|_| Denied::ShuttingDown)?;
        answer.await.map_err(|_| Denied::ShuttingDown)?
    }

    /// Gives up waiting for the router of an orphan: what it has made is pushed to the origin at `intake`. `None` when it does
    /// not wait any more.
    pub async fn abandoned(&self, stream: StreamId, intake: SocketAddr) -> Option<Granted> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Abandoned { stream, intake, reply };
        self.questions.send(question).await.ok()?;
        answer.await.ok()?
    }

    /// Says what an assignment looks like, once.
    pub async fn report(&self, status: StreamStatus) {
        let _ = self.questions.send(Question::Report(status)).await;
    }

    /// The stream that an assignment of `epoch` makes goes to another origin, with all that is kept of it.
    pub async fn change_origin(&self, stream: StreamId, epoch: Epoch, change: ChangeOrigin) {
        let _ = self.questions.send(Question::ChangeOrigin { stream, epoch, change }).await;
    }

    /// An assignment has ended; `over`: so has its stream, as far as this host is concerned.
    pub async fn left(
        &self,
        stream: StreamId,
        epoch: Epoch,
        reason: Option<EndReason>,
        over: bool,
    ) {
        let _ = self.questions.send(Question::Left { stream, epoch, reason, over }).await;
    }

    /// A worker that does not die has still got what it was promised, without its stream.
    pub async fn withhold(&self, pid: u32, demand: Demand) {
        let _ = self.questions.send(Question::Withhold { pid, demand }).await;
    }

    /// It has died after all.
    pub async fn give_back(&self, pid: u32) {
        let _ = self.questions.send(Question::GiveBack { pid }).await;
    }

    /// The origins that are known, but for the one whose intake is at `lost`.
    pub async fn origins_but(&self, lost: SocketAddr) -> Vec<OriginClient> {
        let (reply, answer) = oneshot::channel();
        let _ = self.questions.send(Question::OriginsBut(lost, reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Every assignment here.
    pub async fn streams(&self) -> Vec<StreamStatus> {
        let (reply, answer) = oneshot::channel();
        let _ = self.questions.send(Question::Streams(reply)).await;
        answer.await.unwrap_or_default()
    }
}

struct Books {
    ledger: Ledger,
    tls: Option<Arc<FarmTls>>,
    /// Says which streams are over.
    registry: Registry,
    state: NodeState,
    /// By intake; streams of one origin share its connections.
    origins: BTreeMap<SocketAddr, OriginClient>,
    metrics: NodeMetrics,
    shown: watch::Sender<Demand>,
    streams: BTreeMap<StreamId, Held>,
    /// Workers of the daemon before, until their routers come.
    orphans: BTreeMap<StreamId, Waiting>,
    /// By process id: what workers hold that SIGKILL did not end.
    withheld: BTreeMap<u32, Reservation>,
}

struct Waiting {
    orphan: Orphan,
    demand: Demand,
    reservation: Reservation,
}

struct Held {
    epoch: Epoch,
    output: Output,
    reservation: Option<Reservation>,
    superseded: CancellationToken,
    status: Option<StreamStatus>,
    /// Since when it is not made here; `None` while it is.
    idle_since: Option<Instant>,
}

impl Books {
    async fn run(mut self, mut inbox: mpsc::Receiver<Question>) {
        self.show();
        let mut looks = interval(LOOK_EVERY);
        loop {
            let question = tokio::select! {
                question = inbox.recv() => question,
                _ = looks.tick() => {
                    self.forget_old();
                    continue;
                }
            };
            let Some(question) = question else { return };
            match question {
                Question::Admit { stream, epoch, demand, intake, reply } => {
                    let _ = reply.send(self.admit(stream, epoch, demand, intake));
                }
                Question::Abandoned { stream, intake, reply } => {
                    let _ = reply.send(self.abandoned(stream, intake));
                }
                Question::Report(status) => {
                    if let Some(held) = self.streams.get_mut(&status.stream)
                        && held.epoch == status.epoch
                    {
                        held.status = Some(status);
                    }
                }
                Question::ChangeOrigin { stream, epoch, change } => {
                    let origin = self.origin(change.intake);
                    let held = self.streams.get(&stream).filter(|held| held.epoch == epoch);
                    if let Some(held) = held {
                        held.output.change_origin(change, origin);
                    }
                }
                Question::Left { stream, epoch, reason, over } => {
                    self.left(&stream, epoch, reason, over);
                }
                Question::Withhold { pid, demand } => {
                    self.withheld.insert(pid, self.ledger.take_over(demand));
                }
                Question::GiveBack { pid } => {
                    if let Some(reservation) = self.withheld.remove(&pid) {
                        self.ledger.release(reservation);
                    }
                }
                Question::Streams(reply) => {
                    let statuses = self.streams.values().filter_map(|held| held.status.clone());
                    let _ = reply.send(statuses.collect());
                }
                Question::OriginsBut(lost, reply) => {
                    let _ = reply.send(self.origins_but(lost));
                }
                Question::SetState(state) => self.state = state,
            }
            self.show();
        }
    }

    /// Forgets the streams that nobody came back for, or will.
    fn forget_old(&mut self) {
        let is_over = |stream: &StreamId| {
            let record = self.registry.get::<StreamRecord>(stream.as_str()).ok().flatten();
            record.is_some_and(|record| record.node.is_none())
        };
        let idle = |held: &Held| held.idle_since.map(|since| since.elapsed());
        self.streams.retain(|stream, held| is_kept(idle(held), || is_over(stream)));
    }

    fn admit(
        &mut self,
        stream: StreamId,
        epoch: Epoch,
        demand: Demand,
        intake: SocketAddr,
    ) -> Result<Granted, Denied> {
        let waiting = match self.orphans.remove(&stream) {
            Some(waiting) if waiting.orphan.work.hello.epoch >= epoch => {
                let held = waiting.orphan.work.hello.epoch;
                self.orphans.insert(stream, waiting);
                return Err(Denied::Old { asked: epoch, held });
            }
            waiting => waiting,
        };
        // One that was made here until now may come back: nothing live is given up for want of another node.
        let was_here = waiting.is_some() || self.streams.contains_key(&stream);
        if self.state != NodeState::Ready && !was_here {
            return Err(Denied::NotReady(self.state));
        }
        let mut known = self.streams.remove(&stream);
        if let Some(held) = known.take_if(|held| held.epoch >= epoch && held.reservation.is_some())
        {
            let old = Denied::Old { asked: epoch, held: held.epoch };
            self.streams.insert(stream, held);
            return Err(old);
        }
        if let Some(held) = &mut known {
            held.superseded.cancel();
            if let Some(reservation) = held.reservation.take() {
                self.ledger.release(reservation);
            }
        }
        let (orphan, admitted) = self.reserve(waiting, demand);
        let (reservation, refusal) = match admitted {
            Ok(reservation) => (Some(reservation), None),
            Err(no_room) => (None, Some(no_room)),
        };
        let output = match known {
            Some(held) => held.output,
            None if refusal.is_none() => Output::start(stream.clone(), self.metrics.clone()),
            None => {
                return refusal.map_or(Err(Denied::ShuttingDown), |no_room| Err(no_room.into()));
            }
        };
        let superseded = CancellationToken::new();
        let (origin, output_of) = (self.origin(intake), output.clone());
        let granted = Granted { output: output_of, origin, superseded: superseded.clone(), orphan };
        let idle_since = reservation.is_none().then(Instant::now);
        let held = Held { epoch, output, reservation, superseded, status: None, idle_since };
        self.streams.insert(stream, held);
        refusal.map_or(Ok(granted), |no_room| Err(no_room.into()))
    }

    fn origin(&mut self, intake: SocketAddr) -> OriginClient {
        let new = || OriginClient::new(intake, self.tls.clone());
        self.origins.entry(intake).or_insert_with(new).clone()
    }

    fn origins_but(&mut self, lost: SocketAddr) -> Vec<OriginClient> {
        let known = self.registry.list::<OriginRecord>().into_iter().map(|origin| origin.intake);
        let others: Vec<SocketAddr> = known.filter(|intake| *intake != lost).collect();
        others.into_iter().map(|intake| self.origin(intake)).collect()
    }

    /// Promises capacity; a worker that runs already has its own.
    fn reserve(
        &mut self,
        waiting: Option<Waiting>,
        demand: Demand,
    ) -> (Option<Orphan>, Result<Reservation, NoRoom>) {
        let Some(waiting) = waiting else { return (None, self.ledger.admit(demand)) };
        self.ledger.release(waiting.reservation);
        if waiting.demand == demand {
            return (Some(waiting.orphan), Ok(self.ledger.take_over(demand)));
        }
        self.metrics.adoptions.with_label_values(&[Unfit::OtherLadder.as_str()]).inc();
        waiting.orphan.end(Unfit::OtherLadder);
        (None, self.ledger.admit(demand))
    }

    fn wait_for_router(&mut self, orphan: Orphan) {
        let (stream, demand) = (orphan.work.hello.stream.clone(), demand_of(&orphan.work.hello));
        let reservation = self.ledger.take_over(demand);
        self.orphans.insert(stream, Waiting { orphan, demand, reservation });
    }

    fn abandoned(&mut self, stream: StreamId, intake: SocketAddr) -> Option<Granted> {
        let Waiting { orphan, reservation, .. } = self.orphans.remove(&stream)?;
        let (epoch, superseded) = (orphan.work.hello.epoch, CancellationToken::new());
        let output = Output::start(stream.clone(), self.metrics.clone());
        let held = Held {
            epoch,
            output: output.clone(),
            reservation: Some(reservation),
            superseded: superseded.clone(),
            status: None,
            idle_since: None,
        };
        self.streams.insert(stream, held);
        let origin = self.origin(intake);
        Some(Granted { output, origin, superseded, orphan: Some(orphan) })
    }

    fn left(&mut self, stream: &StreamId, epoch: Epoch, reason: Option<EndReason>, over: bool) {
        if let Some(reason) = reason {
            self.metrics.worker_ends.with_label_values(&[reason.as_str()]).inc();
        }
        let Some(held) = self.streams.get_mut(stream).filter(|held| held.epoch == epoch) else {
            return;
        };
        held.status = None;
        held.idle_since = Some(Instant::now());
        if let Some(reservation) = held.reservation.take() {
            self.ledger.release(reservation);
        }
        if over {
            self.streams.remove(stream);
        }
    }

    fn show(&self) {
        let (promised, capacity) = (self.ledger.promised(), self.ledger.capacity());
        self.shown.send_if_modified(|shown| std::mem::replace(shown, promised) != promised);
        let set = |gauge: &millrace_telemetry::prometheus::IntGaugeVec,
                   resource: Resource,
                   amount: u64| {
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            gauge.with_label_values(&[resource.as_str()]).set(amount);
        };
        for resource in Resource::ALL {
            set(&self.metrics.promised, resource, promised.amount(resource));
            // What is not limited has no series.
            if let Some(amount) = capacity.amount(resource) {
                set(&self.metrics.capacity, resource, amount);
            }
        }
        let assigned = self.streams.values().filter(|held| held.reservation.is_some()).count();
        let working = assigned + self.orphans.len();
        self.metrics.workers.set(i64::try_from(working).unwrap_or(i64::MAX));
        self.metrics.unkillable.set(i64::try_from(self.withheld.len()).unwrap_or(i64::MAX));
    }
}

/// Whether what a stream has published from here is kept, which has not been made here for so long.
fn is_kept(idle: Option<Duration>, is_over: impl FnOnce() -> bool) -> bool {
    idle.is_none_or(|idle| idle < KEPT_WHEN_OVER || idle < KEPT && !is_over())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_published_here_is_kept_for_two_minutes_and_for_seconds_once_it_is_over() {
        let kept = |seconds, over| is_kept(Some(Duration::from_secs(seconds)), || over);
        assert!(is_kept(None, || true), "it is made here");
        assert_eq!([kept(9, true), kept(10, true)], [true, false]);
        assert_eq!([kept(119, false), kept(120, false)], [true, false]);
    }
}
