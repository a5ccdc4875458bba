//! Every session of this router. One task owns them; ingest asks it whether a publisher may come in, operators what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use millrace_lifecycle::{Leaver, Takeover, Takeovers};
use millrace_registry::{ChannelRecord, RouterRecord, StreamRecord};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::{ChannelId, Decision, DecisionKind, NodeId, RefusalReason, StreamId, Wall};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::{Instrument, error, info_span};

use crate::{
    ingest::{Gate, Granted, Publication, PublishRequest, Refusal},
    report::StreamReport,
    session::{Command, Session, SessionContext},
};

/// Questions that wait for this task.
const QUEUE: usize = 256;
/// Messages of a publisher that wait for its session; a full queue fills the publisher's TCP window.
const PUBLICATION_MESSAGES: usize = 256;
/// From one look at the keys that end by themselves to the next.
const KEYS_EVERY: Duration = Duration::from_secs(1);
/// Commands that wait for a session.
const COMMANDS: usize = 8;

/// No end is known.
const FOREVER: Wall = Wall(u64::MAX);

#[derive(Debug)]
enum Question {
    Join {
        channel: ChannelRecord,
        key_hash: String,
        peer: SocketAddr,
        /// Where its connection runs: there its session does.
        runtime: runtime::Handle,
        reply: oneshot::Sender<Result<Granted, Refusal>>,
    },
    Reports(oneshot::Sender<Vec<StreamReport>>),
    MadeOn(BTreeSet<NodeId>, oneshot::Sender<Vec<Leaver>>),
    MoveAway(StreamId),
    SetReplayBytes(usize),
    Stop(oneshot::Sender<()>),
}

/// A handle on the sessions; also the gate that ingest asks.
#[derive(Clone, Debug)]
pub struct Sessions {
    questions: mpsc::Sender<Question>,
    registry: millrace_registry::Registry,
    decisions: DecisionLog,
    clock: SystemClock,
}

impl Sessions {
    /// Starts without any.
    pub fn start(context: SessionContext) -> Self {
        let (questions, inbox) = mpsc::channel(QUEUE);
        let (registry, decisions) = (context.registry.clone(), context.decisions.clone());
        let clock = context.clock;
        let task = Task { context, sessions: BTreeMap::new(), running: JoinSet::new() };
        tokio::spawn(task.run(inbox));
        Self { questions, registry, decisions, clock }
    }

    /// Every stream's report.
    pub async fn reports(&self) -> Vec<StreamReport> {
        self.ask(Question::Reports).await.unwrap_or_default()
    }

    /// The streams that these nodes make for this router, by name.
    pub async fn made_on(&self, nodes: BTreeSet<NodeId>) -> Vec<Leaver> {
        self.ask(|reply| Question::MadeOn(nodes, reply)).await.unwrap_or_default()
    }

    /// Tells a stream's session to leave its node, if another takes it.
    pub async fn move_away(&self, stream: StreamId) {
        // Without the task there is no session either.
        let _ = self.questions.send(Question::MoveAway(stream)).await;
    }

    /// Tells every publisher to connect again.
    pub async fn stop(&self) {
        let _ = self.ask(Question::Stop).await;
    }

    /// Sets how much input may be kept for a successor; sessions that are open keep what they have.
    pub async fn set_replay_bytes(&self, bytes: usize) {
        // Without the task there is nothing to set.
        let _ = self.questions.send(Question::SetReplayBytes(bytes)).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.ok()?;
        answer.await.ok()
    }

    /// The channel that the key belongs to, if it is one of its keys.
    fn channel_of(&self, request: &PublishRequest) -> Result<ChannelRecord, Refusal> {
        let channel: &ChannelId = request.key.channel();
        let found = self.registry.get::<ChannelRecord>(channel.as_str());
        let record = found.map_err(|error| {
            error!(%error, %channel, "channel cannot be read");
            Refusal::from(RefusalReason::Internal)
        })?;
        let (hash, now) = (request.key.hash(), self.clock.wall());
        record
            .filter(|record| record.accepts_until(&hash).is_some_and(|until| now < until))
            .ok_or_else(|| Refusal::from(RefusalReason::BadKey))
    }
}

