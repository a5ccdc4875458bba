//! One connection of HTTP/1.1 or HTTP/2 by hyper, which ends when its client does nothing: hyper's own timers see neither who sends
//! no first byte, nor who opens HTTP/2 and goes no further, nor who takes nothing of an answer.

use std::{
    convert::Infallible,
    error::Error,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::Request;
use hyper::{
    Response,
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Requests at a time on one connection of HTTP/2.
const REQUESTS_AT_ONCE: u32 = 64;

/// Answers what comes on `stream` until its client leaves, or for `patience` neither asks for anything nor takes anything of an
/// answer while none is being made. After `stop` running answers end, and then the connection.
pub async fn serve_http<S, A, F, B>(
    stream: S,
    answer: A,
    patience: Duration,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let activity = Activity::default();
    let watched = Watched { stream, activity: activity.clone() };
    let service = service_fn(|request| {
        let (running, answer) = (activity.begin(), answer(request));
        async move {
            let answer = answer.await;
            drop(running);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().max_concurrent_streams(REQUESTS_AT_ONCE);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(watched), service));
    tokio::select! {
        // Whoever broke off knows it.
        _ = connection.as_mut() => return,
        () = activity.idle_for(patience) => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = activity.idle_for(patience) => {}
    }
}

/// What happens on a connection.
#[derive(Clone, Debug, Default)]
struct Activity(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    /// Answers that are being made.
    running: usize,
    /// When a request came, an answer was made, or some of it was taken.
    newest: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self { running: 0, newest: Instant::now() }
    }
}

/// An answer is being made.
struct Running(Activity);

impl Activity {
    fn see(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.newest = Instant::now();
        change(&mut seen);
    }

    fn begin(&self) -> Running {
        self.see(|seen| seen.running += 1);
        Running(self.clone())
    }

    /// Since when nothing has happened; `None` while an answer is being made.
    fn idle_since(&self) -> Option<Instant> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.running == 0).then_some(seen.newest)
    }

    /// Waits until nothing has happened for so long.
    async fn idle_for(&self, patience: Duration) {
        loop {
            let now = Instant::now();
            let until = self.idle_since().unwrap_or(now) + patience;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.see(|seen| seen.running -= 1);
    }
}

/// The connection's stream: what the client takes is activity.
struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.see(|_| {});
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.sent(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
