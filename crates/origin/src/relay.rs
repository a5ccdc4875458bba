//! Answers for streams that another origin owns: asks it once for each thing, however many players want it.
//!
//! ```text
//! players ─┬─ asked for already → wait for the one answer
//!          ├─ kept              → that
//!          └─ else              → ask the owner; when it dies or the stream moves, ask the next owner, for as long as a
//!                                 player may be kept waiting
//! ```
//! At most [`MAX_ASKED`] things are asked for at a time (policy `Reject`: 503), and [`MAX_KEPT_BYTES`] kept (policy: the oldest
//! goes). An owner answers from its own streams only, so requests cannot go in circles.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::StatusCode;
use millrace_hls::{PARK_LIMIT, Query};
use millrace_registry::OriginRecord;
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::StreamId;
use tokio::{sync::watch, time::Instant};

use crate::{
    kept::Kept,
    metrics::OriginMetrics,
    owners::{Owner, Owners},
    peer::Peers,
    rendition_text::Text,
    route::Route,
    stream::Missing,
};

/// Things that are asked for at a time.
const MAX_ASKED: usize = 4096;
/// Bytes of answers that are kept.
const MAX_KEPT_BYTES: usize = 256 << 20;
/// Bytes of the count of players: some 25,000 rungs. Beyond, of those asked for least lately some players are not counted.
const MAX_PLAYERS_BYTES: usize = 16 << 20;
/// How long a player is kept waiting in all: as long as its owner would, and as it takes to find the next owner.
const PATIENCE: Duration = Duration::from_secs(PARK_LIMIT.as_secs() + 2);
/// Before an owner that gave no answer is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long media is kept: as long as its owner lists it, and once more.
const MEDIA_KEPT: Duration = Duration::from_secs(60);
/// How long a playlist that was asked for by position is kept: it holds what its URL names.
const BLOCKING_KEPT: Duration = Duration::from_secs(2);
/// How long a playlist that just says what there is now is kept: less than a part.
const CURRENT_KEPT: Duration = Duration::from_millis(150);

/// What came of asking.
#[derive(Clone)]
pub(crate) enum Relayed {
    /// A playlist.
    Playlist(Arc<Text>),
    /// Media, or a status.
    Bytes(Bytes),
    /// The owner says no, or there is none.
    Missing(Missing),
    /// This origin owns the stream by now.
    Here,
}

type Answer = watch::Receiver<Option<Relayed>>;

/// The way to other origins' streams.
pub(crate) struct Relay {
    owners: Owners,
    peers: Peers,
    clock: SystemClock,
    metrics: OriginMetrics,
    /// Locked for map operations only.
    state: Mutex<State>,
}

struct State {
    asked: BTreeMap<String, Answer>,
    /// Players by the rung's playlist they asked for, since the owner last heard of any.
    players: Kept<u32>,
    kept: Kept<Relayed>,
}

/// Who asks the owner; gone, others may ask again.
struct Asking {
    relay: Arc<Relay>,
    target: String,
    players: u32,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.relay.state().asked.remove(&self.target);
    }
}

impl Relay {
    pub(crate) fn new(
        owners: Owners,
        peers: Peers,
        clock: SystemClock,
        metrics: OriginMetrics,
    ) -> Self {
        let (asked, players) = (BTreeMap::new(), Kept::new(MAX_PLAYERS_BYTES));
        let state = State { asked, players, kept: Kept::new(MAX_KEPT_BYTES) };
        Self { owners, peers, clock, metrics, state: Mutex::new(state) }
    }

