//! One publisher's RTMP session. Decides every answer, limit and refusal; never reads a socket, a clock or a key
//! store.
//!
//! ```text
//! Handshake → Connecting ─connect→ Connected ─publish→ Deciding ─Accepted→ Publishing
//!     │            │                   │                  │                    │
//!     └────────────┴── refusal, deadline, end of the publisher ────────────────┴→ Ended
//! ```
//!
//! The caller feeds one [`Input`], takes [`Output`]s until `None`, and sleeps until [`Session::deadline`].
//! While `Deciding` it should not read on: what came with the `publish` command is kept until the decision.

mod dialogue;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_types::{Mono, RefusalReason};

use super::{
    Limits, PublisherMessage, Refusal,
    chunk_reader::{ChunkReader, MessageBounds},
    chunk_writer::ChunkWriter,
    command::CommandWriter,
    handshake::Handshake,
    message::kind,
    rate_limit::RateLimit,
};

/// How many bytes the publisher may have under way without our acknowledgement, and our own promise likewise.
const WINDOW_BYTES: u32 = 2_500_000;
/// What the caller observed.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes came.
    Received(&'a [u8]),
    /// The farm takes the stream that [`Output::PublishRequested`] asked for.
    Accepted,
    /// The farm refuses the publisher, now or later in the stream.
    Refused(Refusal),
    /// The publisher closed or lost its connection.
    Disconnected,
    /// We read again, after the queue behind us was full.
    Resumed,
    /// The deadline passed.
    Tick,
}

/// What the caller must now do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send these bytes to the publisher.
    Send(Bytes),
    /// Decide on the key and answer with [`Input::Accepted`] or [`Input::Refused`].
    PublishRequested {
        /// The publish name without its query: a stream key, perhaps. Secret; never log it.
        key_text: String,
    },
    /// Pass this on.
    Media(PublisherMessage),
    /// The session is over; said once.
    Ended(IngestEnd),
    /// Flush what was sent, then close the connection.
    Close,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestEnd {
    /// The publisher said that it ends.
    Unpublished,
    /// The connection closed or broke.
    Disconnected,
    /// We ended it.
    Refused(Refusal),
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Connecting,
    Connected,
    Deciding { until: Mono, unread: Vec<u8> },
    Publishing { last_media: Mono, rate: RateLimit },
    Ended,
}

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    started: Mono,
    state: State,
    reader: ChunkReader,
    chunks: ChunkWriter,
    /// The `connect` call, to which a refusal must answer until it is answered.
    connect_transaction: Option<f64>,
    received_bytes: u64,
    acknowledged_bytes: u64,
    acknowledge_every: u64,
    sending: Vec<u8>,
    out: VecDeque<Output>,
}

