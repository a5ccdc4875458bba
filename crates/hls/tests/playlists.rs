//! What the playlists say, word for word.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sample;

use bytes::Bytes;
use millrace_hls::{Hash, InitRecord, LISTED_SEGMENTS, PartRecord, Query, Reload, Window};
use millrace_types::Mono;
use millrace_types::Msn;
use sample::{FIRST, PARTS, epoch, fill, filled, init, init_bytes, opened, part, push, rung};

/// Replaces what would make the expected text unreadable.
fn short(playlist: &str) -> String {
    let mut text = playlist.replace("17952229", "N");
    for name in ["source", "720p", "audio", "other"] {
        text = text.replace(&Hash::of(&init_bytes(name)).to_string(), name);
    }
    text
}

#[test]
fn a_young_stream_lists_its_parts_and_hints_the_next() {
    let window = filled(1, 2);
    let expected = r##"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.500
#EXT-X-PART-INF:PART-TARGET=0.334
#EXT-X-MEDIA-SEQUENCE:N23
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init-720p.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T01:02:03.000Z
#EXT-X-PART:DURATION=0.33333,URI="N23.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33333,URI="N23.1.m4s"
#EXT-X-PART:DURATION=0.33333,URI="N23.2.m4s"
#EXT-X-PART:DURATION=0.33333,URI="N23.3.m4s"
#EXT-X-PART:DURATION=0.33333,URI="N23.4.m4s"
#EXT-X-PART:DURATION=0.33333,URI="N23.5.m4s"
#EXTINF:2.00000,
N23.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T01:02:05.000Z
#EXT-X-PART:DURATION=0.33333,URI="N24.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33333,URI="N24.1.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="N24.2.m4s"
#EXT-X-RENDITION-REPORT:URI="../source/index.m3u8",LAST-MSN=N24,LAST-PART=1
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=N24,LAST-PART=1
"##;
    assert_eq!(short(&window.media_playlist(&rung("720p"), false).unwrap()), expected);
}

#[test]
fn an_ended_stream_says_so_and_hints_nothing() {
    let mut window = filled(1, 2);
    window.end(epoch(1, 0)).unwrap();
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(short(&text).ends_with("#EXTINF:0.66667,\nN24.m4s\n#EXT-X-ENDLIST\n"), "{text}");
    assert!(!text.contains("PRELOAD-HINT") && !text.contains("RENDITION-REPORT"));
}

#[test]
fn the_multivariant_playlist_waits_for_every_rung() {
    let mut window = Window::open(sample::announcement());
    for name in ["source", "720p"] {
        window.add_init(epoch(1, 0), init(name), init_bytes(name)).unwrap();
    }
    assert_eq!(window.multivariant_playlist(), None);
    window.add_init(epoch(1, 0), init("audio"), init_bytes("audio")).unwrap();
    let expected = r##"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=6140000,CODECS="avc1.640028,mp4a.40.2",RESOLUTION=1920x1080,FRAME-RATE=29.970,AUDIO="audio",CLOSED-CAPTIONS=NONE
source/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=3240000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO="audio",CLOSED-CAPTIONS=NONE
720p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=140000,CODECS="mp4a.40.2",AUDIO="audio",CLOSED-CAPTIONS=NONE
audio/index.m3u8
"##;
    assert_eq!(window.multivariant_playlist().as_deref(), Some(expected));
}

#[test]
fn a_stream_that_has_ended_names_no_rendition_that_never_came() {
    let mut window = sample::opened();
    for name in ["source", "720p"] {
        sample::fill(&mut window, name, 1, 3);
    }
    assert!(window.multivariant_playlist().unwrap().contains("audio/index.m3u8"), "it may come");
    window.end(epoch(1, 0)).unwrap();
    let text = window.multivariant_playlist().unwrap();
    assert!(
        text.contains("source/") && text.contains("720p/") && !text.contains("audio"),
        "{text}"
    );
    let mut nothing = sample::opened();
    nothing.end(epoch(1, 0)).unwrap();
    assert_eq!(nothing.multivariant_playlist(), None);
}

