//! Pushes one rung of one stream to one origin, in order, until it is there.
//!
//! First comes what the origin lacks of the stream's window, then what the queue brings. The queue is bounded (policy `Block`:
//! a full one holds the worker back). What the origin will never take (fenced, another part under the same number) is left;
//! everything else is tried again, for as long as this origin is the stream's.

use std::time::Duration;

use millrace_hls::StreamOpen;
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Epoch, Mark};
use millrace_wire::{Init, Part};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::{
    delivery::Sender,
    origin_client::{OriginClient, OriginError},
    reachability::{Reachability, TICK},
};

/// Parts of one rung that wait for the origin: 15 segments' worth and some.
pub const QUEUE_PARTS: usize = 128;
/// Pause before trying again; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// What is to be pushed.
#[derive(Clone, Debug)]
pub enum Push {
    /// An init section.
    Init(Init),
    /// A part.
    Part(Part),
}

/// What came of it. A number is the delivery's that says so.
#[derive(Clone, Debug)]
pub enum Pushed {
    /// The part is on the origin.
    Safe(Mark),
    /// A newer writer has taken over.
    Fenced(Epoch),
    /// The origin answers, but knows nothing of the stream.
    Forgotten(u64),
    /// The origin does not answer any more.
    Lost(u64),
}

/// Everything a pusher needs besides its queue.
#[derive(Clone, Debug)]
pub struct PusherContext {
    /// Which delivery it belongs to.
    pub delivery: u64,
    /// Its origin.
    pub origin: OriginClient,
    /// The announcement in force; its epoch is who pushes.
    pub open: watch::Receiver<StreamOpen>,
    /// Whether the origin knows of the stream; nothing is pushed before.
    pub announced: watch::Receiver<bool>,
    /// Whose.
    pub sender: Sender,
}

impl PusherContext {
    /// Says what came of a push.
    pub async fn say(&self, pushed: Pushed) {
        let _ = self.sender.said.send(pushed).await;
    }

    /// Awaits the origin's answer, and says so when it is lost; goes on waiting all the same.
    pub async fn watched<T>(
        &self,
        asked: impl Future<Output = Result<T, OriginError>>,
        reachability: &mut Reachability,
    ) -> Result<T, OriginError> {
        let clock = SystemClock::new();
        reachability.asked(clock.mono());
        let mut asked = std::pin::pin!(asked);
        let mut said = false;
        let answer = loop {
            tokio::select! {
                answer = &mut asked => break answer,
                () = tokio::time::sleep(TICK) => {
                    if reachability.tick(clock.mono()) && !said {
                        said = true;
                        self.say(Pushed::Lost(self.delivery)).await;
                    }
                }
            }
        };
        match &answer {
            Err(OriginError::Unreachable { .. }) => {
                if reachability.broke() && !said {
                    self.say(Pushed::Lost(self.delivery)).await;
                }
            }
            _ => reachability.answered(clock.mono()),
        }
        answer
    }
}

/// Pushes the backlog, then what comes through `queue` until that is closed and empty.
pub async fn run(mut context: PusherContext, backlog: Vec<Push>, mut queue: mpsc::Receiver<Push>) {
    if context.announced.wait_for(|done| *done).await.is_err() {
        return;
    }
    let clock = SystemClock::new();
    let mut reachability = Reachability::new(clock.mono());
    if !backlog.is_empty() {
        let (start, records) = (clock.mono(), backlog.len());
        for push in backlog {
            if let Some(pushed) = settle(&context, &push, &mut reachability).await {
                context.say(pushed).await;
            }
        }
        let took_ms = clock.mono().since(start).as_millis();
        info!(records, took_ms, "rung restored");
    }
    while let Some(push) = queue.recv().await {
        let start = clock.mono();
        if let Some(pushed) = settle(&context, &push, &mut reachability).await {
            let took = clock.mono().since(start);
            context.sender.metrics.push_seconds.observe(took.as_secs_f64());
            context.say(pushed).await;
        }
    }
}

async fn settle(
    context: &PusherContext,
    push: &Push,
    reachability: &mut Reachability,
) -> Option<Pushed> {
    let pushes = &context.sender.metrics.pushes;
    let mut pause = FIRST_PAUSE;
    loop {
        let epoch = context.open.borrow().epoch;
        let error = match context.watched(attempt(context, push, epoch), reachability).await {
            Ok(()) => {
                pushes.with_label_values(&["ok"]).inc();
                return safe(push);
            }
            Err(error) => error,
        };
        match error {
            OriginError::Superseded(text) => {
                pushes.with_label_values(&["superseded"]).inc();
                debug!(text, "part left: the origin has its place");
                return safe(push);
            }
            OriginError::Fenced(text) if context.open.borrow().epoch == epoch => {
                pushes.with_label_values(&["fenced"]).inc();
                info!(text, "fenced by a newer writer");
                return Some(Pushed::Fenced(epoch));
            }
            OriginError::Fenced(_) => continue,
            OriginError::NotAnnounced(text) => {
                debug!(text, "the origin does not know it");
                context.say(Pushed::Forgotten(context.delivery)).await;
            }
            OriginError::Unreachable { .. } | OriginError::Answer { .. } => {
                pushes.with_label_values(&["failed"]).inc();
                // Said once a part, or an origin's outage would fill the log.
                if pause == FIRST_PAUSE {
                    warn!(%error, "push failed, trying again until it succeeds");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn attempt(context: &PusherContext, push: &Push, epoch: Epoch) -> Result<(), OriginError> {
    let (origin, stream) = (&context.origin, &context.sender.stream);
    match push {
        Push::Init(init) => origin.init(stream, epoch, &init.record, init.bytes.clone()).await,
        Push::Part(part) => origin.part(stream, epoch, &part.record, part.bytes.clone()).await,
    }
}

fn safe(push: &Push) -> Option<Pushed> {
    let Push::Part(part) = push else { return None };
    let record = &part.record;
    Some(Pushed::Safe(Mark {
        rung: record.rung.clone(),
        msn: record.msn,
        part: record.part,
        end: record.end,
        closed: record.last,
    }))
}
