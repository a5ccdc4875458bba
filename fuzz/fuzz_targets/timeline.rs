//! A stream's whole clock fed with messages of any kind, order and timestamp, over any number of connections: what
//! comes out keeps its sequence, its segments and its time.
#![no_main]

use std::{collections::BTreeMap, time::Duration};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millrace_media::{
    Input, Item, Resume, SourceHints, SourceLimits, Timeline, TimelineStart, Track,
};
use millrace_types::{MediaTime, Mono, Msn, RefusalReason, Wall};

const START: Wall = Wall(1_795_222_923_456_000);
/// More than one input may bring about: the release of a second of pictures, and sound for every pause that is filled.
const MOST_ITEMS: usize = 20_000;
/// Headers of x264: 322x180 at 30 fps, 1920x1080 at 59.94 fps.
const AVC_HEADERS: [&[u8]; 2] = [
    b"\x01\x64\x00\x0d\xff\xe1\x00\x1a\x67\x64\x00\x0d\xac\xd9\x41\x51\x9e\x22\x7c\x04\x40\x00\x00\x03\
      \x00\x40\x00\x00\x0f\x03\xc5\x0a\x65\x80\x01\x00\x04\x68\xef\x8f\xcb\xfd\xf8\xf8\x00",
    b"\x01\x42\xc0\x2a\xff\xe1\x00\x17\x67\x42\xc0\x2a\xda\x01\xe0\x08\x9f\x97\x01\x10\x00\x00\x3e\x90\
      \x00\x1d\x4c\x00\xf1\x83\x2a\x01\x00\x04\x68\xce\x0f\xc8",
];
/// AAC-LC of 48 kHz stereo, of 44.1 kHz mono, of 24 kHz with SBR.
const AAC_HEADERS: [&[u8]; 3] = [b"\x11\x90", b"\x12\x08", b"\x2b\x11\x88"];

#[derive(Arbitrary, Debug)]
struct Case {
    low_latency: bool,
    resume: Option<Before>,
    steps: Vec<Step>,
}

/// Where a stream stood that goes on: seconds relative to the start.
#[derive(Arbitrary, Debug)]
struct Before {
    ended_s: i8,
    part_target_ms: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    VideoHeader(u8),
    AudioHeader(u8),
    /// After `step_ms` of the publisher's clock.
    Picture {
        step_ms: i8,
        composition_ms: i8,
        idr: bool,
        broken: bool,
    },
    Sound {
        step_ms: i8,
    },
    /// Pictures and sound as an encoder sends them.
    Regular {
        pictures: u8,
        frame_ms: u8,
        gop: u8,
        b_frames: bool,
        sound: bool,
    },
    /// The publisher's clock goes elsewhere.
    Jump {
        ms: i32,
    },
    Video {
        timestamp_ms: u32,
        body: Vec<u8>,
    },
    Audio {
        timestamp_ms: u32,
        body: Vec<u8>,
    },
    Metadata {
        frame_rate: Option<f64>,
        audio: Option<bool>,
        video: Option<bool>,
    },
    Wait {
        ms: u8,
    },
    Left,
    Back {
        after_s: u8,
    },
}

fuzz_target!(|case: Case| {
    let mut run = Run::new(case.low_latency, case.resume);
    for step in case.steps {
        run.step(step);
    }
    run.input(Input::PublisherLeft);
});

struct Run {
    timeline: Timeline,
    now: Mono,
    timestamp_ms: u32,
    seq: u64,
    audio_timescale: u32,
    /// Last decoding time and segment of each track.
    last: BTreeMap<Track, (MediaTime, Msn)>,
}

