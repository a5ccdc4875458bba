//! Asks a stream's origin for its session: fences whoever wrote it before, and hears where the stream stands.
//!
//! The requests are written down in [`millrace_hls::intake`].

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header::CONTENT_TYPE};
use hyper_util::client::legacy::Client;
use millrace_hls::intake::{FLUSHING, Fence, Marks, Refused, fence_path};
use millrace_tls::{Expected, FarmConnector, FarmTls, Role, http_client};
use millrace_types::{Epoch, StreamId};

/// How long the writer before may take to hand over what it still holds,
const FLUSH: Duration = Duration::from_millis(1_500);
/// and how long in all while parts of it come: on a host that is short of time seconds of input may lie in its worker.
const WHOLE_FLUSH: Duration = Duration::from_secs(6);
/// How long the answer may take beyond that, and any answer at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// The origin did not give the session away.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Another router has claimed this generation, or a later one.
    #[error("another router's claim is in force: {0}")]
    Behind(Epoch),
    /// No answer, or none that makes sense.
    #[error("origin {address}: {text}")]
    Unanswered {
        /// Which origin.
        address: SocketAddr,
        /// Why.
        text: String,
    },
}

/// What an origin says of a stream that is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does not answer.
    Silent,
    /// It has nothing of it: it was started anew, or nothing was given to it.
    HasNothing,
    /// It has it.
    Has,
}

/// A client of all origins' fences; clones share connections.
#[derive(Clone, Debug)]
pub struct OriginFence {
    scheme: &'static str,
    http: Client<FarmConnector, Full<Bytes>>,
}

impl OriginFence {
    /// Connects when first asked to.
    pub fn new(tls: Option<Arc<FarmTls>>) -> Self {
        let expected = Expected::any(Role::Origin);
        let connector = FarmConnector { tls, expected, patience: PATIENCE };
        let scheme = connector.scheme();
        Self { scheme, http: http_client(connector) }
    }

    /// Claims a stream's session at the origin whose intake is `at`, once its writer has handed over or has had time to.
    ///
    /// # Errors
    /// [`FenceError`]
    pub async fn claim(
        &self,
        at: SocketAddr,
        stream: &StreamId,
        epoch: Epoch,
    ) -> Result<Marks, FenceError> {
        let unanswered = |text: String| FenceError::Unanswered { address: at, text };
        let flush_ms = u32::try_from(FLUSH.as_millis()).unwrap_or(u32::MAX);
        let last_begins = Instant::now() + WHOLE_FLUSH - FLUSH;
        loop {
            let asks_again = Instant::now() < last_begins;
            let fence = Fence { epoch, claims: true, flush_ms, asks_again };
            let (status, body) =
                self.ask(at, stream, fence, FLUSH + PATIENCE).await.map_err(unanswered)?;
            if status == StatusCode::OK {
                let marks = serde_json::from_slice(&body);
                return marks.map_err(|error| unanswered(error.to_string()));
            }
            let refused = serde_json::from_slice::<Refused>(&body).ok();
            if asks_again && refused.as_ref().is_some_and(|refused| refused.reason == FLUSHING) {
                continue;
            }
            let fence = refused.and_then(|refused| refused.fence);
            return Err(fence.map_or_else(|| unanswered(status.to_string()), FenceError::Behind));
        }
    }

    /// What the origin whose intake is `at` says of a stream. `epoch` is in force there already.
    pub async fn asked(&self, at: SocketAddr, stream: &StreamId, epoch: Epoch) -> Answer {
        match self.ask(at, stream, Fence::at(epoch), PATIENCE).await {
            Ok((StatusCode::OK, body)) => {
                let marks = serde_json::from_slice::<Marks>(&body);
                let is_known = marks.is_ok_and(|marks| !marks.marks.is_empty());
                if is_known { Answer::Has } else { Answer::HasNothing }
            }
            Ok(_) => Answer::Has,
            Err(_) => Answer::Silent,
        }
    }

    async fn ask(
        &self,
        at: SocketAddr,
        stream: &StreamId,
        fence: Fence,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let body = serde_json::to_vec(&fence).map_err(|error| error.to_string())?;
        let request = Request::post(format!("{}://{at}{}", self.scheme, fence_path(stream)))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| error.to_string())?;
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes()))
        };
        let late = |_| Err("no answer in time".to_owned());
        tokio::time::timeout(patience, answer).await.unwrap_or_else(late)
    }
}
