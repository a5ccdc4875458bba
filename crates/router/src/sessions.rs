//! Every session of this router. One task owns them; ingest asks it whether a publisher may come in, operators what there is.

#[cfg(test)]
mod latecomers;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use millrace_lifecycle::{Leaver, Takeover, Takeovers};
use millrace_registry::{ChannelRecord, RouterRecord, StreamRecord};
use millrace_telemetry::{Clock, Hurry};
use millrace_types::{ChannelId, Decision, DecisionKind, RefusalReason, StreamId, Wall};
use tokio::{
    runtime,
    sync::{
        mpsc::{self, error::SendError},
        oneshot, watch,
    },
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{Instrument, error, info_span, warn};

use crate::{
    doorstep::{Doorstep, Verdict},
    ingest::{Gate, Granted, Publication, PublishRequest, Refusal},
    key_lookup::KeyLookup,
    moves::Departures,
    regain::Lack,
    report::StreamReport,
    session::{Command, Joining, Session, SessionContext, Waiting},
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
    /// Whether it would be let in as things are.
    MayJoin(Newcomer, oneshot::Sender<Result<(), Refusal>>),
    /// What it sends can be taken: it is let in, or told why not.
    Join(Newcomer, Waiting),
    Reports(oneshot::Sender<Vec<StreamReport>>),
    Leaving(Departures, oneshot::Sender<Vec<Leaver>>),
    MoveAway(Leaver),
    Lacking(oneshot::Sender<Vec<(StreamId, Lack)>>),
    Regain(StreamId),
    SetReplayBytes(usize),
    Stop(oneshot::Sender<()>),
}

/// A publisher with a key of a channel.
#[derive(Clone, Debug)]
struct Newcomer {
    channel: ChannelRecord,
    stream: StreamId,
    key_hash: String,
    peer: SocketAddr,
    /// Where its connection runs: there its session does.
    runtime: runtime::Handle,
}

/// What stands for a newcomer that may come in.
struct Entrance {
    key_until: Wall,
    takeovers: Takeovers,
    is_open: bool,
}

/// A handle on the sessions; also the gate that ingest asks.
#[derive(Clone, Debug)]
pub struct Sessions {
    questions: mpsc::Sender<Question>,
    key_lookup: KeyLookup,
    context: SessionContext,
}

impl Sessions {
    /// Starts without any.
    pub fn start(context: SessionContext) -> Self {
        let (questions, inbox) = mpsc::channel(QUEUE);
        let (sessions, running) = (BTreeMap::new(), JoinSet::new());
        let task = Task { context: context.clone(), sessions, running, is_stopping: false };
        tokio::spawn(task.run(inbox));
        let key_lookup = KeyLookup::start(context.registry.clone());
        Self { questions, key_lookup, context }
    }

    /// Every stream's report.
    pub async fn reports(&self) -> Vec<StreamReport> {
        self.ask(Question::Reports).await.unwrap_or_default()
    }

    /// The streams of this router that are to leave their nodes, by name.
    pub async fn leaving(&self, departures: Departures) -> Vec<Leaver> {
        self.ask(|reply| Question::Leaving(departures, reply)).await.unwrap_or_default()
    }

    /// Tells a stream's session to leave its node, if another takes it.
    pub async fn move_away(&self, leaver: Leaver) {
        // Without the task there is no session either.
        let _ = self.questions.send(Question::MoveAway(leaver)).await;
    }

    /// The streams that go on without encoders for want of room, and what they need.
    pub async fn lacking(&self) -> Vec<(StreamId, Lack)> {
        self.ask(Question::Lacking).await.unwrap_or_default()
    }

    /// Tells a stream's session that there is room for its ladder.
    pub async fn regain(&self, stream: StreamId) {
        // Without the task there is no session either.
        let _ = self.questions.send(Question::Regain(stream)).await;
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

    /// Who that is, if the key is one of its channel's.
    fn newcomer(&self, request: &PublishRequest) -> Result<Newcomer, Refusal> {
        let id: &ChannelId = request.key.channel();
        let found = self.context.registry.get::<ChannelRecord>(id.as_str());
        let record = found.map_err(|error| {
            error!(%error, channel = %id, "channel cannot be read");
            Refusal::from(RefusalReason::Internal)
        })?;
        let (key_hash, now) = (request.key.hash(), self.context.clock.wall());
        let channel = record
            .filter(|record| record.accepts_until(&key_hash).is_some_and(|until| now < until))
            .ok_or_else(|| Refusal::from(RefusalReason::BadKey))?;
        let stream = channel.channel.as_str().parse();
        let stream =
            stream.map_err(|error| Refusal::with_detail(RefusalReason::Internal, error))?;
        let runtime = runtime::Handle::current();
        Ok(Newcomer { channel, stream, key_hash, peer: request.peer, runtime })
    }

    /// Looks at what the newcomer sends, and lets it in or sends it away.
    async fn try_out(self, newcomer: Newcomer, mut publication: Publication, _hurry: Hurry) {
        let clock = self.context.clock;
        let mut doorstep = Doorstep::new(newcomer.channel.low_latency);
        let verdict = loop {
            let due = doorstep.deadline().map(|at| clock.instant(at));
            let verdict = tokio::select! {
                event = publication.next() => doorstep.hear(clock.mono(), clock.wall(), event),
                () = reached(due) => doorstep.elapsed(clock.mono()),
            };
            if verdict != Verdict::Wait {
                break verdict;
            }
        };
        match verdict {
            Verdict::Wait | Verdict::Gone => {}
            Verdict::Enter { since } => {
                publication.put_back(doorstep.into_heard());
                let join = Question::Join(newcomer, Waiting { publication, since });
                // Without the task the publication is dropped, which refuses it.
                let _ = self.questions.send(join).await;
            }
            Verdict::Refuse(error) => {
                let (stream, reason) = (&newcomer.stream, error.refusal());
                warn!(%stream, %error, reason = reason.as_str(), "source refused");
                let refusal = Refusal::with_detail(reason, &error);
                self.context.turn_away(&newcomer, &mut publication, refusal);
            }
        }
    }
}

impl SessionContext {
    /// Keeps a refusal, for operators. Strangers can cause it.
    fn note_refused(&self, channel: &ChannelId, peer: SocketAddr, refusal: &Refusal) {
        let refused = Decision::of(DecisionKind::PublisherRefused).because(refusal.reason);
        let refused = match channel.as_str().parse::<StreamId>() {
            Ok(stream) => refused.stream(&stream),
            Err(_) => refused,
        };
        let why = refusal.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        self.decisions.record_of_stranger(refused.saying(format!("from {peer}{why}")));
    }

    /// Tells a publisher that was not let into a session why.
    fn turn_away(&self, newcomer: &Newcomer, publication: &mut Publication, refusal: Refusal) {
        self.note_refused(&newcomer.channel.channel, newcomer.peer, &refusal);
        publication.refuse(refusal);
    }
}

impl Gate for Sessions {
    async fn authorize(&self, request: PublishRequest) -> Result<Granted, Refusal> {
        let mut known = self.newcomer(&request);
        if known.as_ref().is_err_and(|refusal| refusal.reason == RefusalReason::BadKey) {
            // The channel or its key may have been made a moment ago.
            self.key_lookup.ask(request.key.channel()).await;
            known = self.newcomer(&request);
        }
        let asked = match known {
            Ok(newcomer) => {
                let may = self.ask(|reply| Question::MayJoin(newcomer.clone(), reply)).await;
                may.unwrap_or_else(|| Err(RefusalReason::ShuttingDown.into())).map(|()| newcomer)
            }
            Err(refusal) => Err(refusal),
        };
        let newcomer = asked.inspect_err(|refusal| {
            self.context.note_refused(request.key.channel(), request.peer, refusal);
        })?;
        let (granted, publication) = Publication::new(PUBLICATION_MESSAGES);
        let span = info_span!("doorstep", stream = %newcomer.stream);
        let trial = self.clone().try_out(newcomer, publication, Hurry::here());
        tokio::spawn(trial.instrument(span));
        Ok(granted)
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Handle {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<StreamReport>,
    takeovers: Takeovers,
    /// The newest publisher.
    newest: Newcomer,
    /// Until when its key is known to be accepted.
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
    /// Each ends with its stream, and with a publisher that came too late for it.
    running: JoinSet<(StreamId, Option<Waiting>)>,
    is_stopping: bool,
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
                Some(ended) = self.running.join_next() => self.forget(ended).await,
            }
            let sessions = i64::try_from(self.sessions.len()).unwrap_or(i64::MAX);
            self.context.metrics.sessions.set(sessions);
        }
    }

    /// Publishers whose key is not their channel's any more are turned away. A registry that has lost its memory revokes nothing.
    fn look_at_keys(&mut self, concerns: impl Fn(&StreamId, &Handle) -> bool) {
        let concerned = self.sessions.iter_mut().filter(|(stream, held)| concerns(stream, held));
        for (stream, held) in concerned {
            match valid_until(&self.context, stream, &held.newest.key_hash) {
                Some(until) => held.key_until = until,
                None => {
                    // Asked again only when the channel changes.
                    held.key_until = FOREVER;
                    let channel = self.context.registry.get::<ChannelRecord>(stream.as_str());
                    let command = match channel {
                        Ok(None) => Command::End,
                        _ => Command::Refuse(RefusalReason::BadKey),
                    };
                    let _ = held.commands.try_send(command);
                }
            }
        }
    }

    async fn forget(&mut self, ended: Result<(StreamId, Option<Waiting>), JoinError>) {
        match ended {
            Ok((stream, late)) => {
                let is_over = |held: &Handle| held.commands.is_closed();
                let over = match self.sessions.get(&stream).is_some_and(is_over) {
                    true => self.sessions.remove(&stream),
                    false => None,
                };
                match (late, over) {
                    (Some(late), Some(over)) => self.let_in(over.newest, late).await,
                    // A newer one has the next session.
                    (Some(mut late), None) => {
                        late.publication.refuse(RefusalReason::TakenOver.into());
                    }
                    (None, _) => {}
                }
            }
            Err(error) => {
                // Cancelled: the program stops, and with it the threads that connections and their sessions run on.
                if error.is_panic() {
                    error!(%error, "session lost to a bug");
                }
                self.sessions.retain(|_, held| !held.commands.is_closed());
            }
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::MayJoin(newcomer, reply) => {
                let _ = reply.send(self.entrance(&newcomer).map(|_| ()));
            }
            Question::Join(newcomer, waiting) => self.let_in(newcomer, waiting).await,
            Question::Reports(reply) => {
                let reports = self.sessions.values().map(|held| held.report.borrow().clone());
                let _ = reply.send(reports.collect());
            }
            Question::Leaving(departures, reply) => {
                let leaver = |(stream, held): (&StreamId, &Handle)| {
                    departures.leaver(stream, &held.report.borrow())
                };
                let _ = reply.send(self.sessions.iter().filter_map(leaver).collect());
            }
            Question::MoveAway(Leaver { stream, from, to, .. }) => {
                if let Some(held) = self.sessions.get(&stream) {
                    // Full: it is told again.
                    let _ = held.commands.try_send(Command::MoveAway { from, to });
                }
            }
            Question::Lacking(reply) => {
                let lack = |(stream, held): (&StreamId, &Handle)| {
                    Some((stream.clone(), held.report.borrow().lack.clone()?))
                };
                let _ = reply.send(self.sessions.iter().filter_map(lack).collect());
            }
            Question::Regain(stream) => {
                if let Some(held) = self.sessions.get(&stream) {
                    // Full: it is told again, later.
                    let _ = held.commands.try_send(Command::Regain);
                }
            }
            Question::SetReplayBytes(bytes) => self.context.replay_bytes = bytes,
            Question::Stop(reply) => {
                self.is_stopping = true;
                for held in self.sessions.values() {
                    let _ = held.commands.try_send(Command::Refuse(RefusalReason::ShuttingDown));
                }
                let _ = reply.send(());
            }
        }
    }

    /// Whether a newcomer is let in now.
    fn entrance(&self, newcomer: &Newcomer) -> Result<Entrance, Refusal> {
        let Newcomer { stream, key_hash, peer, .. } = newcomer;
        if self.is_stopping {
            return Err(RefusalReason::ShuttingDown.into());
        }
        // It may have ended since it was looked up, and before this task hears of that.
        let Some(key_until) = valid_until(&self.context, stream, key_hash) else {
            return Err(RefusalReason::BadKey.into());
        };
        let open = self.sessions.get(stream).filter(|held| !held.commands.is_closed());
        let mut takeovers = open.map_or_else(|| self.seen_elsewhere(stream), Handle::takeovers);
        match takeovers.asked(self.context.clock.wall(), peer.ip()) {
            Takeover::Refused(reason) => Err(reason.into()),
            _ => Ok(Entrance { key_until, takeovers, is_open: open.is_some() }),
        }
    }

    /// Much may have happened since it was told that it may.
    async fn let_in(&mut self, newcomer: Newcomer, mut waiting: Waiting) {
        match self.entrance(&newcomer) {
            Ok(entrance) => self.join(newcomer, entrance, waiting).await,
            Err(refusal) => {
                self.context.turn_away(&newcomer, &mut waiting.publication, refusal);
            }
        }
    }

    async fn join(&mut self, newcomer: Newcomer, entrance: Entrance, waiting: Waiting) {
        let Entrance { key_until, takeovers, is_open } = entrance;
        let (stream, peer) = (newcomer.stream.clone(), newcomer.peer);
        let joining = Joining { waiting, peer, takeovers: takeovers.clone() };
        let join = Command::Join(Box::new(joining));
        let open = self.sessions.get_mut(&stream).filter(|_| is_open);
        let join = match open {
            Some(held) => {
                held.takeovers = takeovers.clone();
                (held.newest, held.key_until) = (newcomer.clone(), key_until);
                match held.commands.send(join).await {
                    Ok(()) => return,
                    // It ended this moment: the next session is this publisher's.
                    Err(SendError(join)) => join,
                }
            }
            None => join,
        };
        let held = self.open(newcomer, key_until, takeovers);
        // It reads its commands for as long as it lives, and it has just begun.
        let _ = held.commands.send(join).await;
        self.sessions.insert(stream, held);
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
    fn open(&mut self, newest: Newcomer, key_until: Wall, takeovers: Takeovers) -> Handle {
        let (stream, context) = (newest.stream.clone(), self.context.clone());
        let low_latency = newest.channel.low_latency;
        let (session, report) =
            Session::new(stream.clone(), low_latency, takeovers.clone(), context);
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let span = info_span!("session", %stream, epoch = tracing::field::Empty);
        let ended = async move {
            let late = session.run(inbox).await;
            (stream, late)
        };
        self.running.spawn_on(ended.instrument(span), &newest.runtime);
        Handle { commands, report, takeovers, newest, key_until }
    }
}

/// Until when the key is its channel's; `None`: it is not any more.
fn valid_until(context: &SessionContext, stream: &StreamId, key_hash: &str) -> Option<Wall> {
    let is_lost = || context.registry.is_lost::<ChannelRecord>(stream.as_str());
    match context.registry.get::<ChannelRecord>(stream.as_str()) {
        Ok(Some(channel)) => match channel.accepts_until(key_hash) {
            Some(until) => (context.clock.wall() < until).then_some(until),
            // Made after the copy that the registry was set back to.
            None => is_lost().then_some(FOREVER),
        },
        Ok(None) => is_lost().then_some(FOREVER),
        // What cannot be read revokes nothing.
        Err(_) => Some(FOREVER),
    }
}
