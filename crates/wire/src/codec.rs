//! Between [`Message`]s and frames.
//!
//! [`encode`] appends a frame's head to a buffer and hands the payload back, so that it can be written without a copy.
//! [`Decoder`] takes bytes in any pieces and yields messages; kinds of a newer version are skipped.

use bytes::{Bytes, BytesMut};
use millrace_media::{AccessUnit, Item, Tick};
use millrace_types::{Announced, MediaTime, Msn, PartNo, Versions};

use crate::{
    convert::{self, ConvertError},
    frame::{self, Frame, FrameError},
    message::{
        Admitted, Begin, Beside, ChangeOrigin, End, Health, Heartbeat, Hello, Init, Message,
        OriginLost, Part, PartAck, Published, Ready, Restarting, Start, Work,
    },
    proto,
};

/// The bytes cannot be understood; the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that says something impossible.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

mod kind {
    pub const HELLO: u8 = 1;
    pub const ADMITTED: u8 = 2;
    pub const REFUSED: u8 = 3;
    pub const CONFIG: u8 = 4;
    pub const ACCESS_UNIT: u8 = 5;
    pub const TICK: u8 = 6;
    pub const PUBLISHED: u8 = 7;
    pub const ENDED: u8 = 8;
    pub const HEARTBEAT: u8 = 9;
    pub const END: u8 = 10;
    pub const READY: u8 = 11;
    pub const START: u8 = 12;
    pub const INIT: u8 = 13;
    pub const PART: u8 = 14;
    pub const PART_ACK: u8 = 15;
    pub const HEALTH: u8 = 16;
    pub const ORIGIN_LOST: u8 = 20;
    pub const CHANGE_ORIGIN: u8 = 21;
    pub const RESTARTING: u8 = 17;
    pub const BEGIN: u8 = 24;
    pub const PUBLISH: u8 = 25;
    pub const BESIDE: u8 = 26;
}

/// Appends the frame's header and control part to `out`; what is returned is the payload that must follow it.
pub fn encode(message: &Message, out: &mut BytesMut) -> Bytes {
    let none = Bytes::new();
    match message {
        Message::Item(item) => encode_item(item, out),
        Message::Part(part) => {
            put(out, kind::PART, &convert::part_to(&part.record), part.bytes.clone())
        }
        Message::Init(init) => {
            put(out, kind::INIT, &convert::init_to(&init.record), init.bytes.clone())
        }
        Message::Hello(hello) => put(out, kind::HELLO, &hello_to(hello), none),
        Message::Start(start) => put(out, kind::START, &start_to(start), none),
        Message::Ready(ready) => put(out, kind::READY, &ready_to(ready), none),
        Message::Admitted(admitted) => put(out, kind::ADMITTED, &admitted_to(admitted), none),
        Message::Refused(refused) => {
            put(out, kind::REFUSED, &because(refused.reason.as_str(), &refused.text), none)
        }
        Message::Ended(ended) => {
            put(out, kind::ENDED, &because(ended.reason.as_str(), &ended.text), none)
        }
        Message::Published(published) => {
            put(out, kind::PUBLISHED, &convert::mark_to(&published.mark), none)
        }
        Message::Heartbeat(beat) => {
            let control = proto::Heartbeat { seq: beat.seq, lag_ms: beat.lag_ms };
            put(out, kind::HEARTBEAT, &control, none)
        }
        Message::Health(health) => {
            put(out, kind::HEALTH, &proto::Health { json: health.json.clone() }, none)
        }
        Message::OriginLost(lost) => {
            let (intake, with_all) = (lost.intake.to_string(), lost.with_all);
            let control = proto::OriginLost { intake, with_all };
            put(out, kind::ORIGIN_LOST, &control, none)
        }
        Message::ChangeOrigin(change) => {
            let (epoch, intake) = (convert::epoch_to(change.epoch), change.intake.to_string());
            let beside = change.beside.and_then(convert::epoch_to);
            let followed = change.followed;
            let change = proto::ChangeOrigin { epoch, intake, beside, followed };
            put(out, kind::CHANGE_ORIGIN, &change, none)
        }
        Message::End(end) => put(out, kind::END, &proto::End { continues: end.continues }, none),
        Message::PartAck(ack) => put(out, kind::PART_ACK, &ack_to(ack), none),
        Message::Begin(begin) => put(out, kind::BEGIN, &proto::Begin { msn: begin.msn.0 }, none),
        Message::Publish => put(out, kind::PUBLISH, &(), none),
        Message::Beside(beside) => {
            put(out, kind::BESIDE, &proto::Beside { lives: beside.lives }, none)
        }
        Message::Restarting(restarting) => {
            let control = proto::Restarting { grace_ms: restarting.grace_ms };
            put(out, kind::RESTARTING, &control, none)
        }
    }
}

