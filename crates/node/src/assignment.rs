//! One placement of one stream: owns the Link, the worker and its supervision, from `Admitted` to the end of either.
//!
//! ```text
//! Link in ──Item──→ worker      (held back while the worker's socket is full: policy Block)
//! worker ──Part──→ output       (held back while the output's queue is full: policy Block)
//! output ──mark──→ Link out
//! ```
//! The worker keeps what the origin does not have: a part is acknowledged when it is published, or when the worker is to end.
//! Without a Link (an adopted worker whose router did not come) it is told to end at once. A standby's parts wait before the
//! [`Gate`] until the router says that the writer before has ended.
//!
//! Decisions about the worker are `millrace_lifecycle::Worker`'s; this is its driver. Whole messages that a dead worker
//! left in its socket are still taken: they are parts its successor need not make again.

mod ending;
mod lost_origin;
mod silence;
mod worker_side;

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use millrace_lifecycle::{Worker, WorkerInput, WorkerOutput};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_tls::{FarmReader, FarmWriter};
use millrace_types::{
    Because, Decision, DecisionKind, EndReason, Epoch, Mark, Mono, Reason, StreamId,
};
use millrace_wire::{
    End, Heartbeat, Hello, Message, MessageWriter, OriginLost, Published, RelayReader, Relayed,
    Start,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    ending::{Ending, Outcome},
    lost_origin::LostOrigin,
    silence::{BEAT_EVERY, RouterSilence},
};
use crate::{
    gate::Gate,
    host::{Host, Lag},
    output::{Command, Heard, Output},
    stopping::Stopping,
    unpublished::Unpublished,
    worker_process::{WorkerProcess, death_of},
};

/// How long a silent router has to place the stream again before what it sent is closed short: it may live, cut off from this
/// node only. As long as an adopted worker waits for its router.
const ROUTER_PATIENCE: Duration = Duration::from_secs(5);
/// Why a Link is lost that says nothing any more.
const SILENT: &str = "silent";
/// Input for the worker that may wait in the node, bytes; beyond it the Link is not read.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// The two halves of a Link.
pub struct Link {
    /// From the router.
    pub reader: RelayReader<FarmReader>,
    /// To the router.
    pub writer: MessageWriter<FarmWriter>,
}

/// Everything an assignment works with.
pub struct Assignment {
    /// Which stream.
    pub stream: StreamId,
    /// Its right to write.
    pub epoch: Epoch,
    /// What the router asked for.
    pub hello: Hello,
    /// To and from the router, if it has come.
    pub link: Option<Link>,
    /// Told to end at once.
    pub end: Option<End>,
    /// Started and fed `Start`.
    pub worker: WorkerProcess,
    /// Where parts go,
    pub output: Output,
    /// once this is open.
    pub gate: Gate,
    /// What the output says.
    pub heard: mpsc::Receiver<Heard>,
    /// Cancelled when a newer assignment of the stream has come.
    pub superseded: CancellationToken,
    /// Said when the node goes down.
    pub stopping: Stopping,
    /// The node's books.
    pub host: Host,
    /// Where the node's decisions are kept.
    pub decisions: DecisionLog,
    /// Real time.
    pub clock: SystemClock,
}

/// What the loop waits for.
enum Event {
    Superseded,
    NodeStops,
    Died(EndReason),
    FromWorker(io::Result<Option<Message>>),
    /// The output has room for what is pending.
    Room,
    /// The output has taken a standby as its writer, or has a newer one.
    Claimed(bool),
    FromRouter(io::Result<Option<Relayed>>),
    Published(Mark),
    OriginLost(SocketAddr),
    /// So much is known of the others.
    OthersAsked(OriginLost),
    ToWorker(io::Result<()>),
    ToRouter(io::Result<()>),
    Beat,
    Deadline,
}

struct Loop {
    it: Box<Assignment>,
    machine: Worker,
    /// Parts and init sections that wait for room in the output's queue: one, or, before the gate, as many as the worker makes
    /// without an acknowledgement.
    pending: VecDeque<Command>,
    unpublished: Unpublished,
    /// A standby that was not needed.
    is_dropped: bool,
    worker_hears: bool,
    worker_speaks: bool,
    silence: RouterSilence,
    /// When a router that fell silent is given up.
    router_awaited_until: Option<Mono>,
    worker_seq: u64,
    /// As it stands in the node's books, once it does.
    lag: Option<Lag>,
    ending: Ending,
    lost_origin: LostOrigin,
    /// Another node makes the stream too.
    is_beside: bool,
    /// Why the worker ends, in its own word.
    last_word: Option<EndReason>,
}

