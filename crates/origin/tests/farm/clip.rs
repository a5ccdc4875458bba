//! A real, frame-stamped clip as the parts a worker would make of it, pushed to an origin as live.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use millrace_hls::{
    Hash, InitRecord, PartRecord, RenditionKind,
    intake::{self, EPOCH_HEADER, RECORD_HEADER},
};
use millrace_testkit::ClipSpec;
use millrace_types::{FrameRate, MediaTime, Msn, PartNo, Wall};
use tokio::time::{Instant, sleep_until};

use super::farm::{Farm, rung};

/// Segments of the clip: its keyframe distance.
const SEGMENT_TICKS: i64 = 180_000;

/// An AAC encoder begins with one frame of 1024 samples that the clip does not count.
const AAC_PRIMING_TICKS: i64 = 1024 * 90_000 / 48_000;

/// An init section, then the fragments with the ticks at which each starts.
type Cut = (Vec<u8>, Vec<(i64, Vec<u8>)>);

/// One rung of the clip.
struct Track {
    init: InitRecord,
    init_bytes: Vec<u8>,
    parts: Vec<(PartRecord, Vec<u8>)>,
}

/// Cuts `file` into fragments with ffmpeg, without encoding it again.
fn cut(file: &Path, select: &[&str], timescale: u32) -> Cut {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(select)
        .args(["-c", "copy", "-movflags", "empty_moov+default_base_moof+frag_keyframe"])
        .args(["-f", "mp4", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (mut init, mut found) = (Vec::new(), Vec::<(i64, Vec<u8>)>::new());
    let mut rest = &out.stdout[..];
    while rest.len() >= 8 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (this, after) = rest.split_at(size);
        match &this[4..8] {
            b"ftyp" | b"moov" => init.extend_from_slice(this),
            b"moof" => found.push((decode_time(this, timescale), this.to_vec())),
            b"mdat" => found.last_mut().expect("moof before mdat").1.extend_from_slice(this),
            _ => {}
        }
        rest = after;
    }
    (init, found)
}

/// `baseMediaDecodeTime` of the one track (ISO/IEC 14496-12, 8.8.12), as ticks of 90 kHz.
fn decode_time(moof: &[u8], timescale: u32) -> i64 {
    let at = moof.windows(4).position(|bytes| bytes == b"tfdt").expect("a tfdt") + 4;
    let ticks = match moof[at] {
        0 => i64::from(u32::from_be_bytes(moof[at + 4..at + 8].try_into().unwrap())),
        _ => i64::from_be_bytes(moof[at + 4..at + 12].try_into().unwrap()),
    };
    MediaTime::from_timescale(ticks, timescale).0
}

fn init_record(clip: &ClipSpec, name: &str, bytes: &[u8]) -> InitRecord {
    let (codecs, kind) = match name {
        "audio" => ("mp4a.40.2", RenditionKind::Audio { channels: 2 }),
        _ => (
            "avc1.64001f",
            RenditionKind::Video {
                width: clip.width,
                height: clip.height,
                frame_rate: FrameRate { num: clip.fps.frames, den: clip.fps.per_seconds },
                transcoded: true,
            },
        ),
    };
    let hash = Hash::of(bytes);
    InitRecord {
        rung: rung(name),
        hash,
        codecs: codecs.to_owned(),
        bandwidth_bps: 900_000,
        announced_bps: None,
        kind,
    }
}

fn track(farm: &Farm, clip: &ClipSpec, name: &str, starts: MediaTime, cut: Cut) -> Track {
    let (init_bytes, fragments) = cut;
    let init = init_record(clip, name, &init_bytes);
    let first = starts.to_wall().unix_seconds();
    let priming = if name == "audio" { AAC_PRIMING_TICKS } else { 0 };
    let clip_end = i64::from(clip.seconds) * 90_000 + priming;
    let ends: Vec<i64> =
        fragments.iter().skip(1).map(|(start, _)| *start).chain([clip_end]).collect();
    let segment_of = |start: i64| start / SEGMENT_TICKS;
    let mut parts: Vec<(PartRecord, Vec<u8>)> = Vec::new();
    for ((start, bytes), end) in fragments.into_iter().zip(ends) {
        let msn = Msn(first + segment_of(start) as u64);
        let part = match parts.last() {
            Some((before, _)) if before.msn == msn => PartNo(before.part.0 + 1),
            _ => PartNo(0),
        };
        let record = PartRecord {
            rung: rung(name),
            msn,
            part,
            epoch: farm.epoch,
            segment_start: starts + segment_of(start) * SEGMENT_TICKS,
            discontinuity: 0,
            start: starts + start,
            end: starts + end.max(start + 1),
            independent: name == "audio" || part.0 == 0,
            last: end == clip_end || segment_of(end) != segment_of(start),
            short: false,
            init: init.hash,
            hash: Hash::of(&bytes),
            length: bytes.len() as u32,
        };
        parts.push((record, bytes));
    }
    Track { init, init_bytes, parts }
}

/// Opens the stream and pushes each part of the clip when its last sample would have been published; then ends it.
pub async fn publish(farm: &Farm, clip: &ClipSpec) {
    let file = clip.file().unwrap();
    let video = ["-an", "-video_track_timescale", "90000", "-frag_duration", "330000"];
    let audio = ["-vn", "-frag_duration", "310000"];
    let (video, audio) = (cut(&file, &video, 90_000), cut(&file, &audio, 48_000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let starts = MediaTime::from_wall(Wall(now.as_micros() as u64));
    let tracks =
        [track(farm, clip, "video", starts, video), track(farm, clip, "audio", starts, audio)];
    assert_eq!(farm.open(farm.epoch).await.status, 200);
    for Track { init, init_bytes, .. } in &tracks {
        let json = serde_json::to_string(init).unwrap();
        let headers = [(RECORD_HEADER, json.as_str()), (EPOCH_HEADER, &farm.epoch.to_string())];
        let path = intake::init_path(&farm.stream);
        assert_eq!(farm.node("PUT", &path, &headers, init_bytes).await.status, 200);
    }
    let mut parts: Vec<_> = tracks.iter().flat_map(|track| &track.parts).collect();
    parts.sort_by_key(|(record, _)| record.end);
    let began = Instant::now();
    for (record, bytes) in parts {
        let due = MediaTime(record.end - starts).seconds();
        sleep_until(began + Duration::from_secs_f64(due)).await;
        assert_eq!(farm.push_bytes(record, bytes).await.status, 200);
    }
    let end = intake::End { epoch: farm.epoch, continues: false };
    assert_eq!(farm.node_json("POST", &intake::end_path(&farm.stream), &end).await.status, 200);
}
