//! Every message survives the wire, in pieces of any size; garbage is an error, never a panic.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests say what they expect by failing"
)]
use bytes::{Bytes, BytesMut};
use millrace_hls::{Hash, InitRecord, PartRecord, RenditionKind};
use millrace_media::{
    AccessUnit, AudioConfig, Boundary, Config, Cut, Item, SegmentStamp, Stamp, Tick, Track,
    TrackConfig, VideoConfig,
};
use millrace_types::{
    EndReason, Epoch, FrameRate, Ladder, Mark, MediaTime, Msn, PartNo, RefusalReason, Rung,
    RungKind, VideoRung,
};
use millrace_wire::{
    Admitted, Announced, Begin, Beside, ChangeOrigin, Decoder, End, Ended, Health, Heartbeat,
    Hello, Init, Message, MessageReader, MessageWriter, OriginLost, Part, PartAck, Published,
    Ready, Refused, Restarting, Start, Work, blocking, encode,
};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch { generation: 3, placement: 1 };
const RATE: FrameRate = FrameRate { num: 30_000, den: 1001 };

fn mark() -> Mark {
    let rung = "720p".parse().unwrap();
    Mark { rung, msn: Msn(1_795_222_923), part: PartNo(4), end: MediaTime(-7), closed: true }
}

fn ladder() -> Ladder {
    let video =
        VideoRung { width: 1280, height: 720, frame_rate: RATE, halved: true, bitrate_kbps: 2800 };
    let rung = |id: &str, kind| Rung { id: id.parse().unwrap(), kind };
    Ladder {
        rungs: vec![
            rung("source", RungKind::Source),
            rung("720p", RungKind::Video(video)),
            rung("audio", RungKind::Audio),
        ],
    }
}

fn unit(ends: Option<Boundary>) -> AccessUnit {
    let segment =
        SegmentStamp { msn: Msn(9), discontinuity: 2, start: MediaTime(161_570_063_070_000) };
    AccessUnit {
        seq: u64::MAX,
        track: Track::Video,
        dts: 161_570_063_070_000,
        pts: 161_570_063_076_006,
        duration: 3003,
        idr: true,
        stamp: Stamp { segment, part: PartNo(0), starts: Cut::Segment, ends },
        bytes: Bytes::from_static(b"\0\0\0\x02\x65\x88"),
    }
}

fn part() -> Part {
    let bytes = Bytes::from_static(b"moof mdat");
    let record = PartRecord {
        rung: "audio".parse().unwrap(),
        msn: Msn(8),
        part: PartNo(3),
        epoch: EPOCH,
        segment_start: MediaTime(5),
        discontinuity: 1,
        start: MediaTime(6),
        end: MediaTime(30_066),
        independent: true,
        last: true,
        short: false,
        init: Hash::of(b"init"),
        hash: Hash::of(&bytes),
        length: 9,
    };
    Part { record, bytes }
}

