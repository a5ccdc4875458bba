//! Every session of this router. One task owns them; ingest asks it whether a publisher may come in, operators what there is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use millrace_lifecycle::{Leaver, Takeover, Takeovers};
use millrace_registry::ChannelRecord;
use millrace_telemetry::Clock;
use millrace_types::{ChannelId, NodeId, RefusalReason, StreamId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{Instrument, error, info_span};

use crate::{
    ingest::{Gate, Granted, Publication, PublishRequest, Refusal},
    report::{Event, StreamReport},
    session::{Command, Session, SessionContext},
};

/// Questions that wait for this task.
const QUEUE: usize = 256;
/// Messages of a publisher that wait for its session; a full queue fills the publisher's TCP window.
const PUBLICATION_MESSAGES: usize = 256;
/// Commands that wait for a session.
const COMMANDS: usize = 8;
/// Events of all streams that are kept.
const KEPT_EVENTS: usize = 10_000;

#[derive(Debug)]
enum Question {
    Join {
        channel: ChannelRecord,
        key_hash: String,
        peer: SocketAddr,
        reply: oneshot::Sender<Result<Granted, Refusal>>,
    },
    Reports(oneshot::Sender<Vec<StreamReport>>),
    Events(oneshot::Sender<Vec<Event>>),
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
}

impl Sessions {
    /// Starts without any. `events` is the other end of [`SessionContext::events`].
    pub fn start(context: SessionContext, events: mpsc::Receiver<Event>) -> Self {
        let (questions, inbox) = mpsc::channel(QUEUE);
        let registry = context.registry.clone();
        let task = Task {
            context,
            sessions: BTreeMap::new(),
            running: JoinSet::new(),
            recent: VecDeque::new(),
        };
        tokio::spawn(task.run(inbox, events));
        Self { questions, registry }
    }

    /// Every stream's report.
    pub async fn reports(&self) -> Vec<StreamReport> {
        self.ask(Question::Reports).await.unwrap_or_default()
    }

    /// What happened lately, oldest first.
    pub async fn events(&self) -> Vec<Event> {
        self.ask(Question::Events).await.unwrap_or_default()
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
        let hash = request.key.hash();
        record
            .filter(|record| record.key_hashes.contains(&hash))
            .ok_or_else(|| Refusal::from(RefusalReason::BadKey))
    }
}

impl Gate for Sessions {
    async fn authorize(&self, request: PublishRequest) -> Result<Granted, Refusal> {
        let channel = self.channel_of(&request)?;
        let (key_hash, peer) = (request.key.hash(), request.peer);
        let joined = self.ask(|reply| Question::Join { channel, key_hash, peer, reply }).await;
        joined.unwrap_or_else(|| Err(RefusalReason::ShuttingDown.into()))
    }
}

struct Handle {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<StreamReport>,
    takeovers: Takeovers,
    /// Of the key that the current publisher showed.
    key_hash: String,
}

struct Task {
    context: SessionContext,
    sessions: BTreeMap<StreamId, Handle>,
    running: JoinSet<StreamId>,
    recent: VecDeque<Event>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Question>, mut events: mpsc::Receiver<Event>) {
        let mut changes = self.context.registry.changes();
        loop {
            tokio::select! {
                Ok(()) = changes.changed() => self.turn_revoked_away(),
                question = inbox.recv() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
                Some(event) = events.recv() => {
                    if self.recent.len() == KEPT_EVENTS {
                        self.recent.pop_front();
                    }
                    self.recent.push_back(event);
                }
                Some(ended) = self.running.join_next() => self.forget(ended),
            }
            let sessions = i64::try_from(self.sessions.len()).unwrap_or(i64::MAX);
            self.context.metrics.sessions.set(sessions);
        }
    }

    /// Publishers whose key is not their channel's any more are turned away. A registry that has lost its memory revokes nothing.
    fn turn_revoked_away(&mut self) {
        for (stream, held) in &self.sessions {
            let registry = &self.context.registry;
            let valid = match registry.get::<ChannelRecord>(stream.as_str()) {
                Ok(Some(channel)) => channel.key_hashes.contains(&held.key_hash),
                Ok(None) => registry.is_lost::<ChannelRecord>(stream.as_str()),
                // What cannot be read revokes nothing.
                Err(_) => true,
            };
            if !valid {
                let _ = held.commands.try_send(Command::Refuse(RefusalReason::BadKey));
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
            Question::Join { channel, key_hash, peer, reply } => {
                let _ = reply.send(self.join(&channel, key_hash, peer).await);
            }
            Question::Reports(reply) => {
                let reports = self.sessions.values().map(|held| held.report.borrow().clone());
                let _ = reply.send(reports.collect());
            }
            Question::Events(reply) => {
                let _ = reply.send(self.recent.iter().cloned().collect());
            }
            Question::MadeOn(nodes, reply) => {
                let leaver = |(stream, held): (&StreamId, &Handle)| {
                    let report = held.report.borrow();
                    let is_there = report.node.as_ref().is_some_and(|node| nodes.contains(node));
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
    ) -> Result<Granted, Refusal> {
        let stream: StreamId = channel
            .channel
            .as_str()
            .parse()
            .map_err(|error| Refusal::with_detail(RefusalReason::Internal, error))?;
        if self.sessions.get(&stream).is_none_or(|held| held.commands.is_closed()) {
            let held = self.open(stream.clone(), channel.low_latency);
            self.sessions.insert(stream.clone(), held);
        }
        let held = self.sessions.get_mut(&stream).ok_or(RefusalReason::Internal)?;
        let connected =
            held.report.borrow().publisher.as_ref().is_some_and(|publisher| publisher.connected);
        if !connected {
            held.takeovers.left();
        }
        if let Takeover::Refused(reason) =
            held.takeovers.asked(self.context.clock.mono(), peer.ip())
        {
            return Err(reason.into());
        }
        held.key_hash = key_hash;
        let (granted, publication) = Publication::new(PUBLICATION_MESSAGES);
        let join = Command::Join { publication, peer };
        held.commands.send(join).await.map_err(|_| Refusal::from(RefusalReason::Internal))?;
        Ok(granted)
    }

    /// Starts a stream's session, which claims the stream first.
    fn open(&mut self, stream: StreamId, low_latency: bool) -> Handle {
        let (session, report) = Session::new(stream.clone(), low_latency, self.context.clone());
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let span = info_span!("session", %stream);
        let ended = async move {
            session.run(inbox).await;
            stream
        };
        self.running.spawn(ended.instrument(span));
        Handle { commands, report, takeovers: Takeovers::default(), key_hash: String::new() }
    }
}
