//! How assignments speak to an output's task: what they ask of it, what they hear, and what goes past the queue.

use std::net::SocketAddr;

use millrace_hls::{Refusal, StreamOpen, intake};
use millrace_telemetry::SystemClock;
use millrace_types::{Epoch, Mark, StreamId};
use millrace_wire::{ChangeOrigin, Init, Part};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tracing::{Instrument, info_span};

use super::{Ears, Task};
use crate::{
    delivery::Sender, gate::Claim, metrics::NodeMetrics, origin_client::OriginClient, past::Past,
};

/// Commands that wait for the output's task.
const QUEUE: usize = 64;

/// What an assignment asks of an output. Large ones are boxed: a queue has room for 32 from the beginning.
#[derive(Debug)]
pub enum Command {
    /// A new assignment begins: fence older ones, say what is safe, per rung.
    Claim(Box<Claim>, oneshot::Sender<Result<Vec<Mark>, Refusal>>),
    /// The worker of `Epoch` made an init section.
    Init(Epoch, Box<Init>),
    /// The worker of `Epoch` made a part.
    Part(Epoch, Box<Part>),
    /// How the source does, as JSON for the origin's status.
    Health(String),
    /// A standby that was not needed has fetched this: who claims next may need it.
    Past(Past),
    /// The stream is over: push what is left, say so to the origin, answer.
    End(intake::End, oneshot::Sender<()>),
}

/// What an assignment hears of its output.
#[derive(Clone, Debug)]
pub enum Heard {
    /// This is on the origin.
    Published(Mark),
    /// A newer writer has taken over.
    Fenced,
    /// The origin whose intake is there does not answer any more.
    OriginLost(SocketAddr),
}

/// The stream's media goes there from now on.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) epoch: Epoch,
    pub(super) beside: Option<Epoch>,
    pub(super) followed: bool,
    pub(super) origin: OriginClient,
}

/// A handle on an output's task, which ends when every handle is dropped.
#[derive(Clone, Debug)]
pub struct Output {
    /// Commands go here; await room, or reserve it.
    pub commands: mpsc::Sender<Command>,
    /// Beside the commands: those wait while the old origin takes nothing.
    change: watch::Sender<Option<Change>>,
    /// The writer beside which this one came is gone.
    alone: watch::Sender<()>,
    /// Where its task runs.
    runtime: Handle,
}

impl Output {
    /// Starts the task of a stream that nothing is known of.
    pub fn start(stream: StreamId, metrics: NodeMetrics) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let span = info_span!("output", %stream);
        let (said, hearing) = mpsc::channel(QUEUE);
        let (change, alone) = (watch::Sender::new(None), watch::Sender::new(()));
        let ears = Ears { hearing, changed: change.subscribe(), alone: alone.subscribe() };
        let sender = Sender { stream, said, metrics };
        let task =
            Task { sender, clock: SystemClock::new(), current: None, past: None, postponed: None };
        let runtime = Handle::current();
        runtime.spawn(task.run(inbox, ears).instrument(span));
        Self { commands, change, alone, runtime }
    }

    /// Begins to fetch what others published, beside the output's task.
    pub fn past(&self, stream: StreamId, open: &StreamOpen, origin: OriginClient) -> Past {
        Past::fetch(&self.runtime, stream, open, origin)
    }

    /// The stream's media, all that is kept of it, goes to `origin` from now on, as was ordered.
    pub fn change_origin(&self, ordered: ChangeOrigin, origin: OriginClient) {
        let ChangeOrigin { epoch, beside, followed, .. } = ordered;
        self.change.send_replace(Some(Change { epoch, beside, followed, origin }));
    }

    /// The writer beside which this one came is gone: it leaves nothing to that one any more.
    pub fn goes_on_alone(&self) {
        self.alone.send_replace(());
    }
}
