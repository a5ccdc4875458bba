//! Takes records and media from nodes: checks that bytes match their record, then lets the window decide.
//!
//! The requests are written down in [`millrace_hls::intake`].

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{post, put},
};
use bytes::Bytes;
use millrace_hls::{
    Accepted, Hash, InitRecord, PartRecord, Refusal, StreamOpen,
    intake::{EPOCH_HEADER, End, Fence, Marks, RECORD_HEADER, Refused},
};
use millrace_telemetry::Clock;
use millrace_types::{Because, Decision, DecisionKind, Epoch, MediaTime, RefusalReason, StreamId};
use serde::de::DeserializeOwned;

use crate::{player::Player, stream::Stream};

/// Half a second at the highest bitrate that is taken, with room to spare.
const MAX_BODY_BYTES: usize = 16 << 20;

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
    #[error("the body is not what its record says")]
    Mismatch,
}

impl IntoResponse for IntakeError {
    fn into_response(self) -> Response {
        let (status, reason) = match &self {
            Self::Refused(refusal) => (StatusCode::CONFLICT, refusal.reason()),
            Self::UnknownStream(_) => (StatusCode::NOT_FOUND, "unknown_stream"),
            Self::Header(_) => (StatusCode::BAD_REQUEST, "bad_header"),
            Self::Mismatch => (StatusCode::UNPROCESSABLE_ENTITY, "mismatch"),
        };
        let refused = match &self {
            Self::Refused(refusal) => Refused::from(refusal),
            _ => Refused { reason: reason.to_owned(), detail: self.to_string(), fence: None },
        };
        (status, Json(refused)).into_response()
    }
}

type Shared = State<Arc<Player>>;

/// The intake's routes.
pub(crate) fn routes(shared: Arc<Player>) -> Router {
    Router::new()
        .route("/intake/v1/{stream}", put(open))
        .route("/intake/v1/{stream}/fence", post(fence))
        .route("/intake/v1/{stream}/init", put(init))
        .route("/intake/v1/{stream}/part", put(part))
        .route("/intake/v1/{stream}/health", put(health))
        .route("/intake/v1/{stream}/end", post(end))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

async fn open(
    State(shared): Shared,
    Path(stream): Path<StreamId>,
    Json(open): Json<StreamOpen>,
) -> Result<Json<Marks>, IntakeError> {
    let (epoch, part_target_ms) = (open.epoch, open.part_target_ms);
    let marks = shared.streams.open(shared.clock.mono(), &stream, open)?;
    tracing::info!(%stream, %epoch, "stream opened");
    let opened = Decision::of(DecisionKind::Opened).stream(&stream).epoch(epoch);
    shared.decisions.record(opened.saying(format!("{} rungs are known", marks.len())));
    Ok(Json(Marks { epoch, marks, discontinuity: 0, part_target_ms }))
}

async fn fence(
    State(shared): Shared,
    Path(stream): Path<StreamId>,
    Json(Fence { epoch, claims, flush_ms }): Json<Fence>,
) -> Result<Json<Marks>, IntakeError> {
    let Some(known) = shared.streams.get(&stream) else {
        // Nothing to fence: whoever opens it sets the fence.
        return Ok(Json(Marks { epoch, marks: Vec::new(), discontinuity: 0, part_target_ms: 0 }));
    };
    let flush = Duration::from_millis(flush_ms.into()).min(MAX_FLUSH);
    known.handed_over(shared.clock.mono(), flush).await;
    let now = shared.clock.mono();
    let marks = if claims { known.claim(now, epoch)? } else { known.fence(now, epoch)? };
    tracing::info!(%stream, %epoch, claims, "stream fenced");
    let fenced = Decision::of(DecisionKind::Fenced).stream(&stream).epoch(epoch);
    let by = if claims { "a router claims the session" } else { "a newer writer goes on" };
    shared.decisions.record(fenced.saying(by));
    let (discontinuity, part_target_ms) = known.look(|window, _| {
        (window.discontinuity().unwrap_or_default(), window.announced().part_target_ms)
    });
    Ok(Json(Marks { epoch, marks, discontinuity, part_target_ms }))
}

async fn init(
    State(shared): Shared,
    Path(stream): Path<StreamId>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, IntakeError> {
    let stream = find(&shared, stream)?;
    let record: InitRecord = record(&headers)?;
    let writer = writer(&headers)?.unwrap_or_else(|| stream.fenced_at());
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
    Path(stream): Path<StreamId>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, IntakeError> {
    let stream = find(&shared, stream)?;
    let record: PartRecord = record(&headers)?;
    let writer = writer(&headers)?.unwrap_or(record.epoch);
    let (length, end) = (body.len() as u64, record.end);
    let matches = length == u64::from(record.length) && Hash::of(&body) == record.hash;
    let result = if matches {
        stream
            .add_part(shared.clock.mono(), writer, record, compact(body))
            .map_err(IntakeError::from)
    } else {
        Err(IntakeError::Mismatch)
    };
    count(&shared, &result);
    note_fenced(&shared, &stream.id, writer, &result);
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
    Path(stream): Path<StreamId>,
    Json(End { epoch, continues }): Json<End>,
) -> Result<StatusCode, IntakeError> {
    let known = find(&shared, stream)?;
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
        Err(IntakeError::Refused(refusal)) => refusal.reason(),
        Err(_) => "mismatch",
    };
    shared.metrics.intake.with_label_values(&[label]).inc();
}
