//! What the programs on a stream's way say to each other, as values. Encoding is in `codec`.
//!
//! ```text
//! router → node    Hello, then Item…, Health, Heartbeat, End; to a standby also Begin and Publish
//! node → router    Admitted | Refused, then Published…, Heartbeat, Ended
//! node → worker    Start, then Item…, PartAck…, End; to a standby's also Begin
//! worker → node    Ready, then Init, Part…, Heartbeat
//! ```

use std::net::SocketAddr;

use bytes::Bytes;
use millrace_hls::{InitRecord, PartRecord};
use millrace_media::Item;
use millrace_types::{
    EndReason, Epoch, Ladder, Mark, Msn, PartNo, RefusalReason, RungId, StreamId,
};

/// Everything that can be said.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Router → node: take this stream.
    Hello(Hello),
    /// Node → router: taken.
    Admitted(Admitted),
    /// Node → router: not taken; the connection closes.
    Refused(Refused),
    /// Router → node → worker: the next record of the stream.
    Item(Item),
    /// Node → router: this rung is published up to the mark.
    Published(Published),
    /// Node → router: the worker is gone; the connection closes, and the router places the stream again.
    Ended(Ended),
    /// Both ways, every 200 ms.
    Heartbeat(Heartbeat),
    /// Router → node: how the source does; for the origin's status.
    Health(Health),
    /// Router → node → worker: the stream is over; flush, close the segment, end.
    End(End),
    /// Router → standby → worker: make parts from this segment on.
    Begin(Begin),
    /// Router → standby: the writer before has ended; claim the stream's output, and push what is there and what comes.
    Publish,
    /// Worker → node: confined and waiting for work.
    Ready(Ready),
    /// Node → worker: the work.
    Start(Start),
    /// Worker → node: an init section, before the first part that needs it.
    Init(Init),
    /// Worker → node: a part.
    Part(Part),
    /// Node → worker: the part is safe in the node's window; forget it.
    PartAck(PartAck),
}

/// A router asks a node to take a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Which stream.
    pub stream: StreamId,
    /// The right to write its output; higher than any before.
    pub epoch: Epoch,
    /// What to make of it.
    pub ladder: Ladder,
    /// How long a part lasts at most, milliseconds (`PART-TARGET`).
    pub part_target_ms: u32,
    /// `PART-HOLD-BACK`, milliseconds.
    pub hold_back_ms: u32,
    /// Source pixels per second, for the decoder's share of the demand.
    pub source_pixels_per_second: u64,
    /// Where the stream's origin takes media; `None` from a router that does not say.
    pub origin_intake: Option<SocketAddr>,
    /// Another node makes the stream and goes on: be ready, make nothing before [`Message::Begin`], fence and push nothing
    /// before [`Message::Publish`].
    pub standby: bool,
}

/// A node has reserved the capacity, fenced older epochs, and has a worker waiting.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// What is safe already, per rung; the router replays from the IDR that covers the smallest.
    pub resume: Vec<Mark>,
    /// Process id of the worker, for operators.
    pub worker_pid: u32,
    /// As a standby, which is what was asked: nothing is fenced.
    pub standby: bool,
}

/// A node does not take the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The closed reason.
    pub reason: RefusalReason,
    /// For people.
    pub text: String,
}

/// A part is on the origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// How far its rung has come.
    pub mark: Mark,
}

/// A worker is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// For people: exit status, signal, last words.
    pub text: String,
}

/// I live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Worker and node: `seq` of the last [`Item`] taken in. Router: of the last one sent.
    pub seq: u64,
    /// Worker: items taken in but not yet made into parts, milliseconds of media. Else 0.
    pub lag_ms: u32,
}

/// How the source does, once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The router's health report, as JSON that nobody on the way reads.
    pub json: String,
}

/// The stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether a later session or successor goes on: close the segment short and push no end mark.
    pub continues: bool,
}

/// The first segment that a standby makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its number. Said before the first unit of it.
    pub msn: Msn,
}

/// A worker waits for work.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Build that speaks, for operators.
    pub version: String,
    /// Each measure of the sandbox: name, and `applied` or `unavailable: why`.
    pub sandbox: Vec<(String, String)>,
}

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Which stream.
    pub stream: StreamId,
    /// Put on every record.
    pub epoch: Epoch,
    /// What to make.
    pub ladder: Ladder,
    /// What exists already; make only what lies past it, beginning each encoded rung with an IDR.
    pub resume: Vec<Mark>,
}

/// An init section.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// What it is.
    pub record: InitRecord,
    /// `ftyp moov`.
    pub bytes: Bytes,
}

/// A part.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub record: PartRecord,
    /// `moof mdat`.
    pub bytes: Bytes,
}

/// A part is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAck {
    /// Which rung.
    pub rung: RungId,
    /// Everything of that rung up to this segment and part.
    pub msn: Msn,
    /// Part within the segment.
    pub part: PartNo,
}
