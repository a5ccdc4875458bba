//! How an HTTP client connects to programs of the farm: to whom it means, with TLS where the farm has any.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Uri, body::Body};
use hyper_util::{
    client::legacy::{Client, connect::Connect},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::time::{error::Elapsed, timeout};
use tower_service::Service;

use crate::{Expected, FarmStream, FarmTls, farm::connect};

/// A connection that nobody has asked over for so long is closed: what a busy minute needed is not held for ever.
const IDLE: Duration = Duration::from_secs(5);

/// An HTTP client that connects so; clones share its connections, and idle ones are closed after 5 s.
pub fn http_client<C, B>(connector: C) -> Client<C, B>
where
    C: Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector)
}

/// Connects for hyper's client.
#[derive(Clone, Debug)]
pub struct FarmConnector {
    /// This program's certificate, where the farm has TLS.
    pub tls: Option<Arc<FarmTls>>,
    /// Whom it means.
    pub expected: Expected,
    /// How long connecting may take, handshake included.
    pub patience: Duration,
}

impl FarmConnector {
    /// `http` or `https`: what a URL that is asked through it begins with.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Service<Uri> for FarmConnector {
    type Response = TokioIo<FarmStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { tls, expected, patience } = self.clone();
        Box::pin(async move {
            let connecting = connect(tls.as_deref(), address(&uri)?, expected);
            Ok(TokioIo::new(timeout(patience, connecting).await.map_err(late)??))
        })
    }
}

pub(crate) fn late(_: Elapsed) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")
}

/// Host and port, that of the scheme where none is said.
pub(crate) fn address(uri: &Uri) -> io::Result<(&str, u16)> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} names no host"));
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = uri.host().ok_or_else(none)?.trim_matches(['[', ']']);
    Ok((host, uri.port_u16().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_from_the_url_and_a_missing_port_from_its_scheme() {
        let read = |text: &str| {
            address(&text.parse().unwrap()).ok().map(|(host, port)| (host.to_owned(), port))
        };
        assert_eq!(read("https://[::1]:7002/x"), Some(("::1".to_owned(), 7002)));
        assert_eq!(read("http://192.0.2.1/"), Some(("192.0.2.1".to_owned(), 80)));
        assert_eq!(read("https://api"), Some(("api".to_owned(), 443)));
        assert_eq!(read("/v1/streams"), None);
    }
}
