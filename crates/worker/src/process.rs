//! The life of a worker process: confine itself, accept its daemon, run one stream's pipeline, exit with a reason.
//!
//! ```text
//! confine → accept → Ready → Start → Item* → End → flush → last acknowledgement → Ended → exit
//!             ^                        |
//!             +---- daemon is gone ----+   the next one hears what the work is, and what is unacknowledged again
//! ```
//!
//! One thread reads, works and writes: a worker that does not get on does not beat either.

use std::{collections::VecDeque, io, process::ExitCode, time::Duration};

use millrace_media::Item;
use millrace_sandbox::{
    Confine, ConfineError, InheritedError, Limits, LimitsError, inherited_listener,
};
use millrace_telemetry::{Clock, LogFilter, LogFormat, SystemClock, init_few_logs, version_line};
use millrace_transcode::{Backend, TranscodeError};
use millrace_types::{Mono, Versions, WorkerExit};
use millrace_wire::{End, Ended, Hello, Message, Ready, Start, Work};
use nix::unistd::geteuid;
use tracing::span::EnteredSpan;

use crate::{
    Pipeline,
    daemon::{Daemon, Heard},
    unacked::Unacked,
};

/// How often a worker says that it lives.
const BEAT: Duration = Duration::from_millis(200);
/// Silence after which what a publisher left behind is flushed,
const IDLE: Duration = Duration::from_millis(500);
/// and what a decoder keeps back for the next picture too. Of a source that goes on after all, encoded rungs lack what comes
/// before its next keyframe.
const STALLED: Duration = Duration::from_secs(5);
/// How long a worker waits for its next daemon.
const ORPHAN: Duration = Duration::from_secs(60);
/// How long a finished worker waits for its last acknowledgement.
const LINGER: Duration = Duration::from_secs(30);
/// Bytes of unacknowledged parts at which the worker takes no more items.
const UNACKED_LIMIT: usize = 24 << 20;
/// Bytes of items that wait meanwhile; a daemon that sends more and acknowledges nothing is broken.
const WAITING_LIMIT: usize = 24 << 20;

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    #[error("not confined: {0}")]
    Confine(#[from] ConfineError),
    #[error("worker socket: {0}")]
    Socket(#[from] io::Error),
    #[error("{0} bytes of items wait and no part is acknowledged")]
    Overrun(usize),
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
}

impl ProcessError {
    const fn exit(&self) -> WorkerExit {
        match self {
            Self::Transcode(error) => error.exit(),
            _ => WorkerExit::Bug,
        }
    }
}

/// Runs a worker on the socket it inherited as descriptor 3, and gives its exit code.
pub fn run<B: Backend + Clone>(program: &str, backend: B) -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == "--version") {
        println!("{program} {}", version_line());
        return ExitCode::SUCCESS;
    }
    // Fails only where somebody else's subscriber is in place already, as in a test.
    let _ = init_few_logs(&LogFilter::default(), LogFormat::Json);
    exit_on_panic();
    let exit = live(backend).map_or_else(
        |error| {
            tracing::error!(%error, "worker cannot go on");
            error.exit()
        },
        |()| WorkerExit::Ended,
    );
    ExitCode::from(u8::try_from(exit.code()).unwrap_or(u8::MAX))
}

/// One stream per process: a bug ends it, and a successor takes over.
fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "bug");
        std::process::exit(WorkerExit::Bug.code());
    }));
}

fn live<B: Backend + Clone>(backend: B) -> Result<(), ProcessError> {
    let owner = geteuid();
    let limits = Limits::from_env()?;
    let listener = inherited_listener()?;
    let report = Confine { limits, readable: Vec::new() }.apply()?;
    let sandbox = report.lines().iter();
    let ready = Ready {
        version: version_line().to_owned(),
        speaks: Versions::OURS,
        work: None,
        sandbox: sandbox.map(|(it, state)| (it.as_str().to_owned(), state.to_string())).collect(),
    };
    let mut worker = Worker {
        backend,
        ready,
        daemon: Daemon::new(listener, owner),
        clock: SystemClock::new(),
        pipeline: None,
        hello: None,
        next_seq: None,
        ended: None,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        unacked: Unacked::default(),
        next_beat: Mono::default(),
        last_item: Mono::default(),
        until: None,
        span: None,
    };
    let served = worker.serve();
    let exit = served.as_ref().map_or_else(ProcessError::exit, |()| WorkerExit::Ended);
    let text = served.as_ref().map_or_else(ToString::to_string, |()| String::new());
    worker.daemon.say(&Message::Ended(Ended { reason: exit.reason(), text }));
    // The socket closes with the process and not before it: a node that sees it close kills the worker, and a death by that
    // signal would hide the exit code.
    std::mem::forget(worker);
    served
}

/// A confined worker and the stream it works on.
struct Worker<B: Backend> {
    backend: B,
    ready: Ready,
    daemon: Daemon,
    clock: SystemClock,
    pipeline: Option<Pipeline<B>>,
    /// What the router asked for, if this worker was told.
    hello: Option<Hello>,
    /// The first item that has not come yet, behind a unit or tick that has; `None` before there was one.
    next_seq: Option<u64>,
    /// It was told to end.
    ended: Option<End>,
    /// Items that may not be worked on before parts are acknowledged.
    waiting: VecDeque<Item>,
    waiting_bytes: usize,
    unacked: Unacked,
    next_beat: Mono,
    last_item: Mono,
    /// The stream is over: when to stop waiting for the last acknowledgement.
    until: Option<Mono>,
    span: Option<EnteredSpan>,
}