fn every_message() -> Vec<Message> {
    let video = VideoConfig {
        avcc: Bytes::from_static(b"\x01d"),
        width: 1920,
        height: 1080,
        frame_rate: RATE,
        codecs: "avc1.640028".into(),
    };
    let audio = AudioConfig {
        asc: Bytes::from_static(&[0x12, 0x10]),
        sample_rate: 44_100,
        channels: 2,
        codecs: "mp4a.40.2".into(),
    };
    let init = |kind| Init {
        record: InitRecord {
            rung: "720p".parse().unwrap(),
            hash: Hash::of(b"init"),
            codecs: "avc1.64001f".into(),
            bandwidth_bps: 3_000_000,
            announced_bps: Some(2_500_000),
            kind,
        },
        bytes: Bytes::from_static(b"init"),
    };
    let picture = RenditionKind::Video { width: 2, height: 4, frame_rate: RATE, transcoded: true };
    let hello = Hello {
        stream: "demo".parse().unwrap(),
        epoch: EPOCH,
        ladder: ladder(),
        part_target_ms: 334,
        hold_back_ms: 1500,
        source_pixels_per_second: 62_208_000,
        origin_intake: Some(([192, 0, 2, 1], 7002).into()),
        replay_from: Some(0),
        standby: false,
        announced: Announced { video_kbps: Some(2_500), audio_kbps: None },
        beside: None,
    };
    let ack = PartAck { rung: "audio".parse().unwrap(), msn: Msn(8), part: PartNo(3) };
    let end = End { continues: true };
    let work =
        Work { hello: hello.clone(), next_seq: 77, acked: vec![ack.clone()], ended: Some(end) };
    let change = ChangeOrigin { epoch: EPOCH, intake: "[::1]:7002".parse().unwrap(), beside: None };
    let sandbox = vec![("seccomp".into(), "applied".into())];
    vec![
        Message::Hello(hello.clone()),
        Message::Hello(Hello { standby: true, beside: Some(EPOCH), ..hello.clone() }),
        Message::Admitted(Admitted {
            resume: vec![mark()],
            worker_pid: 42,
            next_seq: Some(77),
            standby: true,
            beside: true,
        }),
        Message::Refused(Refused { reason: RefusalReason::NoCapacity, text: "full".into() }),
        Message::Item(Item::Config(Config { seq: 0, track: TrackConfig::Video(video) })),
        Message::Item(Item::Config(Config { seq: 1, track: TrackConfig::Audio(audio) })),
        Message::Item(Item::Unit(unit(None))),
        Message::Item(Item::Unit(unit(Some(Boundary { at: MediaTime(7), segment: false })))),
        Message::Item(Item::Unit(unit(Some(Boundary { at: MediaTime(8), segment: true })))),
        Message::Item(Item::Tick(Tick { seq: 3, to: MediaTime(9) })),
        Message::Published(Published { mark: mark() }),
        Message::Ended(Ended { reason: EndReason::Hung, text: "no beat".into() }),
        Message::Heartbeat(Heartbeat { seq: 5, lag_ms: 17 }),
        Message::Health(Health { json: "{}".into() }),
        Message::OriginLost(OriginLost { intake: "127.0.0.1:7002".parse().unwrap() }),
        Message::ChangeOrigin(change),
        Message::ChangeOrigin(ChangeOrigin { beside: Some(EPOCH.next_placement()), ..change }),
        Message::End(end),
        Message::Begin(Begin { msn: Msn(9) }),
        Message::Beside(Beside { lives: true }),
        Message::Publish,
        Message::Restarting(Restarting { grace_ms: 2_000 }),
        Message::Ready(Ready {
            version: "0.1.0".into(),
            protocol: 1,
            work: Some(work),
            sandbox: sandbox.clone(),
        }),
        Message::Ready(Ready { version: "0.1.0".into(), protocol: 0, work: None, sandbox }),
        Message::Start(Start {
            stream: "demo".parse().unwrap(),
            epoch: EPOCH,
            ladder: ladder(),
            resume: vec![mark()],
            hello: Some(hello),
        }),
        Message::Init(init(picture)),
        Message::Init(init(RenditionKind::Audio { channels: 2 })),
        Message::Part(part()),
        Message::PartAck(ack),
    ]
}

fn bytes_of(messages: &[Message]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        let payload = encode(message, &mut bytes);
        bytes.extend_from_slice(&payload);
    }
    bytes
}

#[test]
fn every_message_survives_the_wire_byte_by_byte() {
    let mut decoder = Decoder::default();
    let mut heard = Vec::new();
    for byte in bytes_of(&every_message()) {
        decoder.buffer().extend_from_slice(&[byte]);
        heard.extend(decoder.next_message().unwrap());
    }
    assert_eq!(heard, every_message());
}

#[test]
fn a_kind_of_a_newer_version_is_skipped() {
    let mut bytes = BytesMut::from(&[1, 200, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9][..]);
    bytes.extend_from_slice(&bytes_of(&every_message()[..1]));
    let mut decoder = Decoder::default();
    decoder.buffer().extend_from_slice(&bytes);
    assert_eq!(decoder.next_message().unwrap().as_ref(), every_message().first());
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_is_buffered() {
    let mut decoder = Decoder::default();
    decoder.buffer().extend_from_slice(&[1, 5, 0, 0, 0, 0, 0, 1, 0xFF, 0, 0, 0]);
    let error = decoder.next_message().unwrap_err();
    assert!(error.to_string().contains("4278190080 bytes"), "{error}");
}

#[test]
fn the_blocking_and_the_async_halves_speak_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written = runtime.block_on(async {
        let mut writer = MessageWriter::new(std::io::Cursor::new(Vec::new()));
        every_message().iter().for_each(|message| writer.push(message));
        writer.flush().await.unwrap();
        assert_eq!(writer.pending_bytes(), 0);
        bytes_of(&every_message())
    });
    let (mut from, mut decoder) = (&written[..], Decoder::default());
    let mut heard = Vec::new();
    while let Some(message) = blocking::read_message(&mut from, &mut decoder).unwrap() {
        heard.push(message);
    }
    assert_eq!(heard, every_message());
    let mut again = Vec::new();
    heard.iter().for_each(|message| blocking::write_message(&mut again, message).unwrap());
    assert_eq!(again, written);
    runtime.block_on(async {
        let mut reader = MessageReader::new(&written[..]);
        for message in every_message() {
            assert_eq!(reader.next().await.unwrap(), Some(message));
        }
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

proptest! {
    #[test]
    fn garbage_is_an_error_or_silence_never_a_panic(
        index in 0..20_usize, at in 0..200_usize, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = bytes_of(&every_message()[index..=index]);
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.extend_from_slice(&tail);
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&bytes);
        while let Ok(Some(_)) = decoder.next_message() {}
    }
}
