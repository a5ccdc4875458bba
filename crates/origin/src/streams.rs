//! All streams by name, and when they are ended, released and forgotten.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use millrace_hls::{Refusal, StreamOpen};
use millrace_telemetry::DecisionLog;
use millrace_types::{Because, Decision, DecisionKind, Mark, Mono, StreamId};
use tokio::sync::watch;

use crate::stream::{FOLLOWER_PATIENCE, Stream};

/// How long the fence of an ended stream is remembered.
const FENCE_KEPT: Duration = Duration::from_secs(3600);

/// How long streams stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// An ended one can be watched so long.
    pub(crate) keep_ended: Duration,
    /// One that nobody writes is ended after so long.
    pub(crate) idle_end: Duration,
}

/// Streams by name.
pub(crate) type ById = BTreeMap<StreamId, Arc<Stream>>;

/// The streams of this origin. Held in a `watch` channel for the same reasons as a stream's state.
#[derive(Default)]
pub(crate) struct Streams {
    by_id: watch::Sender<ById>,
    /// Streams that are not here, and since when the second of two writers has wanted to open them.
    early_seconds: watch::Sender<BTreeMap<StreamId, Mono>>,
}

impl Streams {
    pub(crate) fn get(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.by_id.borrow().get(id).cloned()
    }

    /// Changes when a stream comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<ById> {
        self.by_id.subscribe()
    }

    /// Streams that players find.
    pub(crate) fn watchable(&self) -> Vec<Arc<Stream>> {
        self.by_id.borrow().values().filter(|stream| stream.is_known()).cloned().collect()
    }

    /// Whether the second of two writers may come: not before the first has given an origin that was started anew what it has, which
    /// begins before the second's. A first that never comes is waited for as long as a follower.
    pub(crate) fn takes_second(&self, now: Mono, id: &StreamId) -> bool {
        if let Some(stream) = self.get(id) {
            return stream.takes_second();
        }
        let mut is_due = false;
        self.early_seconds.send_modify(|early| {
            early.retain(|_, since| now.since(*since) < 2 * FOLLOWER_PATIENCE);
            let since = *early.entry(id.clone()).or_insert(now);
            is_due = now.since(since) >= FOLLOWER_PATIENCE;
        });
        is_due
    }

    /// Opens a stream, or lets a newer writer go on with it.
    pub(crate) fn open(
        &self,
        now: Mono,
        id: &StreamId,
        open: StreamOpen,
    ) -> Result<Vec<Mark>, Refusal> {
        let mut known = None;
        self.by_id.send_modify(|streams| match streams.get(id) {
            Some(stream) => known = Some(stream.clone()),
            None => {
                let stream = Stream::open(id.clone(), open.clone(), now);
                streams.insert(id.clone(), Arc::new(stream));
            }
        });
        let Some(known) = known else { return Ok(Vec::new()) };
        let marks = known.reopen(now, open);
        // Who waited for it while it was released finds it only now.
        self.by_id.send_modify(|_| {});
        marks
    }

    /// Ends idle streams, releases those that ended long enough ago, forgets those whose fence no longer matters.
    pub(crate) fn sweep(&self, now: Mono, retention: Retention, decisions: &DecisionLog) {
        let streams: Vec<Arc<Stream>> = self.by_id.borrow().values().cloned().collect();
        let mut forget = Vec::new();
        for stream in streams {
            match stream.ages() {
                (None, touched) if now.since(touched) >= retention.idle_end => {
                    tracing::warn!(stream = %stream.id, "stream ended: no node writes it");
                    let ended = Decision::of(DecisionKind::Ended).stream(&stream.id);
                    let ended = ended.epoch(stream.fenced_at()).because(Because::Idle);
                    decisions.record(ended.saying("no node writes it"));
                    let _ = stream.end(now, stream.fenced_at());
                }
                (Some(ended), _) if now.since(ended) >= FENCE_KEPT => {
                    forget.push(stream.id.clone())
                }
                (Some(ended), _)
                    if now.since(ended) >= retention.keep_ended && stream.is_known() =>
                {
                    tracing::info!(stream = %stream.id, "stream released");
                    stream.release();
                }
                _ => {}
            }
        }
        if !forget.is_empty() {
            self.by_id.send_modify(|streams| streams.retain(|id, _| !forget.contains(id)));
        }
    }
}