impl Sessions {
    /// Keeps a refusal, for operators. Strangers can cause it.
    fn note(&self, request: &PublishRequest, refusal: &Refusal) {
        let refused = Decision::of(DecisionKind::PublisherRefused).because(refusal.reason);
        let refused = match request.key.channel().as_str().parse::<StreamId>() {
            Ok(stream) => refused.stream(&stream),
            Err(_) => refused,
        };
        self.decisions.record_of_stranger(refused.saying(format!("from {}", request.peer)));
    }
}

impl Gate for Sessions {
    async fn authorize(&self, request: PublishRequest) -> Result<Granted, Refusal> {
        let granted = match self.channel_of(&request) {
            Ok(channel) => {
                let (key_hash, peer) = (request.key.hash(), request.peer);
                let runtime = runtime::Handle::current();
                let join = |reply| Question::Join { channel, key_hash, peer, runtime, reply };
                let joined = self.ask(join).await;
                joined.unwrap_or_else(|| Err(RefusalReason::ShuttingDown.into()))
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &granted {
            self.note(&request, refusal);
        }
        granted
    }
}

struct Handle {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<StreamReport>,
    takeovers: Takeovers,
    /// Of the key that the current publisher showed.
    key_hash: String,
    /// Until when that is known to be accepted.
    key_until: Wall,
}

impl Handle {
    /// Who sends now, and whose place was taken lately.
    fn takeovers(&self) -> Takeovers {
        let mut takeovers = self.takeovers.clone();
        let report = self.report.borrow();
        if !report.publisher.as_ref().is_some_and(|publisher| publisher.connected) {
            takeovers.left();
        }
        takeovers
    }
}

struct Task {
    context: SessionContext,
    sessions: BTreeMap<StreamId, Handle>,
    running: JoinSet<StreamId>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Question>) {
        let mut channels = self.context.registry.follow::<ChannelRecord>();
        let mut keys = interval(KEYS_EVERY);
        keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = channels.changed() => {
                    self.look_at_keys(|stream, _| changed.concerns(stream.as_str()));
                }
                _ = keys.tick() => {
                    let now = self.context.clock.wall();
                    self.look_at_keys(|_, held| held.key_until <= now);
                }
                question = inbox.recv() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
                Some(ended) = self.running.join_next() => self.forget(ended),
            }
            let sessions = i64::try_from(self.sessions.len()).unwrap_or(i64::MAX);
            self.context.metrics.sessions.set(sessions);
        }
    }

    /// Publishers whose key is not their channel's any more are turned away. A registry that has lost its memory revokes nothing.
    fn look_at_keys(&mut self, concerns: impl Fn(&StreamId, &Handle) -> bool) {
        let concerned = self.sessions.iter_mut().filter(|(stream, held)| concerns(stream, held));
        for (stream, held) in concerned {
            match valid_until(&self.context, stream, &held.key_hash) {
                Some(until) => held.key_until = until,
                None => {
                    // Asked again only when the channel changes.
                    held.key_until = FOREVER;
                    let _ = held.commands.try_send(Command::Refuse(RefusalReason::BadKey));
                }
            }
        }
    }

    fn forget(&mut self, ended: Result<StreamId, tokio::task::JoinError>) {
        match ended {
            Ok(stream) => {
                if self.sessions.get(&stream).is_some_and(|held| held.commands.is_closed()) {
                    self.sessions.remove(&stream);
                }
            }
            Err(error) => {
                error!(%error, "session lost to a bug");
                self.sessions.retain(|_, held| !held.commands.is_closed());
            }
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::Join { channel, key_hash, peer, runtime, reply } => {
                let _ = reply.send(self.join(&channel, key_hash, peer, &runtime).await);
            }
            Question::Reports(reply) => {
                let reports = self.sessions.values().map(|held| held.report.borrow().clone());
                let _ = reply.send(reports.collect());
            }
            Question::MadeOn(nodes, reply) => {
                let leaver = |(stream, held): (&StreamId, &Handle)| {
                    let report = held.report.borrow();
                    let second = report.second.as_ref().map(|second| &second.node);
                    let is_there =
                        report.node.iter().chain(second).any(|node| nodes.contains(node));
                    is_there.then(|| Leaver { stream: stream.clone(), moving: report.moving })
                };
                let _ = reply.send(self.sessions.iter().filter_map(leaver).collect());
            }
            Question::MoveAway(stream) => {
                if let Some(held) = self.sessions.get(&stream) {
                    // Full: it is told again.
                    let _ = held.commands.try_send(Command::MoveAway);
                }
            }
            Question::SetReplayBytes(bytes) => self.context.replay_bytes = bytes,
            Question::Stop(reply) => {
                for held in self.sessions.values() {
                    let _ = held.commands.try_send(Command::Refuse(RefusalReason::ShuttingDown));
                }
                let _ = reply.send(());
            }
        }
    }

    async fn join(
        &mut self,
        channel: &ChannelRecord,
        key_hash: String,
        peer: SocketAddr,
        runtime: &runtime::Handle,
    ) -> Result<Granted, Refusal> {
        let stream: StreamId = channel
            .channel
            .as_str()
            .parse()
            .map_err(|error| Refusal::with_detail(RefusalReason::Internal, error))?;
        // It may have ended since it was looked up, and before this task hears of that.
        let Some(key_until) = valid_until(&self.context, &stream, &key_hash) else {
            return Err(RefusalReason::BadKey.into());
        };
        let open = self.sessions.get(&stream).filter(|held| !held.commands.is_closed());
        let is_open = open.is_some();
        let mut takeovers = open.map_or_else(|| self.seen_elsewhere(&stream), Handle::takeovers);
        if let Takeover::Refused(reason) = takeovers.asked(self.context.clock.wall(), peer.ip()) {
            return Err(reason.into());
        }
        if !is_open {
            let held = self.open(stream.clone(), channel.low_latency, takeovers.clone(), runtime);
            self.sessions.insert(stream.clone(), held);
        }
        let held = self.sessions.get_mut(&stream).ok_or(RefusalReason::Internal)?;
        held.takeovers = takeovers.clone();
        (held.key_hash, held.key_until) = (key_hash, key_until);
        let (granted, publication) = Publication::new(PUBLICATION_MESSAGES);
        let join = Command::Join { publication, peer, takeovers };
        held.commands.send(join).await.map_err(|_| Refusal::from(RefusalReason::Internal))?;
        Ok(granted)
    }

    /// The publishers of a stream that has no session here, as its record tells. Nobody sends to a router that is gone, nor to
    /// this one.
    fn seen_elsewhere(&self, stream: &StreamId) -> Takeovers {
        let (registry, here) = (&self.context.registry, &self.context.router);
        let Ok(Some(record)) = registry.get::<StreamRecord>(stream.as_str()) else {
            return Takeovers::default();
        };
        let lives = registry.get::<RouterRecord>(record.router.as_str()).ok().flatten().is_some();
        let mut takeovers = record.takeovers;
        if record.router == *here || !lives {
            takeovers.left();
        }
        takeovers
    }

    /// Starts a stream's session, which claims the stream first.
    fn open(
        &mut self,
        stream: StreamId,
        low_latency: bool,
        takeovers: Takeovers,
        runtime: &runtime::Handle,
    ) -> Handle {
        let (session, report) =
            Session::new(stream.clone(), low_latency, takeovers.clone(), self.context.clone());
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let span = info_span!("session", %stream);
        let ended = async move {
            session.run(inbox).await;
            stream
        };
        self.running.spawn_on(ended.instrument(span), runtime);
        Handle { commands, report, takeovers, key_hash: String::new(), key_until: FOREVER }
    }
}

/// Until when the key is its channel's; `None`: it is not any more.
fn valid_until(context: &SessionContext, stream: &StreamId, key_hash: &str) -> Option<Wall> {
    match context.registry.get::<ChannelRecord>(stream.as_str()) {
        Ok(Some(channel)) => {
            let now = context.clock.wall();
            channel.accepts_until(key_hash).filter(|until| now < *until)
        }
        Ok(None) => context.registry.is_lost::<ChannelRecord>(stream.as_str()).then_some(FOREVER),
        // What cannot be read revokes nothing.
        Err(_) => Some(FOREVER),
    }
}
