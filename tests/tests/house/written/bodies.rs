//! Bodies and headers of the origin's intake, as JSON.

use millrace_hls::{
    Hash, InitRecord, PartRecord, RenditionKind, StreamOpen,
    intake::{End, Fence, Marks, Past, PastRecord, Refused},
};
use millrace_types::{FrameRate, MediaTime, Msn, PartNo};

use super::{
    Form, Samples,
    json::{self, Json},
    samples::{EPOCH, mark, speaks},
};

pub const FORM: Form<Json> =
    Form { file: "bodies", samples: bodies, write: json::write, read: json::read };

#[expect(clippy::too_many_lines, reason = "a list")]
fn bodies(version: u32) -> Samples<Json> {
    let open = StreamOpen {
        epoch: EPOCH,
        beside: Some(EPOCH.next_placement()),
        rungs: vec!["source".parse().unwrap(), "audio".parse().unwrap()],
        part_target_ms: 334,
        hold_back_ms: 1_500,
        speaks: speaks(version),
        restores: vec![mark()],
        followed: false,
    };
    let plain_open = StreamOpen { beside: None, restores: Vec::new(), ..open.clone() };
    let video = RenditionKind::Video {
        width: 1_280,
        height: 720,
        frame_rate: FrameRate { num: 30_000, den: 1_001 },
        transcoded: true,
    };
    let init = InitRecord {
        rung: "720p".parse().unwrap(),
        hash: Hash::of(b"init"),
        codecs: "avc1.64001f".to_owned(),
        bandwidth_bps: 3_000_000,
        announced_bps: Some(2_500_000),
        kind: video,
    };
    let sound = RenditionKind::Audio { channels: 2 };
    let sound = InitRecord { kind: sound, announced_bps: None, ..init.clone() };
    let part = PartRecord {
        rung: "720p".parse().unwrap(),
        msn: Msn(8),
        part: PartNo(3),
        epoch: EPOCH,
        segment_start: MediaTime(5),
        discontinuity: 1,
        start: MediaTime(6),
        end: MediaTime(30_066),
        independent: true,
        last: true,
        short: true,
        init: Hash::of(b"init"),
        hash: Hash::of(b"part"),
        length: 9,
    };
    let plain_part = PartRecord { short: false, ..part.clone() };
    let marks =
        Marks { epoch: EPOCH, marks: vec![mark()], discontinuity: 2, part_target_ms: 334, version };
    let refused = Refused {
        reason: "fenced".to_owned(),
        detail: "epoch 1.1 is fenced by 3.1".to_owned(),
        fence: Some(EPOCH),
    };
    let plain_refused = Refused { fence: None, ..refused.clone() };
    let records = vec![PastRecord::Init(init.clone(), 700), PastRecord::Part(part.clone())];
    let fence = Fence { epoch: EPOCH, claims: true, flush_ms: 1_500, asks_again: false };
    let fence_again = Fence { asks_again: true, ..fence };
    let followed_open = StreamOpen { followed: true, ..open.clone() };
    let since_version_2 = [
        ("past", Json::of(Past { records })),
        ("open_followed", Json::of(followed_open)),
        ("fence_asks_again", Json::of(fence_again)),
    ];
    let since_version_2 = since_version_2.into_iter().filter(|_| version >= 2);
    let bodies = vec![
        ("open", Json::of(open)),
        ("open_plain", Json::of(plain_open)),
        ("fence", Json::of(fence)),
        ("marks", Json::of(marks)),
        ("init_video", Json::of(init)),
        ("init_audio", Json::of(sound)),
        ("part", Json::of(part)),
        ("part_plain", Json::of(plain_part)),
        ("end", Json::of(End { epoch: EPOCH, continues: true })),
        ("refused", Json::of(refused)),
        ("refused_plain", Json::of(plain_refused)),
    ];
    bodies.into_iter().chain(since_version_2).collect()
}
