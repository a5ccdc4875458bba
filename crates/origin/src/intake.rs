//! Takes records and media from nodes: checks that bytes match their record, then lets the window decide.
//!
//! The requests are written down in [`millrace_hls::intake`].

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        ConnectInfo, DefaultBodyLimit, Path, Request, State,
        connect_info::IntoMakeServiceWithConnectInfo,
    },
    http::{HeaderMap, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use bytes::Bytes;
use millrace_hls::{
    Accepted, Hash, InitRecord, PartRecord, Refusal, StreamOpen,
    intake::{EPOCH_HEADER, End, FLUSHING, Fence, Marks, Past, RECORD_HEADER, Refused, past_after},
};
use millrace_telemetry::Clock;
use millrace_tls::{FarmListener, FarmTls, Gate, Peer, Role};
use millrace_types::{
    Because, Decision, DecisionKind, Epoch, MediaTime, NoCommonVersion, RefusalReason, RungId,
    StreamId, Versions,
};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use crate::{
    peer::{PLAYERS_HEADER, RELAY_PREFIX},
    player::{Asked, Player},
    stream::Stream,
    writers::NotTheWriter,
};

/// Half a second at the highest bitrate that is taken, with room to spare.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Media in one answer about the past, and one part more.
const MAX_PAST_BYTES: usize = 2 << 20;

/// The longest wait for a writer to hand over.
const MAX_FLUSH: Duration = Duration::from_secs(3);

/// Why a request of a node was not done.
#[derive(Debug, thiserror::Error)]
enum IntakeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("stream {0} is not open")]
    UnknownStream(StreamId),
    #[error("header {0} is missing or cannot be read")]
    Header(&'static str),
    #[error("the query makes no sense")]
    Query,
    #[error("the body is not what its record says")]
    Mismatch,
    #[error(transparent)]
    NotTheWriter(#[from] NotTheWriter),
    #[error("not with this certificate")]
    WrongRole,
    #[error(transparent)]
    Version(#[from] NoCommonVersion),
    #[error("the writer before still hands over")]
    Flushing,
    #[error("the writer that this one comes beside has not restored the stream yet: ask again")]
    Restoring,
}

impl IntoResponse for IntakeError {
    fn into_response(self) -> Response {
        let (status, reason) = match &self {
            Self::Refused(refusal) => (StatusCode::CONFLICT, refusal.reason()),
            Self::UnknownStream(_) => (StatusCode::NOT_FOUND, "unknown_stream"),
            Self::Header(_) => (StatusCode::BAD_REQUEST, "bad_header"),
            Self::Query => (StatusCode::BAD_REQUEST, "bad_query"),
            Self::Mismatch => (StatusCode::UNPROCESSABLE_ENTITY, "mismatch"),
            Self::NotTheWriter(_) => (StatusCode::FORBIDDEN, "not_the_writer"),
            Self::WrongRole => (StatusCode::FORBIDDEN, "wrong_role"),
            Self::Version(_) => (StatusCode::CONFLICT, RefusalReason::Version.as_str()),
            Self::Flushing => (StatusCode::SERVICE_UNAVAILABLE, FLUSHING),
            Self::Restoring => (StatusCode::SERVICE_UNAVAILABLE, "restoring"),
        };
        let refused = match &self {
            Self::Refused(refusal) => Refused::from(refusal),
            _ => Refused { reason: reason.to_owned(), detail: self.to_string(), fence: None },
        };
        (status, Json(refused)).into_response()
    }
}

type Shared = State<Arc<Player>>;

/// Who may connect to the intake of a farm with TLS.
const ROLES: &[Role] = &[Role::Node, Role::Router, Role::Origin];

/// Where nodes push, routers claim and other origins relay.
pub(crate) fn listener(tcp: TcpListener, tls: Option<Arc<FarmTls>>) -> FarmListener {
    let gate = |tls| Gate { tls, roles: ROLES, listener: "intake", plain_from_here: false };
    FarmListener::new(tcp, tls.map(gate))
}

/// The intake's routes, for [`listener`].
pub(crate) fn service(shared: Arc<Player>) -> IntoMakeServiceWithConnectInfo<Router, Peer> {
    let pages = Router::new()
        .route("/intake/v1/{stream}", put(open))
        .route("/intake/v1/{stream}/fence", post(fence))
        .route("/intake/v1/{stream}/init", put(init))
        .route("/intake/v1/{stream}/part", put(part))
        .route("/intake/v1/{stream}/health", put(health))
        .route("/intake/v1/{stream}/end", post(end))
        .route("/intake/v1/{stream}/past/{rung}", get(past))
        .route(&format!("{RELAY_PREFIX}/{{*path}}"), get(relay))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(guard))
        .with_state(shared);
    pages.into_make_service_with_connect_info()
}

/// Routers claim, other origins relay, nodes do everything else.
async fn guard(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, IntakeError> {
    let role = match request.uri().path() {
        path if path.starts_with(RELAY_PREFIX) => Role::Origin,
        path if is_fence(path) => Role::Router,
        _ => Role::Node,
    };
    match peer.is_one_of(&[role]) {
        true => Ok(next.run(request).await),
        false => Err(IntakeError::WrongRole),
    }
}

/// `/intake/v1/{stream}/fence`; a stream, or a rung, may have that name too.
fn is_fence(path: &str) -> bool {
    let of_stream = path.strip_prefix("/intake/v1/").and_then(|rest| rest.split_once('/'));
    of_stream.is_some_and(|(_, what)| what == "fence")
}

async fn open(
    State(shared): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(stream): Path<StreamId>,
    Json(open): Json<StreamOpen>,
) -> Result<Json<Marks>, IntakeError> {
    let version = shared.speaks.common(open.speaks)?;
    let (epoch, part_target_ms) = (open.epoch, open.part_target_ms);
    shared.writers.take(&stream, epoch, &peer)?;
    if open.beside.is_some() && !shared.streams.takes_second(shared.clock.mono(), &stream) {
        return Err(IntakeError::Restoring);
    }
    let marks = shared.streams.open(shared.clock.mono(), &stream, open)?;
    tracing::info!(%stream, %epoch, "stream opened");
    let opened = Decision::of(DecisionKind::Opened).stream(&stream).epoch(epoch);
    shared.decisions.record(opened.saying(format!("{} rungs are known", marks.len())));
    Ok(Json(Marks { epoch, marks, discontinuity: 0, part_target_ms, version }))
}

async fn fence(
    State(shared): Shared,
    Path(stream): Path<StreamId>,
    Json(Fence { epoch, claims, flush_ms, asks_again }): Json<Fence>,
) -> Result<Json<Marks>, IntakeError> {
    let version = Versions::UNSAID.newest;
    let Some(known) = shared.streams.get(&stream) else {
        // Nothing to fence: whoever opens it sets the fence.
        let marks = Vec::new();
        return Ok(Json(Marks { epoch, marks, discontinuity: 0, part_target_ms: 0, version }));
    };
    let flush = Duration::from_millis(flush_ms.into()).min(MAX_FLUSH);
    let is_over = known.handed_over(shared.clock.mono(), flush).await;
    let now = shared.clock.mono();
    if asks_again && !is_over && known.gets_on(now) {
        return Err(IntakeError::Flushing);
    }
    let marks = if claims { known.claim(now, epoch)? } else { known.fence(now, epoch)? };
    tracing::info!(%stream, %epoch, claims, "stream fenced");
    let fenced = Decision::of(DecisionKind::Fenced).stream(&stream).epoch(epoch);
    let by = if claims { "a router claims the session" } else { "a newer writer goes on" };
    shared.decisions.record(fenced.saying(by));
    let (discontinuity, part_target_ms) = known.look(|window, _| {
        (window.discontinuity().unwrap_or_default(), window.announced().part_target_ms)
    });
    Ok(Json(Marks { epoch, marks, discontinuity, part_target_ms, version }))
}

async fn init(
    State(shared): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(stream): Path<StreamId>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, IntakeError> {
    let stream = find(&shared, stream)?;
    let record: InitRecord = record(&headers)?;
    let writer = writer(&headers)?.unwrap_or_else(|| stream.fenced_at());
    shared.writers.take(&stream.id, writer, &peer)?;
    let result = if Hash::of(&body) == record.hash {
        stream
            .add_init(shared.clock.mono(), writer, record, compact(body))
            .map_err(IntakeError::from)
    } else {
        Err(IntakeError::Mismatch)
    };
    count(&shared, &result);
    note_fenced(&shared, &stream.id, writer, &result);
    result.map(|_| StatusCode::OK)
}

async fn part(
    State(shared): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(stream): Path<StreamId>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, IntakeError> {
    let stream = find(&shared, stream)?;
    let record: PartRecord = record(&headers)?;
    let writer = writer(&headers)?.unwrap_or(record.epoch);
    shared.writers.take(&stream.id, writer, &peer)?;
    let (length, end) = (body.len() as u64, record.end);
    let matches = length == u64::from(record.length) && Hash::of(&body) == record.hash;
    let result = if matches {
        stream
            .add_part(shared.clock.mono(), writer, record, shared.slabs.keep(&body))
            .map_err(IntakeError::from)
    } else {
        Err(IntakeError::Mismatch)
    };
    count(&shared, &result);
    note_fenced(&shared, &stream.id, writer, &result);
    if let Some(at) = stream.deadline() {
        let (stream, clock) = (stream.clone(), shared.clock);
        tokio::spawn(async move {
            tokio::time::sleep_until(clock.instant(at)).await;
            stream.tick(clock.mono());
        });
    }
    if matches!(result, Ok(Accepted::Added)) {
        shared.metrics.intake_bytes.inc_by(length);
        let delay = MediaTime(MediaTime::from_wall(shared.clock.wall()) - end).seconds();
        shared.metrics.part_delay.observe(delay.max(0.0));
    }
    result.map(|_| StatusCode::OK)
}

async fn health(
    State(shared): Shared,
    Path(stream): Path<StreamId>,
    Json(health): Json<serde_json::Value>,
) -> Result<StatusCode, IntakeError> {
    find(&shared, stream)?.set_health(health);
    Ok(StatusCode::OK)
}

async fn end(
    State(shared): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(stream): Path<StreamId>,
    Json(End { epoch, continues }): Json<End>,
) -> Result<StatusCode, IntakeError> {
    let known = find(&shared, stream)?;
    shared.writers.take(&known.id, epoch, &peer)?;
    if continues {
        known.hand_over(epoch);
    } else {
        known.end(shared.clock.mono(), epoch)?;
        tracing::info!(stream = %known.id, %epoch, "stream ended");
        let ended = Decision::of(DecisionKind::Ended).stream(&known.id).epoch(epoch);
        shared.decisions.record(ended.because(Because::Finished));
    }
    Ok(StatusCode::OK)
}

/// A node that goes on with a stream asks for what was published before, to have it when this origin is lost.
async fn past(
    State(shared): Shared,
    Path((stream, rung)): Path<(StreamId, RungId)>,
    uri: Uri,
) -> Result<Response, IntakeError> {
    let after = past_after(uri.query()).ok_or(IntakeError::Query)?;
    let known = find(&shared, stream)?;
    let past = known.look(|window, _| window.past(&rung, after, MAX_PAST_BYTES));
    let (past, media) = Past::of(past);
    let mut line = serde_json::to_vec(&past).expect("invariant: records become JSON");
    line.push(b'\n');
    let chunks: Vec<Bytes> = std::iter::once(line.into()).chain(media).collect();
    Ok(Body::new(crate::body::Body::from(chunks)).into_response())
}

/// Another origin asks for what its players want of a stream that is recorded here. Never asks on: requests cannot go in
/// circles.
async fn relay(State(shared): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix(RELAY_PREFIX).unwrap_or_default();
    let asked = Asked::new("GET", path, uri.query(), "");
    let players = headers.get(PLAYERS_HEADER).and_then(|count| count.to_str().ok()?.parse().ok());
    match shared.serve_own(asked, players.unwrap_or(1)).await {
        Some(answer) => hyper::Response::from(answer).map(Body::new),
        None => (StatusCode::MISDIRECTED_REQUEST, "not a stream of this origin").into_response(),
    }
}

fn find(shared: &Player, stream: StreamId) -> Result<Arc<Stream>, IntakeError> {
    shared.streams.get(&stream).ok_or(IntakeError::UnknownStream(stream))
}

fn record<T: DeserializeOwned>(headers: &HeaderMap) -> Result<T, IntakeError> {
    let header = headers.get(RECORD_HEADER).map(|value| value.as_bytes());
    header
        .and_then(|json| serde_json::from_slice(json).ok())
        .ok_or(IntakeError::Header(RECORD_HEADER))
}

fn writer(headers: &HeaderMap) -> Result<Option<Epoch>, IntakeError> {
    let read = |value: &axum::http::HeaderValue| value.to_str().ok()?.parse().ok().map(Some);
    headers.get(EPOCH_HEADER).map_or(Some(None), read).ok_or(IntakeError::Header(EPOCH_HEADER))
}

/// Bytes that do not hold on to a receive buffer larger than themselves.
fn compact(body: Bytes) -> Bytes {
    Bytes::from(body.to_vec())
}

/// Keeps that an older writer still sends, for operators.
fn note_fenced(
    shared: &Player,
    stream: &StreamId,
    writer: Epoch,
    result: &Result<Accepted, IntakeError>,
) {
    if let Err(IntakeError::Refused(refusal @ Refusal::Fenced { .. })) = result {
        let refused = Decision::of(DecisionKind::WriterRefused).stream(stream).epoch(writer);
        let refused = refused.because(RefusalReason::Fenced);
        shared.decisions.record(refused.saying(refusal.to_string()));
    }
}

fn count(shared: &Player, result: &Result<Accepted, IntakeError>) {
    let label = match result {
        Ok(Accepted::Added) => "added",
        Ok(Accepted::Repeat) => "repeat",
        Ok(Accepted::Spare) => "spare",
        Err(IntakeError::Refused(refusal)) => refusal.reason(),
        Err(_) => "mismatch",
    };
    shared.metrics.intake.with_label_values(&[label]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_fence_streams_and_nodes_write_them_whatever_these_are_called() {
        for path in ["/intake/v1/live/fence", "/intake/v1/fence/fence"] {
            assert!(is_fence(path), "{path}");
        }
        for path in ["/intake/v1/fence", "/intake/v1/live/past/fence", "/intake/v1/fence/part"] {
            assert!(!is_fence(path), "{path}");
        }
    }
}