/// Appends the header and control part of a unit to `out` whose bytes, so many, lie elsewhere, and must follow it.
pub fn encode_unit_head(unit: &AccessUnit, bytes: usize, out: &mut BytesMut) {
    put_head(out, kind::ACCESS_UNIT, &convert::unit_to(unit), bytes);
}

fn encode_item(item: &Item, out: &mut BytesMut) -> Bytes {
    match item {
        Item::Unit(unit) => {
            encode_unit_head(unit, unit.bytes.len(), out);
            unit.bytes.clone()
        }
        Item::Config(config) => {
            let (control, payload) = convert::config_to(config);
            put(out, kind::CONFIG, &control, payload)
        }
        Item::Tick(tick) => {
            let control = proto::Tick { seq: tick.seq, to: tick.to.0 };
            put(out, kind::TICK, &control, Bytes::new())
        }
    }
}

/// Appends header and control part, and hands the payload back.
fn put(out: &mut BytesMut, kind: u8, control: &impl prost::Message, payload: Bytes) -> Bytes {
    put_head(out, kind, control, payload.len());
    payload
}

fn put_head(out: &mut BytesMut, kind: u8, control: &impl prost::Message, payload_bytes: usize) {
    frame::put_header(out, kind, control.encoded_len(), payload_bytes);
    control.encode(out).expect("invariant: the buffer grows");
}

fn because(reason: &str, text: &str) -> proto::Because {
    proto::Because { reason: reason.to_owned(), text: text.to_owned() }
}

fn admitted_to(admitted: &Admitted) -> proto::Admitted {
    let resume = admitted.resume.iter().map(convert::mark_to).collect();
    let Admitted { worker_pid, next_seq, standby, beside, .. } = *admitted;
    let version = convert::version_to(admitted.version);
    proto::Admitted { resume, worker_pid, next_seq, standby, beside, version }
}

fn hello_to(hello: &Hello) -> proto::Hello {
    proto::Hello {
        stream: hello.stream.to_string(),
        epoch: convert::epoch_to(hello.epoch),
        ladder: convert::ladder_to(&hello.ladder),
        part_target_ms: hello.part_target_ms,
        hold_back_ms: hello.hold_back_ms,
        source_pixels_per_second: hello.source_pixels_per_second,
        origin_intake: hello.origin_intake.map(|at| at.to_string()).unwrap_or_default(),
        replay_from: hello.replay_from,
        standby: hello.standby,
        announced_video_kbps: hello.announced.video_kbps,
        announced_audio_kbps: hello.announced.audio_kbps,
        beside: hello.beside.and_then(convert::epoch_to),
        speaks: convert::versions_to(hello.speaks),
        given_up: hello.given_up.iter().map(convert::mark_to).collect(),
        whole_from: hello.whole_from,
    }
}

fn start_to(start: &Start) -> proto::Start {
    proto::Start {
        stream: start.stream.to_string(),
        epoch: convert::epoch_to(start.epoch),
        ladder: convert::ladder_to(&start.ladder),
        resume: start.resume.iter().map(convert::mark_to).collect(),
        hello: start.hello.as_ref().map(hello_to),
        version: convert::version_to(start.version),
    }
}

