//! A publisher made of numbers: writes FLV tag bodies whose timestamps are jittered as asked. Encodes nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_media::{
    AccessUnit, AudioConfig, Input, Item, SourceLimits, Timeline, TimelineStart, Track,
    TrackConfig, VideoConfig,
};
use millrace_types::{FrameRate, Mono, Wall};

pub const START: Wall = Wall(1_795_222_923_456_000);

/// `AVCDecoderConfigurationRecord` of x264: 322x180, 30 fps, High.
pub const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x51,
    0x9e, 0x22, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a,
    0x65, 0x80, 0x01, 0x00, 0x04, 0x68, 0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
];
/// Likewise: 1920x1080, 59.94 fps, Constrained Baseline.
pub const OTHER_AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x2a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x2a, 0xda, 0x01, 0xe0, 0x08,
    0x9f, 0x97, 0x01, 0x10, 0x00, 0x00, 0x3e, 0x90, 0x00, 0x1d, 0x4c, 0x00, 0xf1, 0x83, 0x2a, 0x01,
    0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];
pub const ASC_48K_STEREO: &[u8] = &[0x11, 0x90];
pub const ASC_44K_MONO: &[u8] = &[0x12, 0x08];

pub fn video_header(record: &[u8]) -> Bytes {
    [&[0x17, 0, 0, 0, 0], record].concat().into()
}

pub fn audio_header(asc: &[u8]) -> Bytes {
    [&[0xaf, 0], asc].concat().into()
}

pub fn audio_body() -> Bytes {
    Bytes::from_static(&[0xaf, 1, 0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c, 0xff])
}

/// One access unit; its payload carries `number`.
pub fn video_body(idr: bool, composition_ms: i32, number: u32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(&[if idr { 0x17 } else { 0x27 }, 1]);
    body.put_slice(&composition_ms.to_be_bytes()[1..]);
    body.put_u32(5);
    body.put_u8(if idr { 0x65 } else { 0x41 });
    body.put_u32(number);
    body.freeze()
}

/// The number that [`video_body`] put into a unit.
pub fn number_of(unit: &AccessUnit) -> u32 {
    u32::from_be_bytes(unit.bytes[5..9].try_into().unwrap())
}

/// What an encoder sends.
#[derive(Clone, Debug)]
pub struct Source {
    pub rate: FrameRate,
    pub gop_frames: u32,
    pub b_frames: u32,
    pub frames: u32,
    pub first_ms: u32,
    pub jitter_ms: i64,
    pub sound: bool,
}

impl Source {
    pub fn new(num: u32, den: u32, gop_seconds: f64, seconds: f64) -> Self {
        let rate = FrameRate { num, den };
        let gop_frames = (rate.fps() * gop_seconds).round() as u32;
        let frames = (rate.fps() * seconds).round() as u32;
        Self { rate, gop_frames, b_frames: 0, frames, first_ms: 0, jitter_ms: 0, sound: true }
    }

    fn ms(&self, frame: f64) -> f64 {
        frame * 1_000.0 / self.rate.fps()
    }

    fn jitter(&self, n: u32) -> i64 {
        let noise = i64::from(n.wrapping_mul(2_654_435_761) >> 16);
        if self.jitter_ms == 0 { 0 } else { noise % (2 * self.jitter_ms + 1) - self.jitter_ms }
    }

    /// Frames from decoding to presentation of the `n`-th frame in decoding order, with `b_frames` between references.
    fn reorder(&self, n: u32) -> u32 {
        let (in_gop, group) = (n % self.gop_frames, self.b_frames + 1);
        let first_of_group = (in_gop.max(1) - 1) / group * group + 1;
        match self.b_frames {
            0 => 0,
            _ if in_gop == 0 || first_of_group + group > self.gop_frames => 1,
            _ if in_gop == first_of_group => group,
            _ => 0,
        }
    }

