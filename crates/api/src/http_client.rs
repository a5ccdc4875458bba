//! Reads JSON over HTTP from programs of the farm. Bounded in time and size; retrying is its callers' business.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use millrace_tls::{
    Expected, FarmConnector, FarmTls, NotTls, Role, TlsError, WebConnector, http_client,
};
use serde_json::Value;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer.
const MAX_BYTES: usize = 64 << 20;

/// A program gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL with a host.
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
    /// Asked with TLS, and what listens there has none.
    #[error("no answer from {url}: {NotTls}")]
    NotTls {
        /// Whom we asked.
        url: String,
    },
    /// Somebody listens there, and does not answer in HTTP.
    #[error("no answer from {url}: what listens there hung up, or does not speak HTTP ({text})")]
    NotHttp {
        /// Whom we asked.
        url: String,
        /// What was seen.
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

/// One question.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// HTTP's word for it.
    pub method: Method,
    /// Behind the address, with its query.
    pub path: &'a str,
    /// JSON to send.
    pub body: Option<Value>,
    /// Bearer token to show.
    pub token: Option<String>,
    /// Longest wait for the answer.
    pub patience: Duration,
}

impl<'a> Ask<'a> {
    /// Asks for what is there.
    pub const fn get(path: &'a str) -> Self {
        Self::with(Method::GET, path, None)
    }

    /// Has something done.
    pub const fn post(path: &'a str, body: Option<Value>) -> Self {
        Self::with(Method::POST, path, body)
    }

    /// Has something be otherwise.
    pub const fn patch(path: &'a str, body: Value) -> Self {
        Self::with(Method::PATCH, path, Some(body))
    }

    /// Has something forgotten.
    pub const fn delete(path: &'a str) -> Self {
        Self::with(Method::DELETE, path, None)
    }

    const fn with(method: Method, path: &'a str, body: Option<Value>) -> Self {
        Self { method, path, body, token: None, patience: TIMEOUT }
    }
}

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    scheme: &'static str,
    http: Connections,
}

#[derive(Clone, Debug)]
enum Connections {
    /// To programs of the farm.
    Farm(Client<FarmConnector, Full<Bytes>>),
    /// To whatever a URL names.
    Web(Client<WebConnector, Full<Bytes>>),
}

impl HttpClient {
    /// Connects when first asked to, without TLS.
    pub fn new() -> Self {
        Self::to_web(WebConnector::plain(CONNECT_TIMEOUT))
    }

    /// The same for `https` as well: servers need a certificate from an authority in the file `ca`, or from one that this host
    /// trusts.
    ///
    /// # Errors
    /// [`TlsError`]: no authority could be read.
    pub fn trusting(ca: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self::to_web(WebConnector::trusting(ca, CONNECT_TIMEOUT)?))
    }

    fn to_web(connector: WebConnector) -> Self {
        let http = http_client(connector);
        Self { scheme: "http", http: Connections::Web(http) }
    }

    /// For programs of that role, by this program's certificate where the farm has TLS.
    pub fn in_farm(tls: Option<Arc<FarmTls>>, role: Role) -> Self {
        let expected = Expected::any(role);
        let connector = FarmConnector { tls, expected, patience: CONNECT_TIMEOUT };
        let scheme = connector.scheme();
        let http = http_client(connector);
        Self { scheme, http: Connections::Farm(http) }
    }

    /// What its URLs begin with: `http`, or `https` in a farm with TLS.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The JSON at `url`.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn get_json(&self, url: &str) -> Result<Value, FetchError> {
        self.ask(url, Ask::get("")).await
    }

    /// What the program at `base` answers.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn ask(&self, base: &str, question: Ask<'_>) -> Result<Value, FetchError> {
        let Ask { method, path, body, token, patience } = question;
        let url = &format!("{base}{path}");
        let no_url = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        if uri.host().is_none() {
            return Err(no_url());
        }
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::from(body)).map_err(|_| no_url())?;
        let unreachable = |text: String| FetchError::Unreachable { url: url.to_owned(), text };
        let answer = async {
            let asked = match &self.http {
                Connections::Farm(http) => http.request(request),
                Connections::Web(http) => http.request(request),
            };
            let answer = asked.await.map_err(|error| {
                let (url, text) = (url.to_owned(), chain(&error));
                match () {
                    () if is_not_tls(&error) => FetchError::NotTls { url },
                    () if is_no_http(&error) => FetchError::NotHttp { url, text },
                    () => FetchError::Unreachable { url, text },
                }
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            Ok((status, body.map_err(|error| unreachable(error.to_string()))?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(patience, answer)
            .await
            .map_err(|_| unreachable(format!("nothing within {} s", patience.as_secs())))??;
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

/// An error's causes, the nearest first.
fn causes<'a>(
    error: &'a dyn std::error::Error,
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

fn is_not_tls(error: &dyn std::error::Error) -> bool {
    let mut io = causes(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.any(|error| error.get_ref().is_some_and(|inner| inner.is::<NotTls>()))
}

fn is_no_http(error: &dyn std::error::Error) -> bool {
    let mut http = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    http.any(|error| error.is_parse() || error.is_incomplete_message())
}

/// An error with its causes: hyper's own text alone says only `client error (Connect)`.
fn chain(error: &dyn std::error::Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
