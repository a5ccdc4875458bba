//! One value of every message, with every field set to something of its own.

use bytes::Bytes;
use millrace_hls::{Hash, InitRecord, PartRecord, RenditionKind};
use millrace_media::{
    AccessUnit, AudioConfig, Boundary, Config, Cut, Item, SegmentStamp, Stamp, Tick, Track,
    TrackConfig, VideoConfig,
};
use millrace_types::{
    Announced, EndReason, Epoch, FrameRate, Ladder, Mark, MediaTime, Msn, PartNo, RefusalReason,
    Rung, RungKind, Versions, VideoRung,
};
use millrace_wire::{
    Admitted, Begin, Beside, ChangeOrigin, End, Ended, Health, Heartbeat, Hello, Init, Message,
    OriginLost, Part, PartAck, Published, Ready, Refused, Restarting, Start, Work,
};

pub const EPOCH: Epoch = Epoch { generation: 3, placement: 1 };
const RATE: FrameRate = FrameRate { num: 30_000, den: 1001 };

/// What a build of that version says that it speaks.
pub fn speaks(version: u32) -> Versions {
    Versions { oldest: version.max(2) - 1, newest: version }
}

pub fn mark() -> Mark {
    let rung = "720p".parse().unwrap();
    Mark { rung, msn: Msn(1_795_222_923), part: PartNo(4), end: MediaTime(-7), closed: true }
}

pub fn ladder() -> Ladder {
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

#[expect(clippy::too_many_lines, reason = "a list")]
/// Every message, by a name that stays, as builds of that version of the protocol say it.
pub fn every_message(version: u32) -> Vec<(&'static str, Message)> {
    let speaks = speaks(version);
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
        speaks,
        given_up: Vec::new(),
        whole_from: 0,
    };
    let ack = PartAck { rung: "audio".parse().unwrap(), msn: Msn(8), part: PartNo(3) };
    let end = End { continues: true };
    let work =
        Work { hello: hello.clone(), next_seq: 77, acked: vec![ack.clone()], ended: Some(end) };
    let sandbox = vec![("seccomp".into(), "applied".into())];
    let all = vec![
        ("hello", Message::Hello(hello.clone())),
        (
            "hello_beside",
            Message::Hello(Hello { standby: true, beside: Some(EPOCH), ..hello.clone() }),
        ),
        (
            "admitted",
            Message::Admitted(Admitted {
                resume: vec![mark()],
                worker_pid: 42,
                next_seq: Some(77),
                standby: true,
                beside: true,
                version,
            }),
        ),
        (
            "refused",
            Message::Refused(Refused { reason: RefusalReason::NoCapacity, text: "full".into() }),
        ),
        (
            "config_video",
            Message::Item(Item::Config(Config { seq: 0, track: TrackConfig::Video(video) })),
        ),
        (
            "config_audio",
            Message::Item(Item::Config(Config { seq: 1, track: TrackConfig::Audio(audio) })),
        ),
        ("unit", Message::Item(Item::Unit(unit(None)))),
        (
            "unit_ends_part",
            Message::Item(Item::Unit(unit(Some(Boundary { at: MediaTime(7), segment: false })))),
        ),
        (
            "unit_ends_segment",
            Message::Item(Item::Unit(unit(Some(Boundary { at: MediaTime(8), segment: true })))),
        ),
        ("tick", Message::Item(Item::Tick(Tick { seq: 3, to: MediaTime(9) }))),
        ("published", Message::Published(Published { mark: mark() })),
        ("ended", Message::Ended(Ended { reason: EndReason::Hung, text: "no beat".into() })),
        ("heartbeat", Message::Heartbeat(Heartbeat { seq: 5, lag_ms: 17 })),
        ("health", Message::Health(Health { json: "{}".into() })),
        (
            "origin_lost",
            Message::OriginLost(OriginLost {
                intake: "127.0.0.1:7002".parse().unwrap(),
                with_all: false,
            }),
        ),
        (
            "change_origin",
            Message::ChangeOrigin(ChangeOrigin {
                epoch: EPOCH,
                intake: "[::1]:7002".parse().unwrap(),
                beside: (version > 1).then(|| EPOCH.next_placement()),
                followed: false,
            }),
        ),
        ("end", Message::End(end)),
        ("begin", Message::Begin(Begin { msn: Msn(9) })),
        ("beside", Message::Beside(Beside { lives: true })),
        ("publish", Message::Publish),
        ("restarting", Message::Restarting(Restarting { grace_ms: 2_000 })),
        (
            "ready_working",
            Message::Ready(Ready {
                version: "0.1.0".into(),
                speaks,
                work: Some(work),
                sandbox: sandbox.clone(),
            }),
        ),
        (
            "ready_spare",
            Message::Ready(Ready { version: "0.1.0".into(), speaks, work: None, sandbox }),
        ),
        (
            "start",
            Message::Start(Start {
                stream: "demo".parse().unwrap(),
                epoch: EPOCH,
                ladder: ladder(),
                resume: vec![mark()],
                hello: Some(hello.clone()),
                version,
            }),
        ),
        ("init_video", Message::Init(init(picture))),
        ("init_audio", Message::Init(init(RenditionKind::Audio { channels: 2 }))),
        ("part", Message::Part(part())),
        ("part_ack", Message::PartAck(ack)),
    ];
    let left = Hello { given_up: vec![mark()], ..hello };
    let since_version_2 = [
        ("hello_left_open", Message::Hello(left.clone())),
        ("hello_given_up", Message::Hello(Hello { whole_from: 3, ..left })),
        (
            "change_origin_followed",
            Message::ChangeOrigin(ChangeOrigin {
                epoch: EPOCH,
                intake: "[::1]:7002".parse().unwrap(),
                beside: None,
                followed: true,
            }),
        ),
        (
            "origin_lost_with_all",
            Message::OriginLost(OriginLost {
                intake: "127.0.0.1:7002".parse().unwrap(),
                with_all: true,
            }),
        ),
    ];
    let since_version_2 = since_version_2.into_iter().filter(|_| version > 1);
    all.into_iter().chain(since_version_2).collect()
}
