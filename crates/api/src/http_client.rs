//! Reads JSON over HTTP from programs of the farm. Bounded in time and size; retrying is its callers' business.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, Uri, header::AUTHORIZATION};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer.
const MAX_BYTES: usize = 8 << 20;

/// A program gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an `http://` URL.
    #[error("{0:?} is no URL of the form http://host:port/path")]
    Url(String),
    /// No connection, or no answer in time.
    #[error("no answer from {url}: {text}")]
    Unreachable {
        /// Whom we asked.
        url: String,
        /// Why.
        text: String,
    },
    /// An answer that says no.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// What it said, JSON where it is.
        body: Value,
    },
    /// Not JSON.
    #[error("{url} did not answer JSON: {error}")]
    Json {
        /// Whom we asked.
        url: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    http: Client<HttpConnector, Empty<Bytes>>,
}

impl HttpClient {
    /// Connects when first asked to.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        Self { http: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// The JSON at `url`.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn get_json(&self, url: &str) -> Result<Value, FetchError> {
        self.ask(Method::GET, url, None).await
    }

    /// Posts nothing to `url`, as the holder of `token`; the JSON it answers.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn post(&self, url: &str, token: Option<&str>) -> Result<Value, FetchError> {
        self.ask(Method::POST, url, token).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
    ) -> Result<Value, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
        if uri.host().is_none() {
            return Err(FetchError::Url(url.to_owned()));
        }
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|_| FetchError::Url(url.to_owned()))?;
        let unreachable = |text: String| FetchError::Unreachable { url: url.to_owned(), text };
        let answer = async {
            let answer =
                self.http.request(request).await.map_err(|error| unreachable(chain(&error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            Ok((status, body.map_err(|error| unreachable(error.to_string()))?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, answer)
            .await
            .map_err(|_| unreachable(format!("nothing within {} s", TIMEOUT.as_secs())))??;
        if !status.is_success() {
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
            return Err(FetchError::Refused { url: url.to_owned(), status, body });
        }
        serde_json::from_slice(&body)
            .map_err(|error| FetchError::Json { url: url.to_owned(), error })
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

/// An error with its causes: hyper's own text alone says only `client error (Connect)`.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