fn ready_to(ready: &Ready) -> proto::Ready {
    let measure = |(name, state): &(String, String)| proto::Measure {
        name: name.clone(),
        state: state.clone(),
    };
    proto::Ready {
        version: ready.version.clone(),
        sandbox: ready.sandbox.iter().map(measure).collect(),
        // The version before knows the newest only, and looks whether it is a neighbour of its own.
        protocol: ready.speaks.newest,
        oldest_protocol: if ready.speaks.is_unsaid() { 0 } else { ready.speaks.oldest },
        work: ready.work.as_ref().map(work_to),
    }
}

fn work_to(work: &Work) -> proto::Work {
    proto::Work {
        hello: Some(hello_to(&work.hello)),
        next_seq: work.next_seq,
        acked: work.acked.iter().map(ack_to).collect(),
        ended: work.ended.map(|end| proto::End { continues: end.continues }),
    }
}

fn ack_to(ack: &PartAck) -> proto::PartAck {
    proto::PartAck { rung: ack.rung.to_string(), msn: ack.msn.0, part: ack.part.0 }
}

/// Bytes in, messages out.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Where bytes from the peer go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`]; the decoder is of no further use.
    pub fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        while let Some(frame) = frame::take_frame(&mut self.buffer)? {
            if let Some(message) = message_of(frame)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

/// Whether frames of that kind carry an [`Item`].
pub const fn is_item(kind: u8) -> bool {
    matches!(kind, kind::CONFIG | kind::ACCESS_UNIT | kind::TICK)
}

pub fn message_of(frame: Frame) -> Result<Option<Message>, ConvertError> {
    fn read<T: prost::Message + Default>(frame: &Frame) -> Result<T, ConvertError> {
        T::decode(frame.control.clone())
            .map_err(|why| ConvertError::Protobuf { kind: frame.kind, why })
    }
    Ok(Some(match frame.kind {
        kind::ACCESS_UNIT => {
            Message::Item(Item::Unit(convert::unit_from(read(&frame)?, frame.payload)?))
        }
        kind::CONFIG => {
            Message::Item(Item::Config(convert::config_from(read(&frame)?, frame.payload)?))
        }
        kind::TICK => {
            let tick: proto::Tick = read(&frame)?;
            Message::Item(Item::Tick(Tick { seq: tick.seq, to: MediaTime(tick.to) }))
        }
        kind::PART => {
            let record = convert::part_from(read(&frame)?, frame.payload.len())?;
            Message::Part(Part { record, bytes: kept(&frame.payload) })
        }
        kind::INIT => {
            let record = convert::init_from(read(&frame)?)?;
            Message::Init(Init { record, bytes: kept(&frame.payload) })
        }
        kind::HELLO => Message::Hello(hello_from(read(&frame)?)?),
        kind::START => Message::Start(start_from(read(&frame)?)?),
        kind::READY => Message::Ready(ready_from(read(&frame)?)?),
        kind::ADMITTED => Message::Admitted(admitted_from(read(&frame)?)?),
        kind::REFUSED => Message::Refused(convert::refused_from(read(&frame)?)),
        kind::ENDED => Message::Ended(convert::ended_from(read(&frame)?)),
        kind::PUBLISHED => {
            Message::Published(Published { mark: convert::mark_from(read(&frame)?)? })
        }
        kind::HEARTBEAT => {
            let beat: proto::Heartbeat = read(&frame)?;
            Message::Heartbeat(Heartbeat { seq: beat.seq, lag_ms: beat.lag_ms })
        }
        kind::HEALTH => Message::Health(Health { json: read::<proto::Health>(&frame)?.json }),
        kind::BEGIN => Message::Begin(Begin { msn: Msn(read::<proto::Begin>(&frame)?.msn) }),
        kind::PUBLISH => Message::Publish,
        kind::BESIDE => Message::Beside(Beside { lives: read::<proto::Beside>(&frame)?.lives }),
        kind::ORIGIN_LOST => {
            let lost: proto::OriginLost = read(&frame)?;
            let intake = convert::address_from(&lost.intake)?;
            Message::OriginLost(OriginLost { intake, with_all: lost.with_all })
        }
        kind::CHANGE_ORIGIN => {
            let change: proto::ChangeOrigin = read(&frame)?;
            let epoch = convert::epoch_from(change.epoch)?;
            let intake = convert::address_from(&change.intake)?;
            let beside = change.beside.map(|it| convert::epoch_from(Some(it))).transpose()?;
            let followed = change.followed;
            Message::ChangeOrigin(ChangeOrigin { epoch, intake, beside, followed })
        }
        kind::END => Message::End(End { continues: read::<proto::End>(&frame)?.continues }),
        kind::PART_ACK => Message::PartAck(ack_from(read(&frame)?)?),
        kind::RESTARTING => Message::Restarting(Restarting {
            grace_ms: read::<proto::Restarting>(&frame)?.grace_ms,
        }),
        _ => return Ok(None),
    }))
}

/// Bytes that stay for a window's time: a part of a few KB is not to hold on to the buffer of 64 KB that it was read into.
fn kept(payload: &[u8]) -> Bytes {
    Bytes::copy_from_slice(payload)
}

fn hello_from(hello: proto::Hello) -> Result<Hello, ConvertError> {
    Ok(Hello {
        stream: hello.stream.parse()?,
        epoch: convert::epoch_from(hello.epoch)?,
        ladder: convert::ladder_from(hello.ladder)?,
        part_target_ms: hello.part_target_ms,
        hold_back_ms: hello.hold_back_ms,
        source_pixels_per_second: hello.source_pixels_per_second,
        origin_intake: hello.origin_intake.parse().ok(),
        replay_from: hello.replay_from,
        standby: hello.standby,
        announced: Announced {
            video_kbps: hello.announced_video_kbps,
            audio_kbps: hello.announced_audio_kbps,
        },
        beside: hello.beside.map(|beside| convert::epoch_from(Some(beside))).transpose()?,
        speaks: convert::versions_from(hello.speaks),
        given_up: hello.given_up.into_iter().map(convert::mark_from).collect::<Result<_, _>>()?,
        whole_from: hello.whole_from,
    })
}

fn start_from(start: proto::Start) -> Result<Start, ConvertError> {
    Ok(Start {
        stream: start.stream.parse()?,
        epoch: convert::epoch_from(start.epoch)?,
        ladder: convert::ladder_from(start.ladder)?,
        resume: start.resume.into_iter().map(convert::mark_from).collect::<Result<_, _>>()?,
        hello: start.hello.map(hello_from).transpose()?,
        version: convert::version_from(start.version),
    })
}

fn ready_from(ready: proto::Ready) -> Result<Ready, ConvertError> {
    let pair = |measure: proto::Measure| (measure.name, measure.state);
    let speaks = match ready.oldest_protocol {
        // Versions 0 and 1 said one number.
        0 => Versions { oldest: ready.protocol, newest: ready.protocol },
        oldest => Versions { oldest, newest: ready.protocol },
    };
    Ok(Ready {
        version: ready.version,
        speaks,
        work: ready.work.map(work_from).transpose()?,
        sandbox: ready.sandbox.into_iter().map(pair).collect(),
    })
}

fn work_from(work: proto::Work) -> Result<Work, ConvertError> {
    Ok(Work {
        hello: hello_from(work.hello.ok_or(ConvertError::Field("hello"))?)?,
        next_seq: work.next_seq,
        acked: work.acked.into_iter().map(ack_from).collect::<Result<_, _>>()?,
        ended: work.ended.map(|end| End { continues: end.continues }),
    })
}

fn ack_from(ack: proto::PartAck) -> Result<PartAck, ConvertError> {
    Ok(PartAck { rung: ack.rung.parse()?, msn: Msn(ack.msn), part: PartNo(ack.part) })
}

fn admitted_from(admitted: proto::Admitted) -> Result<Admitted, ConvertError> {
    let resume = admitted.resume.into_iter().map(convert::mark_from).collect::<Result<_, _>>()?;
    let version = convert::version_from(admitted.version);
    let proto::Admitted { worker_pid, next_seq, standby, beside, .. } = admitted;
    Ok(Admitted { resume, worker_pid, next_seq, standby, beside, version })
}
