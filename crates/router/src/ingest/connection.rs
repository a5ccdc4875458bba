//! Drives one [`Session`] over one socket: reads, writes, asks the gate, passes media on. Owns everything of the
//! connection; decides nothing that the session can.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use millrace_telemetry::Hurry;
use millrace_types::{Mono, RefusalReason};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Duration, Instant, Sleep, sleep_until, timeout},
};

use super::{
    Gate, Granted, IngestEnd, IngestEvent, IngestMetrics, Input, Limits, Output, PublishRequest,
    PublisherMessage, Refusal, Session, pace::Pace, turn::Turn,
};

/// The most that is read at once: any picture of a stream within its limits, but for a few. Each thread has room for it once.
const READ_BYTES: usize = 256 << 10;
/// The same of a stranger, whose every byte is counted.
const STRANGER_READ_BYTES: usize = 16 << 10;
/// How long a refused publisher may take to read why, before the connection is cut.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// One publisher's connection, after TLS.
pub struct Connection<S, G> {
    socket: S,
    peer: SocketAddr,
    gate: Arc<G>,
    stats: IngestMetrics,
    write_limit: Duration,
    /// Zero of the session's clock.
    started: Instant,
    session: Session,
    /// Set for the session's deadline, or for an earlier one that has moved on since.
    timer: Option<Pin<Box<Sleep>>>,
    granted: Option<Granted>,
    pace: Pace,
    turn: Turn,
    /// Bytes that the last look at the socket has brought, if no pause has followed it.
    last_read: Option<usize>,
    /// The socket is left alone until it is over.
    pause: Option<Pin<Box<Sleep>>>,
    /// Until it is granted or refused.
    hurry: Option<Hurry>,
}

