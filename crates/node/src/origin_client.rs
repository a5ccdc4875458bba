//! Speaks to an origin's intake over HTTP/1.1. Knows requests and answers; retrying is its callers' business.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use millrace_hls::{Backlog, InitRecord, PartRecord, StreamOpen, intake};
use millrace_tls::{Expected, FarmConnector, FarmTls, Role, http_client};
use millrace_types::{Epoch, Mark, Msn, PartNo, RungId, StreamId};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers about the past that come at a time, of all streams: they leave room for what is live.
const PASTS: usize = 4;

/// A request to the origin did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// No answer: try again.
    #[error("origin {address}: {text}")]
    Unreachable {
        /// Which.
        address: SocketAddr,
        /// Why.
        text: String,
    },
    /// A newer writer has taken over: stop.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The origin has another part under this number, or the window has moved on: leave it.
    #[error("not taken: {0}")]
    Superseded(String),
    /// The origin does not know the stream, or not this rung or init: announce it again.
    #[error("not announced: {0}")]
    NotAnnounced(String),
    /// An answer that makes no sense.
    #[error("origin answered {status}: {text}")]
    Answer {
        /// HTTP status.
        status: StatusCode,
        /// Body.
        text: String,
    },
}

/// A client of one origin; clones share its connections.
#[derive(Clone, Debug)]
pub struct OriginClient {
    address: SocketAddr,
    scheme: &'static str,
    http: Client<FarmConnector, Full<Bytes>>,
    pasts: Arc<Semaphore>,
}

impl OriginClient {
    /// Connects to `address` when first asked to.
    pub fn new(address: SocketAddr, tls: Option<Arc<FarmTls>>) -> Self {
        let expected = Expected::any(Role::Origin);
        let connector = FarmConnector { tls, expected, patience: CONNECT_TIMEOUT };
        let scheme = connector.scheme();
        let pasts = Arc::new(Semaphore::new(PASTS));
        Self { address, scheme, http: http_client(connector), pasts }
    }

    /// Whose.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Announces a stream; what it has already, per rung.
    pub async fn open(
        &self,
        stream: &StreamId,
        open: &StreamOpen,
    ) -> Result<Vec<Mark>, OriginError> {
        let body = json(open)?;
        let answer = self.send(Method::PUT, intake::open_path(stream), &json_type(), body).await?;
        Ok(from_json::<intake::Marks>(&answer)?.marks)
    }

    /// Whether it answers at all, whatever it says of the stream.
    pub async fn answers(&self, stream: &StreamId) -> bool {
        let asked = self.send(Method::HEAD, intake::open_path(stream), &[], Bytes::new()).await;
        !matches!(asked, Err(OriginError::Unreachable { .. }))
    }

    /// Pushes an init section as the writer of `epoch`.
    pub async fn init(
        &self,
        stream: &StreamId,
        epoch: Epoch,
        record: &InitRecord,
        bytes: Bytes,
    ) -> Result<(), OriginError> {
        self.media(intake::init_path(stream), epoch, record, bytes).await
    }

    /// Pushes a part as the writer of `epoch`.
    pub async fn part(
        &self,
        stream: &StreamId,
        epoch: Epoch,
        record: &PartRecord,
        bytes: Bytes,
    ) -> Result<(), OriginError> {
        self.media(intake::part_path(stream), epoch, record, bytes).await
    }

    /// Says how the source does.
    pub async fn health(&self, stream: &StreamId, json: String) -> Result<(), OriginError> {
        let path = intake::health_path(stream);
        self.send(Method::PUT, path, &json_type(), json.into()).await.map(drop)
    }

    /// Says that the writer of `epoch` stops.
    pub async fn end(&self, stream: &StreamId, end: intake::End) -> Result<(), OriginError> {
        let path = intake::end_path(stream);
        self.send(Method::POST, path, &json_type(), json(&end)?).await.map(drop)
    }

    /// What players are shown of a rung behind a part, or the beginning of that. Waits for its turn.
    pub async fn past(
        &self,
        stream: &StreamId,
        rung: &RungId,
        after: Option<(Msn, PartNo)>,
    ) -> Result<Vec<Backlog>, OriginError> {
        let _turn = self.pasts.acquire().await.map_err(|error| unreadable(&error))?;
        let path = intake::past_path(stream, rung, after);
        let mut answer = self.send(Method::GET, path, &[], Bytes::new()).await?;
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
        let line = answer.split_to(end);
        let past: intake::Past = from_json(&line)?;
        past.with_media(answer.split_off(1.min(answer.len()))).map_err(|error| unreadable(&error))
    }

    async fn media(
        &self,
        path: String,
        epoch: Epoch,
        record: &impl Serialize,
        bytes: Bytes,
    ) -> Result<(), OriginError> {
        let record = serde_json::to_string(record).map_err(|error| unreadable(&error))?;
        let headers = [(intake::RECORD_HEADER, record), (intake::EPOCH_HEADER, epoch.to_string())];
        self.send(Method::PUT, path, &headers, bytes).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Bytes, OriginError> {
        let uri = format!("{}://{}{path}", self.scheme, self.address);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| unreadable(&error))?;
        let unreachable = |text: String| OriginError::Unreachable { address: self.address, text };
        let answer = async {
            let answer = self.http.request(request).await.map_err(|e| unreachable(chain(&e)))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|e| unreachable(chain(&e)))?;
            Ok((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, answer)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", TIMEOUT.as_secs())))??;
        if status.is_success() { Ok(body) } else { Err(refusal(self.address, status, &body)) }
    }
}

fn refusal(address: SocketAddr, status: StatusCode, body: &Bytes) -> OriginError {
    let text = String::from_utf8_lossy(body).into_owned();
    let Ok(refused) = from_json::<intake::Refused>(body) else {
        return match status {
            StatusCode::NOT_FOUND => OriginError::NotAnnounced(text),
            _ => OriginError::Answer { status, text },
        };
    };
    match refused.reason.as_str() {
        "fenced" | "other_encoder" => OriginError::Fenced(refused.detail),
        "conflict" | "too_old" | "ended" => OriginError::Superseded(refused.detail),
        // It will not take anything: as good as away, until the router names another.
        "version" => OriginError::Unreachable { address, text: refused.detail },
        "unknown_rung" | "unknown_init" => OriginError::NotAnnounced(refused.detail),
        _ if status == StatusCode::NOT_FOUND => OriginError::NotAnnounced(refused.detail),
        _ => OriginError::Answer { status, text: refused.detail },
    }
}

fn json_type() -> [(&'static str, String); 1] {
    [("content-type", "application/json".to_owned())]
}

fn json(value: &impl Serialize) -> Result<Bytes, OriginError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| unreadable(&error))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, OriginError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::error::Error) -> OriginError {
    OriginError::Answer { status: StatusCode::OK, text: error.to_string() }
}

/// An error with its causes: hyper's own text alone says only `client error (Connect)`.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