    /// What the stream's owner answers.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        stream: &StreamId,
        route: &Route,
        query: Query,
    ) -> Relayed {
        let mut answer = match self.answer(stream, route, query) {
            Ok(answer) => answer,
            Err(at_once) => return at_once,
        };
        let answered = answer.wait_for(Option::is_some).await;
        answered.ok().and_then(|answer| answer.clone()).unwrap_or(Relayed::Missing(Missing::Late))
    }

    /// Where the answer will be, or what it is already.
    fn answer(
        self: &Arc<Self>,
        stream: &StreamId,
        route: &Route,
        query: Query,
    ) -> Result<Answer, Relayed> {
        let target = route.target(query);
        let (now, mut state) = (self.clock.mono(), self.state());
        let rung = matches!(route, Route::Media(..)).then(|| route.target(Query::default()));
        if let Some(rung) = &rung {
            let others = state.players.take(now, rung).unwrap_or_default();
            let (players, until) = (others.saturating_add(1), now + PATIENCE);
            state.players.put(rung.clone(), players, rung.len(), until);
        }
        if let Some(kept) = state.kept.get(now, &target) {
            self.metrics.count_relay("kept");
            return Err(kept);
        }
        if let Some(answer) = state.asked.get(&target) {
            self.metrics.count_relay("joined");
            return Ok(answer.clone());
        }
        if state.asked.len() >= MAX_ASKED {
            self.metrics.count_relay("rejected");
            return Err(Relayed::Missing(Missing::Late));
        }
        self.metrics.count_relay("asked");
        let (answers, answer) = watch::channel(None);
        state.asked.insert(target.clone(), answer.clone());
        let players = rung.and_then(|rung| state.players.take(now, &rung)).unwrap_or_default();
        let asking = Asking { relay: self.clone(), target, players };
        let (stream, keep) = (stream.clone(), keep_for(route, query));
        let is_playlist = route.is_playlist();
        tokio::spawn(async move {
            let relayed = asking.settle(&stream, is_playlist).await;
            if let Some(keep) = keep {
                asking.keep(&relayed, keep);
            }
            answers.send_replace(Some(relayed));
        });
        Ok(answer)
    }

    /// Forgets what nobody has asked for in time.
    pub(crate) fn sweep(&self) {
        let (now, mut state) = (self.clock.mono(), self.state());
        state.kept.forget_old(now);
        state.players.forget_old(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Asks whoever owns the stream until there is an answer.
    async fn settle(&self, stream: &StreamId, is_playlist: bool) -> Relayed {
        let deadline = Instant::now() + PATIENCE;
        let owners = &self.relay.owners;
        loop {
            let owner = owners.of(stream);
            let peer = match &owner {
                Owner::Here(_) | Owner::Coming => return Relayed::Here,
                Owner::Unknown => return Relayed::Missing(Missing::NotFound),
                Owner::There(peer) => peer,
            };
            let answer = tokio::select! {
                answer = self.once(peer, is_playlist) => answer,
                () = owners.changed(stream, &owner) => None,
                () = tokio::time::sleep_until(deadline) => {
                    return Relayed::Missing(Missing::Late);
                }
            };
            if let Some(answer) = answer {
                return answer;
            }
            tokio::select! {
                () = owners.changed(stream, &owner) => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Asks one origin; `None` when another should be asked.
    async fn once(&self, peer: &OriginRecord, is_playlist: bool) -> Option<Relayed> {
        let asked = self.relay.peers.get(peer.intake, &self.target, self.players).await;
        let (status, body) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, origin = %peer.origin, "owner gives no answer");
                return None;
            }
        };
        Some(match status {
            StatusCode::OK if is_playlist => {
                Relayed::Playlist(Arc::new(Text::new(String::from_utf8(body.into()).ok()?)))
            }
            StatusCode::OK => Relayed::Bytes(body),
            StatusCode::BAD_REQUEST => Relayed::Missing(Missing::TooFar),
            StatusCode::NOT_FOUND => Relayed::Missing(Missing::NotFound),
            StatusCode::SERVICE_UNAVAILABLE => Relayed::Missing(Missing::Late),
            // It does not own the stream, or does not know how to answer other origins.
            _ => return None,
        })
    }

    fn keep(&self, relayed: &Relayed, for_: Duration) {
        let bytes = match relayed {
            Relayed::Playlist(text) => text.plain.len(),
            Relayed::Bytes(bytes) => bytes.len(),
            Relayed::Missing(_) | Relayed::Here => return,
        };
        let until = self.relay.clock.mono() + for_;
        self.relay.state().kept.put(self.target.clone(), relayed.clone(), bytes, until);
    }
}

/// How long an answer stays the right one; `None`: it is not kept.
fn keep_for(route: &Route, query: Query) -> Option<Duration> {
    match route {
        Route::Init(..) | Route::Segment(..) | Route::Part(..) => Some(MEDIA_KEPT),
        Route::Media(..) if query.block.is_some() => Some(BLOCKING_KEPT),
        Route::Media(..) | Route::Multivariant(_) => Some(CURRENT_KEPT),
        Route::Status(_) | Route::List | Route::Watch | Route::Asset(_) => None,
    }
}
