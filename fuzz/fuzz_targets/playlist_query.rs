//! The query of a media playlist from hostile text, and the blocking-reload decision on whatever comes of it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_hls::{
    Hash, InitRecord, PartRecord, Query, Reload, RenditionKind, StreamOpen, Window,
};
use millrace_types::{Epoch, MediaTime, Mono, Msn, PartNo, RungId};

const RUNG: &str = "audio";
/// Small, so that mutation finds numbers around it.
const FIRST: u64 = 8;

/// One full segment of two parts and an open one with a part.
static WINDOW: LazyLock<Window> = LazyLock::new(|| {
    let rung: RungId = RUNG.parse().expect("a rung name");
    let epoch = Epoch::default();
    let rungs = vec![rung.clone()];
    let mut window = Window::open(StreamOpen {
        epoch,
        beside: None,
        rungs,
        part_target_ms: 334,
        hold_back_ms: 1500,
        speaks: Default::default(),
        restores: Vec::new(),
        followed: false,
    });
    let hash = Hash::of(RUNG.as_bytes());
    let kind = RenditionKind::Audio { channels: 2 };
    let codecs = "mp4a.40.2".to_owned();
    let init = InitRecord {
        rung: rung.clone(),
        hash,
        codecs,
        bandwidth_bps: 1,
        announced_bps: None,
        kind,
    };
    window.add_init(epoch, init, RUNG.into()).expect("an init section");
    for (index, number) in [(0_u64, 0_u32), (0, 1), (1, 0)] {
        let start = MediaTime((index as i64 * 2 + i64::from(number)) * 90_000);
        let part = PartRecord {
            rung: rung.clone(),
            msn: Msn(FIRST + index),
            part: PartNo(number),
            epoch,
            segment_start: start,
            discontinuity: 0,
            start,
            end: start + 90_000,
            independent: true,
            last: number == 1,
            short: false,
            init: hash,
            hash,
            length: 0,
        };
        window.add_part(Mono::default(), epoch, part, RUNG.into()).expect("a part");
    }
    window
});

fuzz_target!(|text: &str| {
    let Ok(query) = Query::parse(text) else { return };
    let rung: RungId = RUNG.parse().expect("a rung name");
    match WINDOW.reload(&rung, query.block) {
        // A playlist is there, and what was asked for never lies beyond its end.
        Reload::Ready => {
            let playlist = WINDOW.media_playlist(&rung, query.skip).expect("a playlist");
            assert!(playlist.starts_with("#EXTM3U\n"));
            assert!(query.block.is_none_or(|block| block.msn.0 <= FIRST + 1));
        }
        Reload::Wait => assert!(query.block.is_some_and(|block| block.msn.0 <= FIRST + 2)),
        Reload::TooFar => assert!(query.block.is_some()),
        Reload::NoRung => panic!("the rung is there"),
    }
});