impl Assignment {
    /// Runs until the worker is gone and everything it made is with the output.
    pub async fn run(self: Box<Self>) {
        let now = self.clock.mono();
        let mut machine = Worker::new(now);
        machine.handle(now, WorkerInput::Ready);
        let is_beside = self.hello.beside.is_some();
        let mut this = Loop {
            it: self,
            machine,
            pending: VecDeque::new(),
            unpublished: Unpublished::default(),
            is_dropped: false,
            worker_hears: true,
            worker_speaks: true,
            silence: RouterSilence::new(now),
            router_awaited_until: None,
            worker_seq: 0,
            lag: None,
            ending: Ending::No,
            lost_origin: LostOrigin::default(),
            is_beside,
            last_word: None,
        };
        if let Some(end) = this.it.end {
            this.stop(end);
        }
        let outcome = this.drive().await;
        Box::pin(this.finish(outcome)).await;
    }
}

impl Loop {
    async fn drive(&mut self) -> Outcome {
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(outcome) = self.obey() {
                return outcome;
            }
            if self.is_dropped {
                return Outcome::Superseded;
            }
            let event = match self.write() {
                Some(failed) => failed,
                None => self.event(&mut beat).await,
            };
            match event {
                Event::Superseded => return Outcome::Superseded,
                Event::NodeStops => return Outcome::NodeStops,
                Event::Died(reason) => {
                    Box::pin(self.take_remains()).await;
                    let told = self.last_word.filter(|_| self.it.worker.is_adopted);
                    self.input(WorkerInput::Exited(told.unwrap_or(reason)));
                }
                Event::FromWorker(message) => self.worker_said(message),
                Event::Room => self.pass_on(),
                Event::Claimed(true) => self.promoted(),
                Event::Claimed(false) => return Outcome::Superseded,
                Event::FromRouter(message) => {
                    self.router_said(message).await;
                    self.hear_out_router().await;
                }
                Event::Published(mark) => self.published(mark),
                Event::OriginLost(intake) => {
                    self.lost_origin.ask_others(intake, &self.it.stream, &self.it.host);
                }
                Event::OthersAsked(lost) => self.tell_router(&Message::OriginLost(lost)),
                // A broken socket is followed by the worker's death.
                Event::ToWorker(Err(error)) => {
                    info!(%error, "worker's socket broke");
                    self.worker_hears = false;
                    self.cut_off();
                }
                Event::ToRouter(Err(error)) => self.link_lost(&error.to_string()),
                Event::ToWorker(Ok(())) | Event::ToRouter(Ok(())) => {}
                Event::Beat => self.beat(),
                Event::Deadline => self.input(WorkerInput::Tick),
            }
        }
    }

    /// Writes as much as goes without waiting.
    fn write(&mut self) -> Option<Event> {
        let worker = self.worker_hears.then_some(&mut self.it.worker.writer);
        let fed = worker.map_or(Ok(()), MessageWriter::flush_now).err();
        let told = self.it.link.as_mut().map_or(Ok(()), |link| link.writer.flush_now()).err();
        let broke = fed.map(|error| Event::ToWorker(Err(error)));
        broke.or_else(|| told.map(|error| Event::ToRouter(Err(error))))
    }

    /// Waits for whatever comes first. Each branch is cancel-safe.
    async fn event(&mut self, beat: &mut Interval) -> Event {
        let may_feed = self.may_feed();
        let it = &mut self.it;
        let wake = self.machine.deadline().unwrap_or_else(|| it.clock.mono() + BEAT_EVERY);
        let WorkerProcess { child, reader, writer, out_of_memory, .. } = &mut it.worker;
        let feeding = writer.wants_flush();
        let is_open = it.gate.is_open();
        let (said, written) = match &mut it.link {
            Some(Link { reader, writer }) => {
                let telling = writer.wants_flush();
                (may_feed.then(|| reader.next()), telling.then(|| writer.flush()))
            }
            None => (None, None),
        };
        tokio::select! {
            () = it.superseded.cancelled() => Event::Superseded,
            () = it.stopping.said() => Event::NodeStops,
            reason = death_of(child, out_of_memory) => Event::Died(reason),
            message = reader.next(), if self.worker_speaks && (self.pending.is_empty() || !is_open) => {
                Event::FromWorker(message)
            }
            taken = it.gate.claimed() => Event::Claimed(taken),
            _ = it.output.commands.reserve(), if is_open && !self.pending.is_empty() => Event::Room,
            message = or_never(said) => Event::FromRouter(message),
            Some(heard) = it.heard.recv() => match heard {
                Heard::Published(mark) => Event::Published(mark),
                Heard::OriginLost(intake) => Event::OriginLost(intake),
                Heard::Fenced => Event::Superseded,
            },
            lost = self.lost_origin.others_asked() => Event::OthersAsked(lost),
            written = writer.flush(), if self.worker_hears && feeding => {
                Event::ToWorker(written)
            }
            written = or_never(written) => Event::ToRouter(written),
            _ = beat.tick() => Event::Beat,
            () = sleep_until(it.clock.instant(wake)) => Event::Deadline,
        }
    }

    fn may_feed(&self) -> bool {
        let has_room = self.it.worker.writer.pending_bytes() < MAX_PENDING_BYTES;
        self.ending == Ending::No && has_room && self.unpublished.has_room()
    }

    /// What came together goes on together, even if it is more than is to wait: what was read at once is not held here.
    async fn hear_out_router(&mut self) {
        while self.ending == Ending::No
            && let Some(link) = &mut self.it.link
            && let Some(message) = link.reader.ready().transpose()
        {
            self.router_said(message.map(Some)).await;
        }
    }

    /// Hands the waiting part to the output.
    fn pass_on(&mut self) {
        let Some(command) = self.pending.pop_front() else { return };
        match self.it.output.commands.try_send(command) {
            Ok(()) if self.ending != Ending::No && self.pending.is_empty() => self.let_go(),
            Ok(()) => {}
            Err(TrySendError::Full(command)) => self.pending.push_front(command),
            Err(TrySendError::Closed(_)) => warn!("output is gone"),
        }
    }

    /// The worker needs to keep nothing any more: what it has said is the output's.
    fn let_go(&mut self) {
        let acks = self.unpublished.release().into_iter().map(Message::PartAck);
        acks.for_each(|ack| self.it.worker.writer.push(&ack));
    }

    /// A standby is the stream's writer from here on, and what it works on may be gone on with by the next daemon.
    fn promoted(&mut self) {
        info!("standby publishes");
        let hello = Hello { standby: false, ..self.it.hello.clone() };
        self.it.worker.writer.push(&Message::Start(Start {
            stream: self.it.stream.clone(),
            epoch: self.it.epoch,
            ladder: hello.ladder.clone(),
            resume: Vec::new(),
            hello: Some(hello),
            version: self.it.worker.version,
        }));
    }

    fn published(&mut self, mark: Mark) {
        let ack = self.unpublished.published(&mark);
        self.it.worker.writer.push(&Message::PartAck(ack));
        self.tell_router(&Message::Published(Published { mark }));
    }

    fn tell_router(&mut self, message: &Message) {
        if let Some(link) = &mut self.it.link {
            link.writer.push(message);
        }
    }

    /// Carries out what the machine has decided; `Some` when the worker is gone.
    fn obey(&mut self) -> Option<Outcome> {
        while let Some(output) = self.machine.poll() {
            match output {
                WorkerOutput::Look => {
                    let look = self.it.worker.look();
                    self.input(WorkerInput::Looked(look));
                }
                WorkerOutput::Drain => {
                    if let Ending::Told(end) = self.ending {
                        self.it.worker.writer.push(&Message::End(end));
                        if self.pending.is_empty() && self.it.gate.is_open() {
                            self.let_go();
                        }
                    }
                }
                WorkerOutput::Kill(why) => {
                    let why = why.as_str();
                    warn!(pid = self.it.worker.pid(), why, "killing worker");
                    self.it.worker.kill();
                }
                WorkerOutput::Ended(reason) => return Some(Outcome::WorkerEnded(reason)),
                WorkerOutput::Unkillable(reason) => return Some(Outcome::Unkillable(reason)),
            }
        }
        None
    }

    fn input(&mut self, input: WorkerInput) {
        self.machine.handle(self.it.clock.mono(), input);
    }

    async fn router_said(&mut self, said: io::Result<Option<Relayed>>) {
        self.silence.heard(self.it.clock.mono());
        let message = match said {
            Ok(Some(Relayed::Items(frames))) => return self.it.worker.writer.pass_on(frames),
            Ok(Some(Relayed::Message(message))) => message,
            Ok(None) => return self.link_lost("closed by the router"),
            Err(error) => return self.link_lost(&error.to_string()),
        };
        match message {
            Message::Health(health) => {
                // Full: the next second's report follows.
                let _ = self.it.output.commands.try_send(Command::Health(health.json));
            }
            Message::ChangeOrigin(change) => {
                let (host, stream) = (self.it.host.clone(), self.it.stream.clone());
                let epoch = self.it.epoch;
                tokio::spawn(async move { host.change_origin(stream, epoch, change).await });
            }
            Message::Begin(begin) => {
                info!(msn = %begin.msn, "standby begins");
                self.it.worker.writer.push(&Message::Begin(begin));
            }
            Message::Publish => {
                self.it.gate.publish(&self.it.output).await;
            }
            Message::Beside(beside) => {
                self.is_beside = beside.lives;
                if !beside.lives {
                    self.it.output.goes_on_alone();
                }
            }
            Message::End(end) => self.stop(end),
            _ => {}
        }
    }

    fn beat(&mut self) {
        let now = self.it.clock.mono();
        // Who may not be fed is not listened to.
        let is_silent = self.silence.beat(now, self.may_feed());
        if !self.pending.is_empty() {
            // Nobody reads what the worker says, which waits for that.
            self.input(WorkerInput::Beat);
        }
        if self.it.link.is_some() && is_silent {
            self.link_lost(SILENT);
        }
        if self.router_awaited_until.is_some_and(|until| now >= until) {
            self.flush(SILENT);
        }
        self.tell_router(&Message::Heartbeat(Heartbeat { seq: self.worker_seq, lag_ms: 0 }));
    }

    fn stop(&mut self, end: End) {
        self.ending = Ending::Told(end);
        self.input(WorkerInput::Stop);
    }

    /// Keeps a decision about this assignment, for operators.
    fn note(&self, kind: DecisionKind, reason: impl Into<Reason>, text: &str) {
        let decision = Decision::of(kind).stream(&self.it.stream).epoch(self.it.epoch);
        let decision = decision.worker(self.it.worker.pid()).because(reason).saying(text);
        self.it.decisions.record(decision);
    }

    /// A broken Link is that of a dead router, whose successor begins anew. A silent router may live, and fences this epoch
    /// when it places the stream again: closed short by then, the rest of the segment would be lost.
    fn link_lost(&mut self, why: &str) {
        self.it.link = None;
        if !self.it.gate.is_open() {
            info!(why, "standby is not needed");
            self.is_dropped = true;
        } else if why == SILENT {
            info!("link silent: waiting for the router to place the stream again");
            self.router_awaited_until = Some(self.it.clock.mono() + ROUTER_PATIENCE);
        } else {
            self.flush(why);
        }
    }

    /// The router is gone: what it sent is flushed and closed short.
    fn flush(&mut self, why: &str) {
        self.router_awaited_until = None;
        if self.ending == Ending::No {
            info!(why, "link lost: flushing");
            let reason = if why == SILENT { Because::Silent } else { Because::LinkBroke };
            self.note(DecisionKind::LetGo, reason, &format!("link to the router: {why}"));
            self.stop(End { continues: true });
        }
    }
}

async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task takes that runs it.
    fn bytes_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_assignments_task_has_no_room_for_what_it_does_once() {
        let (assignment, task) = (size_of::<Assignment>(), bytes_of(Assignment::run));
        assert!(assignment <= 4 << 10, "assignment: {assignment} bytes");
        assert!(task <= 4 << 10, "its task: {task} bytes");
    }
}