impl Run {
    fn new(low_latency: bool, before: Option<Before>) -> Self {
        let resume = before.map(|before| Resume {
            next_msn: Msn(START.unix_seconds()),
            discontinuity: 3,
            last_end: MediaTime::from_wall(START) + i64::from(before.ended_s) * 90_000,
            part_target: before.part_target_ms.map(|ms| (i64::from(ms) + 100) * 90),
        });
        let limits = SourceLimits::default();
        let start = TimelineStart { utc: START, resume, low_latency, limits };
        Self {
            timeline: Timeline::new(start),
            now: Mono::default(),
            timestamp_ms: 0,
            seq: 0,
            audio_timescale: 48_000,
            last: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::VideoHeader(which) => self.video_header(which),
            Step::AudioHeader(which) => self.audio_header(which),
            Step::Picture { step_ms, composition_ms, idr, broken } => {
                self.advance(step_ms.into());
                self.picture(composition_ms.into(), idr, broken);
            }
            Step::Sound { step_ms } => {
                self.advance(step_ms.into());
                self.sound();
            }
            Step::Regular { pictures, frame_ms, gop, b_frames, sound } => {
                for n in 0..pictures {
                    self.advance(i32::from(frame_ms % 100));
                    let composition =
                        if b_frames { i32::from(n % 3) * i32::from(frame_ms) } else { 0 };
                    self.picture(composition, n % gop.max(1) == 0, false);
                    if sound {
                        self.sound();
                    }
                }
            }
            Step::Jump { ms } => self.timestamp_ms = self.timestamp_ms.wrapping_add_signed(ms),
            Step::Video { timestamp_ms, body } => {
                self.input(Input::Video { timestamp_ms, body: body.into() });
            }
            Step::Audio { timestamp_ms, body } => {
                self.input(Input::Audio { timestamp_ms, body: body.into() });
            }
            Step::Metadata { frame_rate, audio: has_audio, video: has_video } => {
                self.input(Input::Metadata(SourceHints { frame_rate, has_audio, has_video }));
            }
            Step::Wait { ms } => self.wait(u64::from(ms) * 10),
            Step::Left => self.input(Input::PublisherLeft),
            Step::Back { after_s } => {
                self.timestamp_ms = 0;
                let utc = START + self.now.0 + Duration::from_secs(after_s.into());
                self.input(Input::PublisherBack { utc });
            }
        }
    }

    fn advance(&mut self, step_ms: i32) {
        self.timestamp_ms = self.timestamp_ms.wrapping_add_signed(step_ms);
        self.wait(step_ms.max(0) as u64);
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        if self.timeline.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.input(Input::Elapsed);
        }
    }

    fn video_header(&mut self, which: u8) {
        let record = AVC_HEADERS[usize::from(which) % AVC_HEADERS.len()];
        self.video([b"\x17\0\0\0\0", record].concat());
    }

    fn audio_header(&mut self, which: u8) {
        let asc = AAC_HEADERS[usize::from(which) % AAC_HEADERS.len()];
        self.audio([b"\xaf\0", asc].concat());
    }

    fn picture(&mut self, composition_ms: i32, idr: bool, broken: bool) {
        let length = if broken { 9 } else { 2 };
        let [_, composition @ ..] = composition_ms.to_be_bytes();
        let nal = [if idr { 0x65 } else { 0x41 }, 0];
        let first = if idr { 0x17 } else { 0x27 };
        self.video([&[first, 1][..], &composition, &[0, 0, 0, length], &nal].concat());
    }

    fn sound(&mut self) {
        self.audio(b"\xaf\x01\x21\x10\x04\x60\x8c\x1c\xff".to_vec());
    }

    fn video(&mut self, body: Vec<u8>) {
        self.input(Input::Video { timestamp_ms: self.timestamp_ms, body: Bytes::from(body) });
    }

    fn audio(&mut self, body: Vec<u8>) {
        self.input(Input::Audio { timestamp_ms: self.timestamp_ms, body: Bytes::from(body) });
    }

    /// Feeds one input and checks what comes of it.
    fn input(&mut self, input: Input) {
        if let Err(error) = self.timeline.handle(self.now, input) {
            assert_ne!(error.refusal(), RefusalReason::Internal, "{error}");
        }
        let mut items = 0;
        while let Some(item) = self.timeline.poll() {
            self.check(&item);
            items += 1;
        }
        assert!(items <= MOST_ITEMS, "{items} items at once");
        let _ = self.timeline.stats();
    }

    fn check(&mut self, item: &Item) {
        assert_eq!(item.seq(), self.seq, "the sequence has a hole");
        self.seq += 1;
        match item {
            Item::Config(config) if config.track.track() == Track::Audio => {
                self.audio_timescale = config.track.timescale();
            }
            Item::Config(_) | Item::Tick(_) => {}
            Item::Unit(unit) => {
                let timescale =
                    if unit.track == Track::Video { 90_000 } else { self.audio_timescale };
                let (dts, msn) =
                    (MediaTime::from_timescale(unit.dts, timescale), unit.stamp.segment.msn);
                if let Some((before, number)) = self.last.insert(unit.track, (dts, msn)) {
                    assert!(before < dts, "{:?} went back", unit.track);
                    assert!(number <= msn, "segments went back");
                }
                assert!(unit.pts >= unit.dts && !unit.bytes.is_empty());
            }
        }
    }
}
