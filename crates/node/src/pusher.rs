//! Pushes one rung of one stream to the origin, in order, until it is there.
//!
//! Its queue is bounded (policy `Block`: a full one holds the worker back). What the origin will never take (fenced,
//! another part under the same number) is left; everything else is tried again, for as long as the stream lives.

use std::time::Duration;

use millrace_hls::StreamOpen;
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Epoch, Mark, StreamId};
use millrace_wire::{Init, Part};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::{
    metrics::NodeMetrics,
    origin_client::{OriginClient, OriginError},
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

/// What came of it.
#[derive(Clone, Debug)]
pub enum Pushed {
    /// The part is on the origin.
    Safe(Mark),
    /// A newer writer has taken over.
    Fenced(Epoch),
}

/// Everything a pusher needs besides its queue.
#[derive(Clone, Debug)]
pub struct PusherContext {
    /// The stream.
    pub stream: StreamId,
    /// Its origin.
    pub origin: OriginClient,
    /// The announcement in force; its epoch is who pushes.
    pub open: watch::Receiver<StreamOpen>,
    /// Who hears what came of it.
    pub said: mpsc::Sender<Pushed>,
    /// What is counted.
    pub metrics: NodeMetrics,
}

/// Pushes what comes through `queue` until it is closed and empty.
pub async fn run(context: PusherContext, mut queue: mpsc::Receiver<Push>) {
    let clock = SystemClock::new();
    // The init section that the origin may have to be given again after it lost its memory.
    let mut last_init = None;
    while let Some(push) = queue.recv().await {
        let start = clock.mono();
        if let Push::Init(init) = &push {
            last_init = Some(init.clone());
        }
        if let Some(pushed) = settle(&context, &push, last_init.as_ref()).await {
            context.metrics.push_seconds.observe(clock.mono().since(start).as_secs_f64());
            let _ = context.said.send(pushed).await;
        }
    }
}

async fn settle(context: &PusherContext, push: &Push, last_init: Option<&Init>) -> Option<Pushed> {
    let mut pause = FIRST_PAUSE;
    loop {
        let epoch = context.open.borrow().epoch;
        let error = match attempt(context, push, epoch).await {
            Ok(()) => {
                context.metrics.pushes.with_label_values(&["ok"]).inc();
                return safe(push);
            }
            Err(error) => error,
        };
        match error {
            OriginError::Superseded(text) => {
                context.metrics.pushes.with_label_values(&["superseded"]).inc();
                debug!(text, "part left: the origin has its place");
                return safe(push);
            }
            OriginError::Fenced(text) if context.open.borrow().epoch == epoch => {
                context.metrics.pushes.with_label_values(&["fenced"]).inc();
                info!(text, "fenced by a newer writer");
                return Some(Pushed::Fenced(epoch));
            }
            OriginError::Fenced(_) => continue,
            OriginError::NotAnnounced(text) => {
                info!(text, "announcing the stream again");
                announce(context, last_init, epoch).await;
            }
            OriginError::Unreachable { .. } | OriginError::Answer { .. } => {
                context.metrics.pushes.with_label_values(&["failed"]).inc();
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
    let (origin, stream) = (&context.origin, &context.stream);
    match push {
        Push::Init(init) => origin.init(stream, epoch, &init.record, init.bytes.clone()).await,
        Push::Part(part) => origin.part(stream, epoch, &part.record, part.bytes.clone()).await,
    }
}

async fn announce(context: &PusherContext, init: Option<&Init>, epoch: Epoch) {
    let open = context.open.borrow().clone();
    let announced = async {
        context.origin.open(&context.stream, &open).await?;
        match init {
            Some(init) => {
                let (record, bytes) = (&init.record, init.bytes.clone());
                context.origin.init(&context.stream, epoch, record, bytes).await
            }
            None => Ok(()),
        }
    };
    if let Err(error) = announced.await {
        warn!(%error, "stream not announced");
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
