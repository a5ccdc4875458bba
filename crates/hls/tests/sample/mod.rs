//! A made-up stream: segments of 2 s, six parts each, whose bytes are their own names.
#![allow(dead_code, reason = "each test file uses its share")]

use bytes::Bytes;
use millrace_hls::{
    Accepted, Hash, InitRecord, PartRecord, Refusal, RenditionKind, StreamOpen, Window,
};
use millrace_types::{Epoch, FrameRate, MediaTime, Mono, Msn, PartNo, RungId, Wall};

/// First segment: the UTC second at which the stream starts.
pub const FIRST: u64 = 1_795_222_923;
pub const PART_TICKS: i64 = 30_000;
pub const PARTS: u32 = 6;
pub const FRAME_RATE: FrameRate = FrameRate { num: 30_000, den: 1_001 };

pub fn rung(name: &str) -> RungId {
    name.parse().unwrap()
}

pub fn epoch(generation: u64, placement: u64) -> Epoch {
    Epoch { generation, placement }
}

pub fn announcement() -> StreamOpen {
    let rungs = ["source", "720p", "audio"].map(rung).to_vec();
    StreamOpen {
        epoch: epoch(1, 0),
        beside: None,
        rungs,
        part_target_ms: 334,
        hold_back_ms: 1500,
        speaks: Default::default(),
        restores: Vec::new(),
        followed: false,
    }
}

pub fn init_bytes(name: &str) -> Bytes {
    format!("init of {name}").into()
}

pub fn init(name: &str) -> InitRecord {
    let video = |width, height, transcoded| RenditionKind::Video {
        width,
        height,
        frame_rate: FRAME_RATE,
        transcoded,
    };
    let (codecs, bandwidth_bps, kind) = match name {
        "source" => ("avc1.640028", 6_000_000, video(1920, 1080, false)),
        "audio" => ("mp4a.40.2", 140_000, RenditionKind::Audio { channels: 2 }),
        _ => ("avc1.64001f", 3_100_000, video(1280, 720, true)),
    };
    let hash = Hash::of(&init_bytes(name));
    InitRecord {
        rung: rung(name),
        hash,
        codecs: codecs.to_owned(),
        bandwidth_bps,
        announced_bps: None,
        kind,
    }
}

pub fn part_bytes(name: &str, msn: u64, part: u32) -> Bytes {
    format!("{name} {msn}.{part}").into()
}

/// Part `part` of the `index`-th segment.
pub fn part(name: &str, index: u64, part: u32) -> PartRecord {
    let msn = FIRST + index;
    let segment_start = MediaTime::from_wall(Wall(FIRST * 1_000_000))
        + index as i64 * i64::from(PARTS) * PART_TICKS;
    let start = segment_start + i64::from(part) * PART_TICKS;
    let bytes = part_bytes(name, msn, part);
    PartRecord {
        rung: rung(name),
        msn: Msn(msn),
        part: PartNo(part),
        epoch: epoch(1, 0),
        segment_start,
        discontinuity: 0,
        start,
        end: start + PART_TICKS,
        independent: part == 0 || name == "audio",
        last: part + 1 == PARTS,
        short: false,
        init: Hash::of(&init_bytes(name)),
        hash: Hash::of(&bytes),
        length: bytes.len() as u32,
    }
}

/// Adds a record as its maker would push it.
pub fn push(window: &mut Window, record: PartRecord) -> Result<Accepted, Refusal> {
    let bytes = part_bytes(record.rung.as_str(), record.msn.0, record.part.0);
    window.add_part(Mono::default(), record.epoch, record, bytes)
}

/// A window with every init section.
pub fn opened() -> Window {
    let mut window = Window::open(announcement());
    for name in ["source", "720p", "audio"] {
        window.add_init(epoch(1, 0), init(name), init_bytes(name)).unwrap();
    }
    window
}

/// Fills every rung up to, not including, part `parts` of the `segments`-th segment.
pub fn filled(segments: u64, parts: u32) -> Window {
    let mut window = opened();
    for name in ["source", "720p", "audio"] {
        fill(&mut window, name, segments, parts);
    }
    window
}

/// Fills one rung.
pub fn fill(window: &mut Window, name: &str, segments: u64, parts: u32) {
    for index in 0..=segments {
        for number in 0..if index < segments { PARTS } else { parts } {
            push(window, part(name, index, number)).unwrap();
        }
    }
}