/// `BANDWIDTH` and, if it is there, `AVERAGE-BANDWIDTH` of each variant.
fn bandwidths(window: &Window) -> Vec<(u64, Option<u64>)> {
    let text = window.multivariant_playlist().unwrap();
    let number = |line: &str, name: &str| {
        let value = line.split(&[':', ','][..]).find_map(|it| it.strip_prefix(name))?;
        Some(value.parse().unwrap())
    };
    let variants = text.lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF:"));
    variants
        .map(|line| (number(line, "BANDWIDTH=").unwrap(), number(line, "AVERAGE-BANDWIDTH=")))
        .collect()
}

/// Pushes a segment as one part that weighs so many bits per second over its two seconds.
fn push_segment(window: &mut Window, name: &str, index: u64, bps: usize) {
    let bytes = Bytes::from(vec![index as u8; bps / 4]);
    let record = PartRecord {
        end: part(name, index + 1, 0).start,
        last: true,
        hash: Hash::of(&bytes),
        length: bytes.len() as u32,
        ..part(name, index, 0)
    };
    window.add_part(Mono::default(), epoch(1, 0), record, bytes).unwrap();
}

#[test]
fn a_publishers_own_track_is_announced_with_a_fifth_more_than_its_heaviest_segment() {
    let mut window = opened();
    let assumed = [6_140_000, 3_240_000, 140_000].map(|bandwidth| (bandwidth, None));
    assert_eq!(bandwidths(&window), assumed);
    for (name, bps) in [("source", 4_000_000), ("720p", 2_000_000), ("audio", 100_000)] {
        push_segment(&mut window, name, 0, bps);
    }
    // 4.8 and 0.12 Mbit/s; the encoder's cap of 3.1 stays.
    let measured =
        [(4_920_000, Some(4_100_000)), (3_220_000, Some(2_100_000)), (120_000, Some(100_000))];
    assert_eq!(bandwidths(&window), measured);
}

#[test]
fn what_a_publisher_says_of_its_own_track_counts_until_more_is_measured() {
    let mut window = opened();
    let bytes = Bytes::from_static(b"announced");
    let said =
        InitRecord { hash: Hash::of(&bytes), announced_bps: Some(7_000_000), ..init("source") };
    window.add_init(epoch(1, 0), said.clone(), bytes).unwrap();
    let push = |window: &mut Window, index, bps| {
        push_segment(window, "audio", index, 100_000);
        push_segment(window, "source", index, bps);
        bandwidths(window)[0].0
    };
    assert_eq!(bandwidths(&window)[0].0, 7_140_000, "more than is assumed");
    assert_eq!(push(&mut window, 0, 2_000_000), 7_120_000, "more than is measured");
    assert_eq!(push(&mut window, 1, 6_000_000), 7_320_000, "less than is measured, and a fifth");
}

#[test]
fn bandwidth_is_never_lowered_once_it_was_measured_and_the_average_follows_the_window() {
    let mut window = opened();
    push_segment(&mut window, "source", 0, 8_000_000);
    push_segment(&mut window, "720p", 0, 4_000_000);
    push_segment(&mut window, "audio", 0, 100_000);
    for index in 1..=LISTED_SEGMENTS as u64 {
        push_segment(&mut window, "source", index, 1_000_000);
        push_segment(&mut window, "720p", index, 1_000_000);
        push_segment(&mut window, "audio", index, 100_000);
    }
    // An encoder that went past its cap is believed as it was measured.
    let expected =
        [(9_720_000, Some(1_100_000)), (4_120_000, Some(1_100_000)), (120_000, Some(100_000))];
    assert_eq!(bandwidths(&window), expected);
}

/// Pushes the rest of a segment of 720p, from part `from` on, as a successor with another init section makes it.
fn push_from(window: &mut Window, index: u64, from: u32, init: Hash) {
    for number in from..PARTS {
        let record = PartRecord { epoch: epoch(1, 1), init, ..part("720p", index, number) };
        push(window, record).unwrap();
    }
}

