//! The seam between an ingest connection and the stream's session: who may publish, and the queue between them.
//!
//! The queue is bounded and blocks: a slow session fills the publisher's TCP window, never our memory.

use std::{collections::VecDeque, future::Future, net::SocketAddr};

use millrace_types::{RefusalReason, StreamKey};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{IngestEnd, PublisherMessage, Refusal, pace::Pace};

/// Someone who shows a key and wants to publish.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The well-formed key it showed; whether it is valid is for the gate to say.
    pub key: StreamKey,
    /// Where it comes from; behind a trusted proxy, the address that the proxy tells.
    pub peer: SocketAddr,
}

/// Decides who may publish, and takes what they send.
pub trait Gate: Send + Sync + 'static {
    /// Admits the publisher, or says why not. Has [`super::Limits::decision`] to answer.
    fn authorize(
        &self,
        request: PublishRequest,
    ) -> impl Future<Output = Result<Granted, Refusal>> + Send;
}

/// What a publication's owner hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestEvent {
    /// The next message, in the order sent.
    Media(PublisherMessage),
    /// Nothing follows. Missing only if the connection's task was lost.
    Ended(IngestEnd),
}

/// The connection's end of a publication; returned by the gate.
#[derive(Debug)]
pub struct Granted {
    pub(super) events: mpsc::Sender<IngestEvent>,
    pub(super) refusal: oneshot::Receiver<Refusal>,
    pub(super) pace: Pace,
}

/// The owner's end of a publication. Dropped, it refuses the publisher with `internal`.
#[derive(Debug)]
pub struct Publication {
    /// Heard already, and put back.
    heard: VecDeque<IngestEvent>,
    events: mpsc::Receiver<IngestEvent>,
    refusal: Option<oneshot::Sender<Refusal>>,
    pace: Pace,
}

impl Publication {
    /// Both ends of a queue of at most `messages` messages.
    pub fn new(messages: usize) -> (Granted, Self) {
        let (event_sender, events) = mpsc::channel(messages);
        let (refusal_sender, refusal) = oneshot::channel();
        let pace = Pace::default();
        let granted = Granted { events: event_sender, refusal, pace: pace.clone() };
        let heard = VecDeque::new();
        (granted, Self { heard, events, refusal: Some(refusal_sender), pace })
    }

    /// The next event; `None` after [`IngestEvent::Ended`], or when the connection's task was lost.
    pub async fn next(&mut self) -> Option<IngestEvent> {
        match self.heard.pop_front() {
            None => self.events.recv().await,
            heard => heard,
        }
    }

    /// The next event if it is there already.
    pub fn ready(&mut self) -> Option<IngestEvent> {
        self.heard.pop_front().or_else(|| self.events.try_recv().ok())
    }

    /// Puts events back, to be heard again before all others.
    pub fn put_back(&mut self, heard: Vec<IngestEvent>) {
        self.heard = heard.into();
    }

    /// What the publisher sends before `due` can wait a little; nothing can while it is `None`.
    pub fn expect(&self, due: Option<Instant>) {
        self.pace.expect(due);
    }

    /// Tells the publisher why and closes its connection. `Ended` follows; media it sent meanwhile is dropped.
    pub fn refuse(&mut self, refusal: Refusal) {
        if let Some(sender) = self.refusal.take() {
            // The connection may be gone already; then there is nobody to tell.
            drop(sender.send(refusal));
        }
    }
}

impl Granted {
    /// What the owner has refused it with, if it has.
    #[cfg(test)]
    pub fn refusal_now(&mut self) -> Option<Refusal> {
        self.refusal.try_recv().ok()
    }

    /// Completes when the owner refuses the publisher or has let go of it.
    pub(super) async fn refused(&mut self) -> Refusal {
        (&mut self.refusal).await.unwrap_or_else(|_| RefusalReason::Internal.into())
    }
}