impl<S, G> Connection<S, G>
where
    S: AsyncRead + AsyncWrite + Unpin,
    G: Gate,
{
    /// A connection that was accepted at `started`. Boxed: a future that takes it by value has room for it at each step.
    pub fn new(
        socket: S,
        peer: SocketAddr,
        limits: Limits,
        started: Instant,
        gate: Arc<G>,
        stats: IngestMetrics,
    ) -> Box<Self> {
        let write_limit = limits.write;
        let session = Session::new(Mono::default(), limits);
        Box::new(Self {
            socket,
            peer,
            gate,
            stats,
            write_limit,
            started,
            session,
            timer: None,
            granted: None,
            pace: Pace::default(),
            turn: Turn::default(),
            last_read: None,
            pause: None,
            hurry: None,
        })
    }

    /// Runs until the session is over and the socket closed. `hurry` is for the dialogue before the media.
    pub async fn run(mut self: Box<Self>, hurry: Hurry) -> IngestEnd {
        self.hurry = Some(hurry);
        let mut end = IngestEnd::Disconnected;
        loop {
            while let Some(output) = self.session.poll() {
                match output {
                    Output::Send(bytes) => self.send(bytes).await,
                    // What runs once holds no memory for as long as the publisher sends.
                    Output::PublishRequested { key_text } => {
                        Box::pin(self.decide(&key_text)).await;
                    }
                    Output::Media(message) => self.deliver(message).await,
                    Output::Ended(why) => end = why,
                    Output::Close => {
                        Box::pin(self.report(end.clone())).await;
                        Box::pin(self.close(end == IngestEnd::Unpublished)).await;
                        return end;
                    }
                }
            }
            self.wait().await;
        }
    }

    /// Waits for the next thing to happen and tells the session.
    async fn wait(&mut self) {
        let at_most = if self.granted.is_some() { READ_BYTES } else { STRANGER_READ_BYTES };
        self.set_timer();
        let Self {
            socket,
            session,
            granted,
            stats,
            started,
            timer,
            pace,
            turn,
            last_read,
            pause,
            ..
        } = self;
        let is_media = granted.is_some();
        let receive = |context: &mut Context<'_>| {
            if pause.is_none()
                && let Some(until) = last_read.and_then(|bytes| pace.next_look(bytes))
            {
                (*last_read, *pause) = (None, Some(Box::pin(sleep_until(until))));
            }
            if let Some(over) = pause {
                ready!(over.as_mut().poll(context));
                *pause = None;
            }
            if is_media && !turn.has_come(context) {
                return Poll::Pending;
            }
            RECEIVED.with_borrow_mut(|buffer| {
                let mut space = ReadBuf::new(&mut buffer[..at_most]);
                let read = ready!(Pin::new(&mut *socket).poll_read(context, &mut space));
                let input = match (read, space.filled()) {
                    (Err(_), _) | (Ok(()), []) => Input::Disconnected,
                    (Ok(()), bytes) => {
                        stats.received_bytes.inc_by(bytes.len() as u64);
                        if is_media {
                            Turn::has_read(bytes.len());
                        }
                        *last_read = Some(bytes.len());
                        Input::Received(bytes)
                    }
                };
                session.handle(Mono(started.elapsed()), input);
                Poll::Ready(())
            })
        };
        let input = tokio::select! {
            biased;
            refusal = refused(granted) => Input::Refused(refusal),
            () = poll_fn(receive) => return,
            () = rung(timer) => Input::Tick,
        };
        self.tell(input);
    }

    /// A deadline moves on with every message: the timer is not set anew before it has gone off.
    fn set_timer(&mut self) {
        let deadline = self.session.deadline().map(|at| self.started + at.0);
        let is_set = |timer: &Pin<Box<Sleep>>, at| timer.deadline() <= at && !timer.is_elapsed();
        self.timer = match (deadline, self.timer.take()) {
            (Some(at), Some(timer)) if is_set(&timer, at) => Some(timer),
            (at, _) => at.map(|at| Box::pin(sleep_until(at))),
        };
    }

    fn tell(&mut self, input: Input<'_>) {
        let now = Mono(self.started.elapsed());
        self.session.handle(now, input);
    }

    async fn send(&mut self, bytes: Bytes) {
        let write = async {
            self.socket.write_all(&bytes).await?;
            self.socket.flush().await
        };
        // A failed write ends nothing: an encoder may say goodbye and close without reading our answer, and its
        // goodbye is still to be read. The next read knows when the connection is gone.
        if timeout(self.write_limit, write).await.is_err() {
            self.tell(Input::Disconnected);
        }
    }

    /// Asks the gate and tells the session its answer.
    async fn decide(&mut self, key_text: &str) {
        let Ok(key) = key_text.parse() else {
            return self.tell(Input::Refused(RefusalReason::BadKey.into()));
        };
        let deadline = self.session.deadline().map(|at| self.started + at.0);
        let answer = tokio::select! {
            answer = self.gate.authorize(PublishRequest { key, peer: self.peer }) => answer,
            () = reached(deadline) => return self.tell(Input::Tick),
        };
        match answer {
            Ok(granted) => {
                self.pace = granted.pace.clone();
                (self.granted, self.hurry) = (Some(granted), None);
                self.tell(Input::Accepted);
            }
            Err(refusal) => self.tell(Input::Refused(refusal)),
        }
    }

    /// Puts media into the publication's queue and, while that is full, leaves the socket alone.
    async fn deliver(&mut self, message: PublisherMessage) {
        let Some(granted) = &mut self.granted else { return };
        let Granted { events, refusal, .. } = granted;
        let event = match events.try_reserve() {
            Ok(place) => return place.send(IngestEvent::Media(message)),
            Err(_) => IngestEvent::Media(message),
        };
        let refused = tokio::select! {
            // First: an owner that has said why may also be gone.
            biased;
            refusal = refusal => Some(refusal.unwrap_or_else(|_| RefusalReason::Internal.into())),
            sent = events.send(event) => sent.err().map(|_| RefusalReason::Internal.into()),
        };
        match refused {
            None => self.tell(Input::Resumed),
            Some(refusal) => {
                // The owner wants no more media; only the end is still reported.
                self.tell(Input::Refused(refusal));
            }
        }
    }

    /// Tells the publication's owner that nothing follows.
    async fn report(&mut self, why: IngestEnd) {
        if let Some(granted) = self.granted.take() {
            // An owner that reads no more will see the queue close instead.
            drop(timeout(self.write_limit, granted.events.send(IngestEvent::Ended(why))).await);
        }
    }

    /// Closes so that the peer reads what we sent: a socket closed with unread input is reset, and the reset
    /// discards our last words. Who said goodbye hangs up first: GStreamer takes our closing for an error.
    async fn close(&mut self, goodbye: bool) {
        let mut unheard = [0; 4096];
        let linger = async {
            if !goodbye {
                self.socket.shutdown().await?;
            }
            while self.socket.read(&mut unheard).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether the peer listened to the end changes nothing for us.
        drop(timeout(LINGER, linger).await);
    }
}

/// Never completes for a connection without a publication.
async fn refused(granted: &mut Option<Granted>) -> Refusal {
    match granted {
        Some(granted) => granted.refused().await,
        None => std::future::pending().await,
    }
}

async fn rung(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