#[test]
fn a_successor_with_another_init_section_finishes_the_segment_and_every_rung_breaks_behind_it() {
    let mut window = filled(1, 2);
    let mut other = init("720p");
    other.hash = Hash::of(&init_bytes("other"));
    window.add_init(epoch(1, 1), other.clone(), init_bytes("other")).unwrap();
    push_from(&mut window, 1, 2, other.hash);
    for name in ["source", "audio"] {
        (2..PARTS).for_each(|number| {
            push(&mut window, PartRecord { epoch: epoch(1, 1), ..part(name, 1, number) }).unwrap();
        });
    }
    let text = |window: &Window, name| short(&window.media_playlist(&rung(name), false).unwrap());
    let before = text(&window, "720p");
    assert!(
        !before.contains("init-other") && !before.contains("#EXT-X-DISCONTINUITY\n"),
        "{before}"
    );
    push_from(&mut window, 2, 0, other.hash);
    push_from(&mut window, 3, 0, other.hash);
    for name in ["source", "audio"] {
        (0..PARTS).for_each(|number| {
            push(&mut window, PartRecord { epoch: epoch(1, 1), ..part(name, 2, number) }).unwrap();
        });
    }
    let encoded = text(&window, "720p");
    assert!(
        encoded.contains("N24.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-other.mp4\"\n"),
        "{encoded}"
    );
    assert_eq!(encoded.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert_eq!(encoded.matches("#EXT-X-MAP").count(), 2);
    for name in ["source", "audio"] {
        let text = text(&window, name);
        assert!(text.contains("N24.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME"), "{text}");
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
        assert_eq!(text.matches("#EXT-X-MAP").count(), 1);
    }
}

#[test]
fn a_break_that_left_the_window_is_counted_and_a_successor_at_a_boundary_breaks_there() {
    let mut window = filled(2, 0);
    let mut other = init("720p");
    other.hash = Hash::of(&init_bytes("other"));
    window.add_init(epoch(1, 1), other.clone(), init_bytes("other")).unwrap();
    push_from(&mut window, 2, 0, other.hash);
    let sequence = |window: &Window, name| {
        let text = window.media_playlist(&rung(name), false).unwrap();
        let line = text.lines().find_map(|it| it.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:"));
        (line.unwrap().to_owned(), text.matches("#EXT-X-DISCONTINUITY\n").count())
    };
    assert_eq!(sequence(&window, "720p"), ("0".to_owned(), 1));
    for index in 2..40 {
        push_from(&mut window, index, 0, other.hash);
        for number in 0..PARTS {
            push(&mut window, PartRecord { epoch: epoch(1, 1), ..part("audio", index, number) })
                .unwrap();
        }
    }
    assert_eq!(sequence(&window, "720p"), ("1".to_owned(), 0));
    assert_eq!(sequence(&window, "audio"), ("1".to_owned(), 0));
}

#[test]
fn only_rungs_with_an_idr_at_every_segment_promise_independent_segments() {
    let window = filled(1, 0);
    let promises = |name| {
        let text = window.media_playlist(&rung(name), false).unwrap();
        text.contains("#EXT-X-INDEPENDENT-SEGMENTS")
    };
    assert!(promises("720p") && promises("audio") && !promises("source"));
}

#[test]
fn the_window_lists_15_segments_and_parts_of_the_last_three_targets() {
    let window = filled(40, 1);
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert_eq!(text.matches("#EXTINF").count(), LISTED_SEGMENTS);
    assert!(text.contains(&format!("#EXT-X-MEDIA-SEQUENCE:{}", FIRST + 25)));
    let with_parts = (FIRST + 25..=FIRST + 40).filter(|msn| text.contains(&format!("{msn}.0.m4s")));
    assert_eq!(with_parts.collect::<Vec<_>>(), (FIRST + 37..=FIRST + 40).collect::<Vec<_>>());
    // One window more can still be fetched.
    assert!(window.segment(&rung("720p"), Msn(FIRST + 10)).is_some());
    assert!(window.segment(&rung("720p"), Msn(FIRST + 9)).is_none());
}

#[test]
fn a_delta_update_skips_what_lies_past_the_skip_boundary_and_nothing_else() {
    let window = filled(20, 3);
    let full = window.media_playlist(&rung("720p"), false).unwrap();
    let delta = window.media_playlist(&rung("720p"), true).unwrap();
    // 15 listed, 13 s of them and the open second within 12 s of the end: 9 are skipped.
    assert!(delta.contains("\n#EXT-X-SKIP:SKIPPED-SEGMENTS=9\n"), "{delta}");
    assert_eq!(delta.matches("#EXTINF").count(), LISTED_SEGMENTS - 9);
    let rest = delta.split_once("SKIPPED-SEGMENTS=9\n").unwrap().1;
    assert!(full.ends_with(rest));
    // A young stream has nothing to skip.
    assert!(!filled(3, 1).media_playlist(&rung("720p"), true).unwrap().contains("EXT-X-SKIP"));
}

#[test]
fn a_new_init_section_and_a_discontinuity_are_written_once() {
    let mut window = filled(2, 0);
    let mut other = init("720p");
    other.hash = Hash::of(&init_bytes("other"));
    window.add_init(epoch(1, 0), other.clone(), init_bytes("other")).unwrap();
    for index in 2..4 {
        for number in 0..PARTS {
            let mut record = part("720p", index, number);
            (record.discontinuity, record.init) = (1, other.hash);
            push(&mut window, record).unwrap();
        }
    }
    let text = short(&window.media_playlist(&rung("720p"), false).unwrap());
    assert!(text.contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-other.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T01:02:07"));
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert_eq!(text.matches("#EXT-X-MAP").count(), 2);
    assert!(window.init(&rung("720p"), other.hash).is_some());
}

#[test]
fn discontinuities_that_left_the_window_are_counted_and_old_init_sections_freed() {
    let mut window = opened();
    let old = init("720p").hash;
    let mut new = init("720p");
    new.hash = Hash::of(&init_bytes("other"));
    fill(&mut window, "720p", 2, 0);
    window.add_init(epoch(1, 0), new.clone(), init_bytes("other")).unwrap();
    for index in 2..40 {
        for number in 0..PARTS {
            let mut record = part("720p", index, number);
            (record.discontinuity, record.init) = (1, new.hash);
            push(&mut window, record).unwrap();
        }
    }
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"));
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"));
    assert!(window.init(&rung("720p"), old).is_none());
}

#[test]
fn the_same_records_in_another_order_make_the_same_playlist() {
    let mut backwards = opened();
    let window = filled(4, 3);
    for index in 0..=4 {
        for name in ["audio", "720p", "source"] {
            // The first part opens the rung; the others of its segment come last first.
            let count = if index < 4 { PARTS } else { 3 };
            for number in std::iter::once(0).chain((1..count).rev()) {
                push(&mut backwards, part(name, index, number)).unwrap();
            }
        }
    }
    for name in ["source", "720p", "audio"] {
        let text = |window: &millrace_hls::Window| window.media_playlist(&rung(name), false);
        assert_eq!(text(&backwards), text(&window));
    }
}

#[test]
fn a_playlist_is_given_from_the_first_whole_segment_on_and_sooner_to_who_asks_for_a_part() {
    let (begun, whole) = (filled(0, 2), filled(1, 0));
    let past = Query::parse("_HLS_msn=0&_HLS_part=0").unwrap().block;
    assert_eq!(opened().reload(&rung("720p"), past), Reload::Wait);
    assert_eq!(begun.reload(&rung("720p"), past), Reload::Ready);
    assert_eq!(begun.reload(&rung("720p"), None), Reload::Wait);
    assert_eq!(whole.reload(&rung("720p"), None), Reload::Ready);
}