    /// Its messages in the order of their timestamps, headers first, each with its moment in milliseconds.
    pub fn messages(&self) -> Vec<(u32, Input)> {
        let mut messages = Vec::new();
        for n in 0..self.frames {
            let dts = (self.ms(f64::from(n)).round() as i64 + self.jitter(n)).max(0);
            let composition = self.ms(f64::from(self.reorder(n))).round() as i32;
            messages.push((dts, 1, video_body(n % self.gop_frames == 0, composition, n)));
        }
        let seconds = f64::from(self.frames) / self.rate.fps();
        let frames_of_sound = if self.sound { (seconds * 48_000.0 / 1_024.0) as i64 } else { 0 };
        messages.extend((0..frames_of_sound).map(|n| (n * 1_024 / 48, 2, audio_body())));
        messages.sort_by_key(|(at, kind, _)| (*at, *kind));
        let mut inputs = vec![self.video(0, video_header(AVCC))];
        if self.sound {
            inputs.push(self.audio(0, audio_header(ASC_48K_STEREO)));
        }
        inputs.extend(messages.into_iter().map(|(at, kind, body)| match kind {
            1 => self.video(at, body),
            _ => self.audio(at, body),
        }));
        inputs
    }

    pub fn video(&self, at: i64, body: Bytes) -> (u32, Input) {
        let timestamp_ms = self.first_ms.wrapping_add(at as u32);
        (at as u32, Input::Video { timestamp_ms, body })
    }

    pub fn audio(&self, at: i64, body: Bytes) -> (u32, Input) {
        let timestamp_ms = self.first_ms.wrapping_add(at as u32);
        (at as u32, Input::Audio { timestamp_ms, body })
    }

    pub fn hints(&self) -> Input {
        Input::Metadata(millrace_media::SourceHints {
            frame_rate: Some((self.rate.fps() * 1_000.0).round() / 1_000.0),
            has_audio: Some(self.sound),
            has_video: Some(true),
        })
    }
}

pub fn timeline() -> Timeline {
    Timeline::new(TimelineStart {
        utc: START,
        resume: None,
        low_latency: false,
        limits: SourceLimits::default(),
    })
}

/// Feeds messages at the moments they carry, deadlines in between, and returns what came out.
pub fn feed(
    timeline: &mut Timeline,
    messages: impl IntoIterator<Item = (u32, Input)>,
) -> Vec<Item> {
    let mut items = Vec::new();
    for (at_ms, input) in messages {
        let now = Mono(Duration::from_millis(at_ms.into()));
        while let Some(deadline) = timeline.deadline().filter(|deadline| *deadline < now) {
            timeline.handle(deadline, Input::Elapsed).unwrap();
        }
        timeline.handle(now, input).unwrap();
        items.extend(std::iter::from_fn(|| timeline.poll()));
    }
    items
}

/// A whole publication with its metadata, to its end.
pub fn publish(source: &Source) -> (Timeline, Vec<Item>) {
    let mut timeline = timeline();
    let mut messages = vec![(0, source.hints())];
    messages.extend(source.messages());
    let end = messages.last().map_or(0, |(at, _)| *at);
    messages.push((end, Input::PublisherLeft));
    let items = feed(&mut timeline, messages);
    (timeline, items)
}

pub fn units(items: &[Item], track: Track) -> Vec<AccessUnit> {
    let unit = |item: &Item| match item {
        Item::Unit(unit) if unit.track == track => Some(unit.clone()),
        _ => None,
    };
    items.iter().filter_map(unit).collect()
}

pub fn video_configs(items: &[Item]) -> Vec<VideoConfig> {
    let config = |item: &Item| match item {
        Item::Config(config) => match &config.track {
            TrackConfig::Video(video) => Some(video.clone()),
            TrackConfig::Audio(_) => None,
        },
        _ => None,
    };
    items.iter().filter_map(config).collect()
}

pub fn audio_configs(items: &[Item]) -> Vec<AudioConfig> {
    let config = |item: &Item| match item {
        Item::Config(config) => match &config.track {
            TrackConfig::Audio(audio) => Some(audio.clone()),
            TrackConfig::Video(_) => None,
        },
        _ => None,
    };
    items.iter().filter_map(config).collect()
}
