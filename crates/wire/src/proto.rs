//! The control parts as protobuf (proto3) messages; `docs/protocol/link.md` lists them. Field numbers are never used again.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Epoch {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(uint64, tag = "2")]
    pub placement: u64,
}

/// From the oldest to the newest that is spoken.
#[derive(Clone, PartialEq, Message)]
pub struct Versions {
    #[prost(uint32, tag = "1")]
    pub oldest: u32,
    #[prost(uint32, tag = "2")]
    pub newest: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mark {
    #[prost(string, tag = "1")]
    pub rung: String,
    #[prost(uint64, tag = "2")]
    pub msn: u64,
    #[prost(uint32, tag = "3")]
    pub part: u32,
    #[prost(sint64, tag = "4")]
    pub end: i64,
    #[prost(bool, tag = "5")]
    pub closed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Rung {
    #[prost(string, tag = "1")]
    pub id: String,
    /// 1 source, 2 video, 3 audio.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(uint32, tag = "3")]
    pub width: u32,
    #[prost(uint32, tag = "4")]
    pub height: u32,
    #[prost(uint32, tag = "5")]
    pub rate_num: u32,
    #[prost(uint32, tag = "6")]
    pub rate_den: u32,
    #[prost(bool, tag = "7")]
    pub halved: bool,
    #[prost(uint32, tag = "8")]
    pub bitrate_kbps: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub stream: String,
    #[prost(message, optional, tag = "2")]
    pub epoch: Option<Epoch>,
    #[prost(message, repeated, tag = "3")]
    pub ladder: Vec<Rung>,
    #[prost(uint32, tag = "4")]
    pub part_target_ms: u32,
    #[prost(uint32, tag = "5")]
    pub hold_back_ms: u32,
    #[prost(uint64, tag = "6")]
    pub source_pixels_per_second: u64,
    #[prost(string, tag = "7")]
    pub origin_intake: String,
    #[prost(uint64, optional, tag = "8")]
    pub replay_from: Option<u64>,
    #[prost(bool, tag = "12")]
    pub standby: bool,
    #[prost(message, optional, tag = "13")]
    pub beside: Option<Epoch>,
    #[prost(uint32, optional, tag = "14")]
    pub announced_video_kbps: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub announced_audio_kbps: Option<u32>,
    #[prost(message, optional, tag = "16")]
    pub speaks: Option<Versions>,
    #[prost(message, repeated, tag = "17")]
    pub given_up: Vec<Mark>,
    #[prost(uint64, tag = "18")]
    pub whole_from: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Start {
    #[prost(string, tag = "1")]
    pub stream: String,
    #[prost(message, optional, tag = "2")]
    pub epoch: Option<Epoch>,
    #[prost(message, repeated, tag = "3")]
    pub ladder: Vec<Rung>,
    #[prost(message, repeated, tag = "4")]
    pub resume: Vec<Mark>,
    #[prost(message, optional, tag = "5")]
    pub hello: Option<Hello>,
    #[prost(uint32, tag = "6")]
    pub version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Admitted {
    #[prost(message, repeated, tag = "1")]
    pub resume: Vec<Mark>,
    #[prost(uint32, tag = "2")]
    pub worker_pid: u32,
    #[prost(uint64, optional, tag = "3")]
    pub next_seq: Option<u64>,
    #[prost(bool, tag = "12")]
    pub standby: bool,
    #[prost(bool, tag = "13")]
    pub beside: bool,
    #[prost(uint32, tag = "14")]
    pub version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Beside {
    #[prost(bool, tag = "1")]
    pub lives: bool,
}

/// A closed reason and a sentence: `Refused` and `Ended`.
#[derive(Clone, PartialEq, Message)]
pub struct Because {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub text: String,
}

/// `Config`: the record's bytes are the payload.
#[derive(Clone, PartialEq, Message)]
pub struct Config {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// 1 video, 2 audio.
    #[prost(uint32, tag = "2")]
    pub track: u32,
    #[prost(string, tag = "3")]
    pub codecs: String,
    #[prost(uint32, tag = "4")]
    pub width: u32,
    #[prost(uint32, tag = "5")]
    pub height: u32,
    #[prost(uint32, tag = "6")]
    pub rate_num: u32,
    #[prost(uint32, tag = "7")]
    pub rate_den: u32,
    #[prost(uint32, tag = "8")]
    pub sample_rate: u32,
    #[prost(uint32, tag = "9")]
    pub channels: u32,
}

/// `AccessUnit`: its bytes are the payload.
#[derive(Clone, PartialEq, Message)]
pub struct AccessUnit {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint32, tag = "2")]
    pub track: u32,
    #[prost(sint64, tag = "3")]
    pub dts: i64,
    #[prost(sint64, tag = "4")]
    pub pts_minus_dts: i64,
    #[prost(uint32, tag = "5")]
    pub duration: u32,
    #[prost(bool, tag = "6")]
    pub idr: bool,
    #[prost(uint64, tag = "7")]
    pub msn: u64,
    #[prost(uint64, tag = "8")]
    pub discontinuity: u64,
    #[prost(sint64, tag = "9")]
    pub segment_start: i64,
    #[prost(uint32, tag = "10")]
    pub part: u32,
    /// 0 nothing, 1 part, 2 segment.
    #[prost(uint32, tag = "11")]
    pub starts: u32,
    /// 0 nothing, 1 part, 2 segment.
    #[prost(uint32, tag = "12")]
    pub ends: u32,
    #[prost(sint64, tag = "13")]
    pub ends_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tick {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(sint64, tag = "2")]
    pub to: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint32, tag = "2")]
    pub lag_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Health {
    #[prost(string, tag = "1")]
    pub json: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct OriginLost {
    #[prost(string, tag = "1")]
    pub intake: String,
    #[prost(bool, tag = "2")]
    pub with_all: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ChangeOrigin {
    #[prost(message, optional, tag = "1")]
    pub epoch: Option<Epoch>,
    #[prost(string, tag = "2")]
    pub intake: String,
    #[prost(message, optional, tag = "3")]
    pub beside: Option<Epoch>,
    #[prost(bool, tag = "4")]
    pub followed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct End {
    #[prost(bool, tag = "1")]
    pub continues: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Restarting {
    #[prost(uint32, tag = "1")]
    pub grace_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Begin {
    #[prost(uint64, tag = "1")]
    pub msn: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Measure {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub state: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ready {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(message, repeated, tag = "2")]
    pub sandbox: Vec<Measure>,
    #[prost(uint32, tag = "3")]
    pub protocol: u32,
    #[prost(message, optional, tag = "4")]
    pub work: Option<Work>,
    #[prost(uint32, tag = "5")]
    pub oldest_protocol: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Work {
    #[prost(message, optional, tag = "1")]
    pub hello: Option<Hello>,
    #[prost(uint64, tag = "2")]
    pub next_seq: u64,
    #[prost(message, repeated, tag = "3")]
    pub acked: Vec<PartAck>,
    #[prost(message, optional, tag = "4")]
    pub ended: Option<End>,
}

/// `Init`: the section is the payload.
#[derive(Clone, PartialEq, Message)]
pub struct Init {
    #[prost(string, tag = "1")]
    pub rung: String,
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    #[prost(string, tag = "3")]
    pub codecs: String,
    #[prost(uint64, tag = "4")]
    pub bandwidth_bps: u64,
    /// 1 video, 2 audio.
    #[prost(uint32, tag = "5")]
    pub kind: u32,
    #[prost(uint32, tag = "6")]
    pub width: u32,
    #[prost(uint32, tag = "7")]
    pub height: u32,
    #[prost(uint32, tag = "8")]
    pub rate_num: u32,
    #[prost(uint32, tag = "9")]
    pub rate_den: u32,
    #[prost(bool, tag = "10")]
    pub transcoded: bool,
    #[prost(uint32, tag = "11")]
    pub channels: u32,
    #[prost(uint64, optional, tag = "12")]
    pub announced_bps: Option<u64>,
}

/// `Part`: the chunk is the payload.
#[derive(Clone, PartialEq, Message)]
pub struct Part {
    #[prost(string, tag = "1")]
    pub rung: String,
    #[prost(uint64, tag = "2")]
    pub msn: u64,
    #[prost(uint32, tag = "3")]
    pub part: u32,
    #[prost(message, optional, tag = "4")]
    pub epoch: Option<Epoch>,
    #[prost(sint64, tag = "5")]
    pub segment_start: i64,
    #[prost(uint64, tag = "6")]
    pub discontinuity: u64,
    #[prost(sint64, tag = "7")]
    pub start: i64,
    #[prost(sint64, tag = "8")]
    pub end: i64,
    #[prost(bool, tag = "9")]
    pub independent: bool,
    #[prost(bool, tag = "10")]
    pub last: bool,
    #[prost(bytes = "vec", tag = "11")]
    pub init: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartAck {
    #[prost(string, tag = "1")]
    pub rung: String,
    #[prost(uint64, tag = "2")]
    pub msn: u64,
    #[prost(uint32, tag = "3")]
    pub part: u32,
}
