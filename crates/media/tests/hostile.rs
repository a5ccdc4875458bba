//! Any order of any messages with any timestamps: nothing panics, and what comes out keeps its promises.

mod publisher;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use millrace_media::{
    AacHeader, AvcRecord, Cut, Input, Item, SourceHints, Sps, Track, parse_audio, parse_video,
};
use millrace_types::{FrameRate, MediaTime, Mono};
use proptest::prelude::*;
use publisher::{
    ASC_44K_MONO, ASC_48K_STEREO, AVCC, OTHER_AVCC, START, audio_body, audio_header, timeline,
    video_body, video_header,
};

fn bodies() -> impl Strategy<Value = (bool, Bytes)> {
    prop_oneof![
        8 => (any::<bool>(), -50_i32..200, any::<u32>())
            .prop_map(|(idr, composition, number)| (true, video_body(idr, composition, number))),
        8 => Just((false, audio_body())),
        1 => prop::sample::select(vec![AVCC, OTHER_AVCC]).prop_map(|avcc| (true, video_header(avcc))),
        1 => prop::sample::select(vec![ASC_48K_STEREO, ASC_44K_MONO])
            .prop_map(|asc| (false, audio_header(asc))),
        1 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(video, bytes)| (video, bytes.into())),
    ]
}

/// A step of the publisher's clock: mostly small, sometimes anything.
fn steps() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0_u32..80, 1 => any::<u32>(), 1 => 2_000_u32..20_000, 1 => (0_u32..200).prop_map(u32::wrapping_neg)]
}

fn inputs() -> impl Strategy<Value = Vec<(u32, u32, Input)>> {
    let media = bodies().prop_map(|(video, body)| match video {
        true => Input::Video { timestamp_ms: 0, body },
        false => Input::Audio { timestamp_ms: 0, body },
    });
    let other = prop_oneof![
        Just(Input::Elapsed),
        Just(Input::PublisherLeft),
        (0_u64..100).prop_map(|s| Input::PublisherBack { utc: START + Duration::from_secs(s) }),
        any::<Option<f64>>().prop_map(|frame_rate| Input::Metadata(SourceHints {
            frame_rate,
            ..SourceHints::default()
        })),
    ];
    let input = prop_oneof![30 => media, 1 => other];
    prop::collection::vec((steps(), 0_u32..400, input), 0..400)
}

proptest! {
    #[test]
    fn no_publisher_breaks_sequence_numbers_or_clocks(inputs in inputs()) {
        let mut timeline = timeline();
        let (mut timestamp, mut now, mut seq) = (0_u32, Mono::default(), 0);
        let mut last = BTreeMap::new();
        let mut scale = 48_000;
        for (step, wait_ms, input) in inputs {
            timestamp = timestamp.wrapping_add(step);
            now = now + Duration::from_millis(wait_ms.into());
            let input = match input {
                Input::Video { body, .. } => Input::Video { timestamp_ms: timestamp, body },
                Input::Audio { body, .. } => Input::Audio { timestamp_ms: timestamp, body },
                other => other,
            };
            let _ = timeline.handle(now, input);
            while let Some(item) = timeline.poll() {
                prop_assert_eq!(item.seq(), seq);
                seq += 1;
                match &item {
                    Item::Config(config) => if config.track.track() == Track::Audio {
                        scale = config.track.timescale();
                    },
                    Item::Tick(_) => {}
                    Item::Unit(unit) => {
                        let timescale = if unit.track == Track::Video { 90_000 } else { scale };
                        let dts = MediaTime::from_timescale(unit.dts, timescale);
                        let msn = unit.stamp.segment.msn;
                        let end = unit.dts + i64::from(unit.duration);
                        if let Some((before, number, end)) = last.insert(unit.track, (dts, msn, end)) {
                            let has_own_time = unit.stamp.starts != Cut::None;
                            prop_assert!(has_own_time || (end - unit.dts).abs() <= 2, "a hole of {} inside a part of {:?}", unit.dts - end, unit.track);
                            prop_assert!(before < dts, "{:?} went back", unit.track);
                            prop_assert!(number <= msn, "msn went back");
                        }
                        prop_assert!(unit.pts >= unit.dts && !unit.bytes.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn no_header_makes_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..45_usize) {
        let mut mutated = AVCC.to_vec();
        for (n, byte) in bytes.iter().take(3).enumerate() {
            mutated[(at + n * 7) % AVCC.len()] = *byte;
        }
        for bytes in [bytes, mutated] {
            let bytes = Bytes::from(bytes);
            let _ = Sps::parse(&bytes);
            let _ = AvcRecord::parse(&bytes).map(|record| record.config(FrameRate { num: 30, den: 1 }));
            let _ = AacHeader::parse(bytes.clone()).map(|header| (header.silent_frame(), header.config()));
            let _ = parse_video(bytes.clone());
            let _ = parse_audio(bytes);
        }
    }
}