impl Session {
    /// A session whose connection was accepted at `now`.
    pub fn new(now: Mono, limits: Limits) -> Self {
        let bounds = MessageBounds {
            command_bytes: limits.command_bytes,
            video_bytes: limits.command_bytes,
            streams: limits.chunk_streams,
        };
        Self {
            limits,
            started: now,
            state: State::Handshake(Handshake::new()),
            reader: ChunkReader::new(bounds),
            chunks: ChunkWriter::new(),
            connect_transaction: None,
            received_bytes: 0,
            acknowledged_bytes: 0,
            acknowledge_every: u64::from(WINDOW_BYTES),
            sending: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes in what the caller observed.
    pub fn handle(&mut self, now: Mono, input: Input<'_>) {
        match (input, &mut self.state) {
            (_, State::Ended) => {}
            (Input::Received(bytes), _) => self.received(now, bytes),
            (Input::Accepted, State::Deciding { unread, .. }) => {
                let unread = std::mem::take(unread);
                self.accepted(now);
                self.read(now, &unread);
            }
            (Input::Accepted, _) => {}
            (Input::Refused(refusal), _) => self.refuse(refusal),
            (Input::Disconnected, _) => self.end(IngestEnd::Disconnected),
            (Input::Resumed, State::Publishing { last_media, .. }) => *last_media = now,
            (Input::Resumed | Input::Tick, _) => {}
        }
        self.check_deadline(now);
    }

    /// The next thing to do; `None` when there is nothing left, and no memory held for it.
    pub fn poll(&mut self) -> Option<Output> {
        if !self.sending.is_empty() {
            return Some(Output::Send(std::mem::take(&mut self.sending).into()));
        }
        let next = self.out.pop_front();
        if next.is_none() {
            self.out = VecDeque::new();
        }
        next
    }

    /// When the next [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        self.timeout().map(|(until, _)| until)
    }

    fn timeout(&self) -> Option<(Mono, &'static str)> {
        let limits = &self.limits;
        let unauthenticated = self.started + limits.unauthenticated;
        match &self.state {
            State::Handshake(_) => {
                Some((unauthenticated.min(self.started + limits.handshake), "handshake"))
            }
            State::Connecting => Some((unauthenticated, "no connect command")),
            State::Connected => Some((unauthenticated, "no publish command")),
            State::Deciding { until, .. } => Some((*until, "no decision")),
            State::Publishing { last_media, .. } => {
                Some((*last_media + limits.idle, "no video or audio"))
            }
            State::Ended => None,
        }
    }

    fn check_deadline(&mut self, now: Mono) {
        if let Some((_, what)) = self.timeout().filter(|(until, _)| now >= *until) {
            let reason = match self.state {
                State::Deciding { .. } => RefusalReason::Internal,
                _ => RefusalReason::Timeout,
            };
            self.refuse(Refusal::with_detail(reason, what));
        }
    }

    fn received(&mut self, now: Mono, bytes: &[u8]) {
        self.received_bytes += bytes.len() as u64;
        if let State::Publishing { rate, .. } = &mut self.state {
            if !rate.admit(now, bytes.len()) {
                let limit = format!("limit {} kbit/s", self.limits.bits_per_second / 1_000);
                return self.refuse(Refusal::with_detail(RefusalReason::BitrateLimit, limit));
            }
        } else if self.received_bytes > self.limits.unauthenticated_bytes as u64 {
            let limit = self.limits.unauthenticated_bytes;
            return self.breach(format!("more than {limit} bytes before publishing"));
        }
        self.read(now, bytes);
        self.acknowledge();
    }

    /// Takes bytes through handshake and chunk streams as far as the state lets them.
    fn read(&mut self, now: Mono, mut bytes: &[u8]) {
        if let State::Handshake(handshake) = &mut self.state {
            match handshake.read(&mut bytes) {
                Ok(answer) => self.sending.extend(answer.unwrap_or_default()),
                Err(error) => return self.breach(error),
            }
            if handshake.is_done() {
                self.state = State::Connecting;
            }
        }
        while !bytes.is_empty() {
            match &mut self.state {
                State::Deciding { unread, .. } => {
                    unread.extend_from_slice(bytes);
                    return;
                }
                State::Ended => return,
                _ => {}
            }
            match self.reader.read(&mut bytes) {
                Ok(Some(message)) => self.message(now, message),
                Ok(None) => return,
                Err(error) => return self.breach(error),
            }
        }
    }

    /// Tells the publisher how much has come, as often as it asked for.
    fn acknowledge(&mut self) {
        if self.received_bytes - self.acknowledged_bytes >= self.acknowledge_every
            && !matches!(self.state, State::Ended | State::Handshake(_))
        {
            self.acknowledged_bytes = self.received_bytes;
            let sequence = (self.received_bytes as u32).to_be_bytes();
            self.chunks.control(kind::ACKNOWLEDGEMENT, &sequence, &mut self.sending);
        }
    }

    /// Refuses a breach of RTMP or of a size limit.
    fn breach(&mut self, detail: impl std::fmt::Display) {
        self.refuse(Refusal::with_detail(RefusalReason::Protocol, detail));
    }

    /// Tells the publisher why, in the form that its state lets it understand, and ends.
    fn refuse(&mut self, refusal: Refusal) {
        let text = refusal.to_string();
        match (&self.state, self.connect_transaction) {
            (State::Handshake(_) | State::Ended, _) => {}
            (State::Connecting, None) => {}
            (_, Some(transaction)) => {
                self.commands().error(transaction, "NetConnection.Connect.Rejected", &text);
            }
            (_, None) => self.commands().status("error", status_code(refusal.reason), &text),
        }
        self.end(IngestEnd::Refused(refusal));
    }

    fn end(&mut self, why: IngestEnd) {
        if !matches!(self.state, State::Ended) {
            self.state = State::Ended;
            self.out.push_back(Output::Ended(why));
            self.out.push_back(Output::Close);
        }
    }

    fn commands(&mut self) -> CommandWriter<'_> {
        CommandWriter { chunks: &self.chunks, out: &mut self.sending }
    }
}

/// What players of the error codes know: a name that cannot be used, or a publication that is not allowed.
fn status_code(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::BadKey | RefusalReason::TakenOver | RefusalReason::TakeoverLimit => {
            "NetStream.Publish.BadName"
        }
        _ => "NetStream.Publish.Denied",
    }
}
