//! What the programs on a stream's way say to each other, as values. Encoding is in `codec`.
//!
//! ```text
//! router → node    Hello, then Item…, Health, Heartbeat, ChangeOrigin, Beside, End; to a standby also Begin and Publish
//! node → router    Admitted | Refused, then Published…, Heartbeat, OriginLost, Ended | Restarting
//! node → worker    Start, then Item…, PartAck…, End; to a standby's also Begin
//! worker → node    Ready, then Init, Part…, Heartbeat, Ended
//! ```

use std::net::SocketAddr;

use bytes::Bytes;
use millrace_hls::{InitRecord, PartRecord};
use millrace_media::Item;
use millrace_types::{
    Announced, EndReason, Epoch, Ladder, Mark, Msn, PartNo, RefusalReason, RungId, StreamId,
    Versions,
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
    /// Node → router: the worker is gone; the connection closes, and the router places the stream again. Worker → node: its
    /// last word, for a daemon that is not its parent.
    Ended(Ended),
    /// Node → router: the daemon goes and its successor comes; the worker stays. The connection closes.
    Restarting(Restarting),
    /// Both ways, every 200 ms.
    Heartbeat(Heartbeat),
    /// Router → node: how the source does; for the origin's status.
    Health(Health),
    /// Node → router: the stream's origin takes nothing any more; say which other one does.
    OriginLost(OriginLost),
    /// Router → node: this origin owns the stream from here on.
    ChangeOrigin(ChangeOrigin),
    /// Router → node → worker: the stream is over; flush, close the segment, end.
    End(End),
    /// Router → standby → worker: make parts from this segment on.
    Begin(Begin),
    /// Router → standby: the writer before has ended, or the standby goes on beside it; claim the stream's output, and push what
    /// is there and what comes.
    Publish,
    /// Router → node: whether another node makes the stream too from here on.
    Beside(Beside),
    /// Worker → node: confined and waiting for work.
    Ready(Ready),
    /// Node → worker: the work.
    Start(Start),
    /// Worker → node: an init section, before the first part that needs it.
    Init(Init),
    /// Worker → node: a part.
    Part(Part),
    /// Node → worker: the part is safe; forget it.
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
    /// The oldest record that can still be fed: a worker that needs none before it may be gone on with. `None`: only a new
    /// worker, fed from a keyframe.
    pub replay_from: Option<u64>,
    /// Another node makes the stream and goes on: be ready, make nothing before [`Message::Begin`], fence and push nothing
    /// before [`Message::Publish`].
    pub standby: bool,
    /// The writer that goes on beside this one: it is not to be fenced.
    pub beside: Option<Epoch>,
    /// What the publisher says of its bitrates.
    pub announced: Announced,
    /// What the router speaks.
    pub speaks: Versions,
    /// Rungs that were encoded and are no longer, and where their encoders left them: what passes through under their names cannot
    /// be shown behind that, not before `whole_from`.
    pub given_up: Vec<Mark>,
    /// The number of discontinuities from which on it can be, with the first IDR. 0, from a router that does not say: from the
    /// segment on that follows the mark's.
    pub whole_from: u64,
}

/// A node has reserved the capacity, fenced older epochs, and has a worker waiting.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// What is safe already, per rung; the router replays from the IDR that covers the smallest.
    pub resume: Vec<Mark>,
    /// Process id of the worker, for operators.
    pub worker_pid: u32,
    /// The worker was there already, and needs no record before this one. `None`: it is new.
    pub next_seq: Option<u64>,
    /// As a standby, which is what was asked: nothing is fenced.
    pub standby: bool,
    /// Beside another writer, which is what was asked: that one will not be fenced.
    pub beside: bool,
    /// What is spoken on this Link: the newest version that both ends do.
    pub version: u32,
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

/// The daemon of a node goes, and its workers stay for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarting {
    /// How long the router should try this node before it asks others, milliseconds.
    pub grace_ms: u32,
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

/// An origin cannot be reached from the node, or has stopped answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginLost {
    /// Its intake, by which the router knows it.
    pub intake: SocketAddr,
    /// No other origin answers the node either. Since version 2 of the Link.
    pub with_all: bool,
}

/// A stream's media goes to another origin; the worker makes it as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeOrigin {
    /// The right to write there, higher than any before: the one that is left knows by it that it does not own the stream.
    pub epoch: Epoch,
    /// Where the new one takes media.
    pub intake: SocketAddr,
    /// The other encoder's right to write there, if this one is the second: that one restores the window first. A node that does
    /// not know it fences the first.
    pub beside: Option<Epoch>,
    /// Another writer restores there what it has, right behind this one: players may have seen more than either has.
    pub followed: bool,
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

/// Whether two nodes make the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The other one makes it: what this one has to cut short, it is to say so of.
    pub lives: bool,
}

/// A worker waits for work, or for its next daemon to go on with the work it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Build that speaks, for operators.
    pub version: String,
    /// What it speaks.
    pub speaks: Versions,
    /// What it works on; `None` while it waits for work.
    pub work: Option<Work>,
    /// Each measure of the sandbox: name, and `applied` or `unavailable: why`.
    pub sandbox: Vec<(String, String)>,
}

/// What a worker tells its next daemon, which knows nothing of it. Every part that is not acknowledged follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What the router had asked for.
    pub hello: Hello,
    /// The first record it has not taken in.
    pub next_seq: u64,
    /// How far each rung was acknowledged.
    pub acked: Vec<PartAck>,
    /// It was told to end, and waits only for its last acknowledgements.
    pub ended: Option<End>,
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
    /// What the router asked for, kept for a daemon that comes later.
    pub hello: Option<Hello>,
    /// What is spoken on this socket from here on: the newest version that both ends do.
    pub version: u32,
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

/// A part is on the origin, or its node will see to that and wants the worker to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAck {
    /// Which rung.
    pub rung: RungId,
    /// Everything of that rung up to this segment and part.
    pub msn: Msn,
    /// Part within the segment.
    pub part: PartNo,
}
