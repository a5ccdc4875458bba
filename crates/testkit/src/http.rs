//! A small HTTP/1.1 client that keeps connections, and URIs resolved against a playlist's own. Plain text only: no TLS, no redirects.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// An answer with its whole body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body, as transferred.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, wrong bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that was idle for so long is not used again: servers close theirs after half a minute, and the next request may be on
/// its way by then.
const IDLE: Duration = Duration::from_secs(10);

/// The client; clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Client<HttpConnector, Full<Bytes>>,
}

impl Default for HttpClient {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(IDLE);
        Self { inner: client.build(connector) }
    }
}

impl HttpClient {
    /// `GET` with any status as an answer.
    ///
    /// # Errors
    ///
    /// When there is no whole answer after `within`.
    pub async fn get(&self, url: &str, within: Duration) -> anyhow::Result<Answer> {
        self.send(Method::GET, url, Bytes::new(), within).await
    }

    /// Any method with a body and any status as an answer.
    ///
    /// # Errors
    ///
    /// When there is no whole answer after `within`.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
        within: Duration,
    ) -> anyhow::Result<Answer> {
        let request = Request::builder().method(method).uri(url).body(Full::new(body))?;
        let answer = async {
            let (head, body) = self.inner.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(within, answer)
            .await
            .with_context(|| format!("{url}: no answer within {within:?}"))?
            .with_context(|| url.to_owned())
    }

    /// `GET` that insists on 200 and gives the body.
    ///
    /// # Errors
    ///
    /// When there is no whole answer after `within`, or its status is not 200.
    pub async fn get_ok(&self, url: &str, within: Duration) -> anyhow::Result<Bytes> {
        let answer = self.get(url, within).await?;
        ensure!(answer.status == StatusCode::OK, "{url}: {}", answer.status);
        Ok(answer.body)
    }
}

/// `reference`, found in the document at the absolute `base`, as an absolute URL (RFC 3986 5.2, without fragments).
pub fn resolve(base: &str, reference: &str) -> String {
    if reference.contains("://") {
        return reference.to_owned();
    }
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let host_end =
        base.find("://").and_then(|at| base[at + 3..].find('/').map(|slash| at + 3 + slash));
    let (host, path) = base.split_at(host_end.unwrap_or(base.len()));
    if reference.starts_with('/') {
        return format!("{host}{reference}");
    }
    let (reference, query) =
        reference.find('?').map_or((reference, ""), |at| reference.split_at(at));
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in reference.split('/') {
        match step {
            "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    format!("{host}/{}{query}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_against_the_playlist_they_stand_in() {
        let base = "http://h:1/live/s/720p/index.m3u8?_HLS_msn=5";
        for (reference, absolute) in [
            ("p.m4s", "http://h:1/live/s/720p/p.m4s"),
            ("../audio/index.m3u8?x=../y", "http://h:1/live/s/audio/index.m3u8?x=../y"),
            ("/init.mp4", "http://h:1/init.mp4"),
            ("http://o/x", "http://o/x"),
        ] {
            assert_eq!(resolve(base, reference), absolute);
        }
    }
}
