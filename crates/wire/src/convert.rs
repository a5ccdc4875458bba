//! Between the protobuf control parts and the values of `message`. What a peer of another version cannot mean is an error, never a guess.

use std::net::SocketAddr;

use bytes::Bytes;
use millrace_hls::{Hash, InitRecord, PartRecord, RenditionKind};
use millrace_media::{
    AccessUnit, AudioConfig, Boundary, Config, Cut, SegmentStamp, Stamp, Track, TrackConfig,
    VideoConfig,
};
use millrace_types::{
    EndReason, Epoch, FrameRate, Ladder, Mark, MediaTime, Msn, PartNo, RefusalReason, Rung,
    RungKind, Versions, VideoRung,
};

use crate::{message as value, proto};

/// A frame that is well-formed but says something impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The control part is not the protobuf message its kind says.
    #[error("control part of kind {kind}: {why}")]
    Protobuf {
        /// Kind of the frame.
        kind: u8,
        /// What prost found.
        why: prost::DecodeError,
    },
    /// A name that is no name.
    #[error(transparent)]
    Id(#[from] millrace_types::IdError),
    /// A field that must be there, or a number out of its range.
    #[error("field {0} is missing or out of range")]
    Field(&'static str),
}

type Result<T> = std::result::Result<T, ConvertError>;

pub fn epoch_to(epoch: Epoch) -> Option<proto::Epoch> {
    Some(proto::Epoch { generation: epoch.generation, placement: epoch.placement })
}

pub fn epoch_from(epoch: Option<proto::Epoch>) -> Result<Epoch> {
    let epoch = epoch.ok_or(ConvertError::Field("epoch"))?;
    Ok(Epoch { generation: epoch.generation, placement: epoch.placement })
}

/// Version 1 had no words for versions: who is held at it says nothing.
pub fn versions_to(speaks: Versions) -> Option<proto::Versions> {
    let Versions { oldest, newest } = speaks;
    (!speaks.is_unsaid()).then_some(proto::Versions { oldest, newest })
}

pub fn versions_from(speaks: Option<proto::Versions>) -> Versions {
    let said = |proto::Versions { oldest, newest }| Versions { oldest, newest };
    speaks.map(said).unwrap_or_default()
}

/// The version in force, as it stands in an answer: version 1 is not said.
pub const fn version_to(version: u32) -> u32 {
    if version == Versions::UNSAID.newest { 0 } else { version }
}

pub const fn version_from(version: u32) -> u32 {
    if version == 0 { Versions::UNSAID.newest } else { version }
}

pub fn address_from(address: &str) -> Result<SocketAddr> {
    address.parse().map_err(|_| ConvertError::Field("address"))
}

pub fn mark_to(mark: &Mark) -> proto::Mark {
    proto::Mark {
        rung: mark.rung.to_string(),
        msn: mark.msn.0,
        part: mark.part.0,
        end: mark.end.0,
        closed: mark.closed,
    }
}

pub fn mark_from(mark: proto::Mark) -> Result<Mark> {
    Ok(Mark {
        rung: mark.rung.parse()?,
        msn: Msn(mark.msn),
        part: PartNo(mark.part),
        end: MediaTime(mark.end),
        closed: mark.closed,
    })
}

fn rate_from(num: u32, den: u32) -> Result<FrameRate> {
    if num == 0 || den == 0 {
        return Err(ConvertError::Field("frame_rate"));
    }
    Ok(FrameRate { num, den })
}

pub fn ladder_to(ladder: &Ladder) -> Vec<proto::Rung> {
    ladder
        .rungs
        .iter()
        .map(|rung| {
            let id = rung.id.to_string();
            match &rung.kind {
                RungKind::Source => proto::Rung { id, kind: 1, ..Default::default() },
                RungKind::Audio => proto::Rung { id, kind: 3, ..Default::default() },
                RungKind::Video(video) => proto::Rung {
                    id,
                    kind: 2,
                    width: video.width,
                    height: video.height,
                    rate_num: video.frame_rate.num,
                    rate_den: video.frame_rate.den,
                    halved: video.halved,
                    bitrate_kbps: video.bitrate_kbps,
                },
            }
        })
        .collect()
}

pub fn ladder_from(rungs: Vec<proto::Rung>) -> Result<Ladder> {
    let rung_from = |rung: proto::Rung| {
        let kind = match rung.kind {
            1 => RungKind::Source,
            2 => RungKind::Video(VideoRung {
                width: rung.width,
                height: rung.height,
                frame_rate: rate_from(rung.rate_num, rung.rate_den)?,
                halved: rung.halved,
                bitrate_kbps: rung.bitrate_kbps,
            }),
            3 => RungKind::Audio,
            _ => return Err(ConvertError::Field("ladder.kind")),
        };
        Ok(Rung { id: rung.id.parse()?, kind })
    };
    Ok(Ladder { rungs: rungs.into_iter().map(rung_from).collect::<Result<_>>()? })
}

const fn track_to(track: Track) -> u32 {
    match track {
        Track::Video => 1,
        Track::Audio => 2,
    }
}

const fn cut_to(cut: Cut) -> u32 {
    match cut {
        Cut::None => 0,
        Cut::Part => 1,
        Cut::Segment => 2,
    }
}

const fn cut_from(cut: u32) -> Result<Cut> {
    match cut {
        0 => Ok(Cut::None),
        1 => Ok(Cut::Part),
        2 => Ok(Cut::Segment),
        _ => Err(ConvertError::Field("cut")),
    }
}

pub fn unit_to(unit: &AccessUnit) -> proto::AccessUnit {
    let ends = unit.stamp.ends.map_or(Cut::None, |boundary| match boundary.segment {
        true => Cut::Segment,
        false => Cut::Part,
    });
    proto::AccessUnit {
        seq: unit.seq,
        track: track_to(unit.track),
        dts: unit.dts,
        pts_minus_dts: unit.pts - unit.dts,
        duration: unit.duration,
        idr: unit.idr,
        msn: unit.stamp.segment.msn.0,
        discontinuity: unit.stamp.segment.discontinuity,
        segment_start: unit.stamp.segment.start.0,
        part: unit.stamp.part.0,
        starts: cut_to(unit.stamp.starts),
        ends: cut_to(ends),
        ends_at: unit.stamp.ends.map_or(0, |boundary| boundary.at.0),
    }
}

pub fn unit_from(unit: proto::AccessUnit, bytes: Bytes) -> Result<AccessUnit> {
    let track = match unit.track {
        1 => Track::Video,
        2 => Track::Audio,
        _ => return Err(ConvertError::Field("track")),
    };
    let at = MediaTime(unit.ends_at);
    let ends = match cut_from(unit.ends)? {
        Cut::None => None,
        Cut::Part => Some(Boundary { at, segment: false }),
        Cut::Segment => Some(Boundary { at, segment: true }),
    };
    let segment = SegmentStamp {
        msn: Msn(unit.msn),
        discontinuity: unit.discontinuity,
        start: MediaTime(unit.segment_start),
    };
    let stamp = Stamp { segment, part: PartNo(unit.part), starts: cut_from(unit.starts)?, ends };
    Ok(AccessUnit {
        seq: unit.seq,
        track,
        dts: unit.dts,
        pts: unit.dts.checked_add(unit.pts_minus_dts).ok_or(ConvertError::Field("pts"))?,
        duration: unit.duration,
        idr: unit.idr,
        stamp,
        bytes,
    })
}

pub fn config_to(config: &Config) -> (proto::Config, Bytes) {
    match &config.track {
        TrackConfig::Video(video) => (
            proto::Config {
                seq: config.seq,
                track: track_to(Track::Video),
                codecs: video.codecs.clone(),
                width: video.width,
                height: video.height,
                rate_num: video.frame_rate.num,
                rate_den: video.frame_rate.den,
                ..Default::default()
            },
            video.avcc.clone(),
        ),
        TrackConfig::Audio(audio) => (
            proto::Config {
                seq: config.seq,
                track: track_to(Track::Audio),
                codecs: audio.codecs.clone(),
                sample_rate: audio.sample_rate,
                channels: audio.channels.into(),
                ..Default::default()
            },
            audio.asc.clone(),
        ),
    }
}

pub fn config_from(config: proto::Config, bytes: Bytes) -> Result<Config> {
    let track = match config.track {
        1 => TrackConfig::Video(VideoConfig {
            avcc: bytes,
            width: config.width,
            height: config.height,
            frame_rate: rate_from(config.rate_num, config.rate_den)?,
            codecs: config.codecs,
        }),
        2 if config.sample_rate > 0 => TrackConfig::Audio(AudioConfig {
            asc: bytes,
            sample_rate: config.sample_rate,
            channels: u8::try_from(config.channels).map_err(|_| ConvertError::Field("channels"))?,
            codecs: config.codecs,
        }),
        _ => return Err(ConvertError::Field("track")),
    };
    Ok(Config { seq: config.seq, track })
}

pub fn init_to(record: &InitRecord) -> proto::Init {
    let common = proto::Init {
        rung: record.rung.to_string(),
        hash: record.hash.0.to_vec(),
        codecs: record.codecs.clone(),
        bandwidth_bps: record.bandwidth_bps,
        announced_bps: record.announced_bps,
        ..Default::default()
    };
    match record.kind {
        RenditionKind::Video { width, height, frame_rate, transcoded } => proto::Init {
            kind: 1,
            width,
            height,
            rate_num: frame_rate.num,
            rate_den: frame_rate.den,
            transcoded,
            ..common
        },
        RenditionKind::Audio { channels } => {
            proto::Init { kind: 2, channels: channels.into(), ..common }
        }
    }
}

pub fn init_from(init: proto::Init) -> Result<InitRecord> {
    let kind = match init.kind {
        1 => RenditionKind::Video {
            width: init.width,
            height: init.height,
            frame_rate: rate_from(init.rate_num, init.rate_den)?,
            transcoded: init.transcoded,
        },
        2 => RenditionKind::Audio {
            channels: u8::try_from(init.channels).map_err(|_| ConvertError::Field("channels"))?,
        },
        _ => return Err(ConvertError::Field("kind")),
    };
    Ok(InitRecord {
        rung: init.rung.parse()?,
        hash: hash_from(init.hash)?,
        codecs: init.codecs,
        bandwidth_bps: init.bandwidth_bps,
        announced_bps: init.announced_bps,
        kind,
    })
}

fn hash_from(bytes: Vec<u8>) -> Result<Hash> {
    bytes.try_into().map(Hash).map_err(|_| ConvertError::Field("hash"))
}

pub fn part_to(record: &PartRecord) -> proto::Part {
    proto::Part {
        rung: record.rung.to_string(),
        msn: record.msn.0,
        part: record.part.0,
        epoch: epoch_to(record.epoch),
        segment_start: record.segment_start.0,
        discontinuity: record.discontinuity,
        start: record.start.0,
        end: record.end.0,
        independent: record.independent,
        last: record.last,
        init: record.init.0.to_vec(),
        hash: record.hash.0.to_vec(),
    }
}

pub fn part_from(part: proto::Part, length: usize) -> Result<PartRecord> {
    Ok(PartRecord {
        rung: part.rung.parse()?,
        msn: Msn(part.msn),
        part: PartNo(part.part),
        epoch: epoch_from(part.epoch)?,
        segment_start: MediaTime(part.segment_start),
        discontinuity: part.discontinuity,
        start: MediaTime(part.start),
        end: MediaTime(part.end),
        independent: part.independent,
        last: part.last,
        short: false,
        init: hash_from(part.init)?,
        hash: hash_from(part.hash)?,
        length: u32::try_from(length).map_err(|_| ConvertError::Field("length"))?,
    })
}

pub fn refused_from(because: proto::Because) -> value::Refused {
    let reason = RefusalReason::parse(&because.reason).unwrap_or(RefusalReason::Internal);
    value::Refused { reason, text: because.text }
}

pub fn ended_from(because: proto::Because) -> value::Ended {
    let reason = EndReason::parse(&because.reason).unwrap_or(EndReason::Bug);
    value::Ended { reason, text: because.text }
}
