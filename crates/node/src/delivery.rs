//! The way of a stream's media to one origin: the stream is announced there, then each rung has a pusher, which gives the
//! origin what it lacks before what is new.
//!
//! Replaced as a whole when the origin changes or has lost its memory; dropped, it stops at once.

use std::{collections::BTreeMap, time::Duration};

use millrace_hls::{Backlog, StreamOpen, Window};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Mark, RungId, StreamId};
use millrace_wire::{Init, Part};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span, warn};

use crate::{
    metrics::NodeMetrics,
    origin_client::{OriginClient, OriginError},
    pusher::{self, Push, Pushed, PusherContext},
    reachability::Reachability,
};

/// Pause before announcing again.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether an origin knows of the stream before anything is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It does, with what is restored.
    Already,
    /// It is told so much later: until then another writer may restore what it has.
    After(Duration),
}

/// What all deliveries of a stream have in common.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The stream.
    pub stream: StreamId,
    /// Who hears what came of it.
    pub said: mpsc::Sender<Pushed>,
    /// What is counted.
    pub metrics: NodeMetrics,
}

/// Media on its way to one origin.
#[derive(Debug)]
pub struct Delivery {
    /// Grows from one delivery of a stream to the next; what pushers of an older one say is ignored.
    pub number: u64,
    /// Where to.
    pub origin: OriginClient,
    open: watch::Receiver<StreamOpen>,
    announced: watch::Receiver<bool>,
    sender: Sender,
    rungs: BTreeMap<RungId, Rung>,
    _announcer: Option<AbortOnDropHandle<()>>,
}

/// One rung's queue, and who empties it.
#[derive(Debug)]
pub struct Rung {
    queue: mpsc::Sender<Push>,
    pusher: AbortOnDropHandle<()>,
}

impl Rung {
    /// Takes no more, and ends once everything is there.
    pub async fn emptied(self) {
        drop(self.queue);
        let _ = self.pusher.await;
    }
}

impl Delivery {
    /// Begins to give `origin` everything of `window`. Nothing is pushed before the stream is `announced` there.
    pub fn begin(
        number: u64,
        origin: OriginClient,
        open: &watch::Sender<StreamOpen>,
        window: &Window,
        announced: Announced,
        sender: Sender,
    ) -> Self {
        let (done, is_announced) = watch::channel(announced == Announced::Already);
        let mut delivery = Self {
            number,
            origin,
            open: open.subscribe(),
            announced: is_announced,
            sender,
            rungs: BTreeMap::new(),
            _announcer: None,
        };
        if let Announced::After(pause) = announced {
            let announcing = announce(delivery.context(), window.restorable(), pause, done);
            let task = tokio::spawn(announcing.in_current_span());
            delivery._announcer = Some(AbortOnDropHandle::new(task));
        }
        for rung in &window.announced().rungs {
            let backlog: Vec<Push> = window.backlog(rung).into_iter().map(push).collect();
            if !backlog.is_empty() {
                delivery.start(rung.clone(), backlog);
            }
        }
        delivery
    }

    /// Whether the origin knows of the stream.
    pub fn is_announced(&self) -> bool {
        *self.announced.borrow()
    }

    /// Where a rung's next push goes.
    pub fn queue(&mut self, rung: &RungId) -> mpsc::Sender<Push> {
        if !self.rungs.contains_key(rung) {
            self.start(rung.clone(), Vec::new());
        }
        self.rungs[rung].queue.clone()
    }

    /// Hands the rungs out, to wait until they are empty.
    pub fn take_rungs(&mut self) -> Vec<Rung> {
        std::mem::take(&mut self.rungs).into_values().collect()
    }

    fn start(&mut self, rung: RungId, backlog: Vec<Push>) {
        let (queue, pushes) = mpsc::channel(pusher::QUEUE_PARTS);
        let span = info_span!("pusher", %rung);
        let task = tokio::spawn(pusher::run(self.context(), backlog, pushes).instrument(span));
        let pusher = AbortOnDropHandle::new(task);
        self.rungs.insert(rung, Rung { queue, pusher });
    }

    fn context(&self) -> PusherContext {
        PusherContext {
            delivery: self.number,
            origin: self.origin.clone(),
            open: self.open.clone(),
            announced: self.announced.clone(),
            sender: self.sender.clone(),
        }
    }
}

fn push(backlog: Backlog) -> Push {
    match backlog {
        Backlog::Init(record, bytes) => Push::Init(Init { record, bytes }),
        Backlog::Part(record, bytes) => Push::Part(Part { record, bytes }),
    }
}

/// Announces the stream and how far it is restored, until the origin has taken it.
async fn announce(
    context: PusherContext,
    restores: Vec<Mark>,
    pause: Duration,
    done: watch::Sender<bool>,
) {
    tokio::time::sleep(pause).await;
    let clock = SystemClock::new();
    let mut reachability = Reachability::new(clock.mono());
    loop {
        let open = StreamOpen { restores: restores.clone(), ..context.open.borrow().clone() };
        let asked = context.origin.open(&context.sender.stream, &open);
        match context.watched(asked, &mut reachability).await {
            Ok(_) => {
                done.send_replace(true);
                return;
            }
            Err(OriginError::Fenced(text)) => {
                if context.open.borrow().epoch == open.epoch {
                    warn!(text, "fenced by a newer writer");
                    return context.say(Pushed::Fenced(open.epoch)).await;
                }
            }
            Err(error) => warn!(%error, "stream not announced, trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