impl<B: Backend + Clone> Worker<B> {
    fn serve(&mut self) -> Result<(), ProcessError> {
        while self.welcome()? {
            loop {
                if self.until.is_some_and(|until| self.unacked.bytes() == 0 || self.now() >= until)
                {
                    return Ok(());
                }
                match self.daemon.hear(self.next_beat.since(self.now()).min(BEAT))? {
                    Heard::Message(message) => self.handle(message)?,
                    Heard::Nothing => self.idle()?,
                    Heard::Gone => break,
                }
                self.beat();
            }
            let finished = self.until.is_some() && self.unacked.bytes() == 0;
            if finished || self.pipeline.is_none() {
                return Ok(());
            }
            tracing::warn!("the daemon is gone, waiting for the next");
        }
        tracing::warn!("no daemon came");
        Ok(())
    }

    /// Waits for a daemon, and tells it who speaks and what it may have missed.
    fn welcome(&mut self) -> Result<bool, ProcessError> {
        if !self.daemon.accept(ORPHAN)? {
            return Ok(false);
        }
        let ready = Ready { work: self.work_at_hand(), ..self.ready.clone() };
        self.daemon.say(&Message::Ready(ready));
        for message in self.unacked.repeat() {
            self.daemon.say(&message);
        }
        self.next_beat = self.now();
        Ok(true)
    }

    /// What a daemon has to know that did not give the work; `None` when there is none that it could go on with.
    fn work_at_hand(&self) -> Option<Work> {
        let (hello, next_seq) = (self.hello.clone()?, self.next_seq?);
        Some(Work { hello, next_seq, acked: self.unacked.acked(), ended: self.ended })
    }

    fn handle(&mut self, message: Message) -> Result<(), ProcessError> {
        match message {
            Message::Start(start) if self.pipeline.is_none() => self.start(&start)?,
            // From a daemon that goes on with this worker: what the one after has to know.
            Message::Start(start) => self.hello = start.hello,
            Message::Item(item) => {
                self.waiting_bytes += bytes_of(&item);
                // A description is worth nothing without what it describes: it is fed again.
                if !matches!(item, Item::Config(_)) {
                    self.next_seq = Some(item.seq().saturating_add(1));
                }
                self.waiting.push_back(item);
                self.last_item = self.now();
                self.work_off()?;
            }
            Message::Begin(begin) => {
                if let Some(pipeline) = &mut self.pipeline {
                    pipeline.begin(begin.msn);
                }
            }
            Message::PartAck(ack) => {
                self.unacked.acknowledge(&ack);
                self.work_off()?;
            }
            Message::End(end) => {
                self.ended = Some(end);
                let mut out = Vec::new();
                while let Some(item) = self.waiting.pop_front() {
                    self.take(&item)?;
                }
                if let Some(pipeline) = &mut self.pipeline {
                    pipeline.finish(&mut out)?;
                }
                self.say(out);
                self.until = Some(self.now() + LINGER);
            }
            _ => tracing::debug!("a message that is not for a worker"),
        }
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<(), ProcessError> {
        let span = tracing::info_span!("stream", stream = %start.stream, epoch = %start.epoch);
        self.span = Some(span.entered());
        tracing::info!(
            rungs = start.ladder.rungs.len(),
            resumed = !start.resume.is_empty(),
            "started"
        );
        self.hello = start.hello.clone();
        self.pipeline = Some(Pipeline::new(self.backend.clone(), start)?);
        Ok(())
    }

    /// Works off waiting items, as far as unacknowledged parts allow.
    fn work_off(&mut self) -> Result<(), ProcessError> {
        while self.unacked.bytes() < UNACKED_LIMIT {
            let Some(item) = self.waiting.pop_front() else { return Ok(()) };
            self.take(&item)?;
        }
        if self.waiting_bytes > WAITING_LIMIT {
            return Err(ProcessError::Overrun(self.waiting_bytes));
        }
        Ok(())
    }

    fn take(&mut self, item: &Item) -> Result<(), ProcessError> {
        self.waiting_bytes -= bytes_of(item);
        let mut out = Vec::new();
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.take(item, &mut out)?;
        }
        self.say(out);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), ProcessError> {
        let silence = self.clock.mono().since(self.last_item);
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        let mut out = Vec::new();
        if silence >= STALLED {
            pipeline.stalled(&mut out)?;
        } else if silence >= IDLE {
            pipeline.idle(&mut out)?;
        }
        self.say(out);
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.unacked.keep(&message);
            self.daemon.say(&message);
        }
    }

    fn beat(&mut self) {
        if self.now() < self.next_beat {
            return;
        }
        self.next_beat = self.now() + BEAT;
        if let Some(pipeline) = &self.pipeline {
            self.daemon.say(&Message::Heartbeat(pipeline.heartbeat()));
        }
    }

    fn now(&self) -> Mono {
        self.clock.mono()
    }
}

fn bytes_of(item: &Item) -> usize {
    match item {
        Item::Unit(unit) => unit.bytes.len(),
        Item::Config(_) | Item::Tick(_) => 0,
    }
}
