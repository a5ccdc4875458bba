//! Segments and parts over whole publications, at the rates, jitters and keyframe distances that encoders have.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use millrace_media::{
    AccessUnit, Cut, Input, Item, SourceLimits, Timeline, TimelineStart, Track, is_halved,
    kept_by_halving,
};
use millrace_types::{FrameRate, MediaTime};
use proptest::prelude::*;
use publisher::{START, Source, feed, publish, timeline, units};

const RATES: [(u32, u32); 8] = [
    (24, 1),
    (24_000, 1_001),
    (25, 1),
    (30_000, 1_001),
    (30, 1),
    (50, 1),
    (60_000, 1_001),
    (60, 1),
];

/// Length of each part in ticks of 90 kHz, and whether it is its segment's last.
fn parts(units: &[AccessUnit]) -> Vec<(f64, bool)> {
    let mut parts = Vec::new();
    let (mut start, mut samples) = (units[0].stamp.segment.start, 0_u32);
    for unit in units {
        samples += unit.duration;
        if let Some(end) = unit.stamp.ends {
            // Sound lies beside the boundaries, by less than one frame: what its parts last is in its samples.
            let length = match unit.track {
                Track::Video => (end.at - start) as f64,
                Track::Audio => f64::from(samples) * 90_000.0 / 48_000.0,
            };
            parts.push((length, end.segment));
            (start, samples) = (end.at, 0);
        }
    }
    parts
}

fn assert_sequence_and_clock(items: &[Item]) {
    assert!(items.iter().enumerate().all(|(n, item)| item.seq() == n as u64), "a hole in seq");
    for track in [Track::Video, Track::Audio] {
        for pair in units(items, track).windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert_eq!(a.dts + i64::from(a.duration), b.dts, "{track:?} has a hole or an overlap");
            assert!(a.stamp.segment.msn <= b.stamp.segment.msn, "msn went back");
            let new_segment = a.stamp.segment.msn != b.stamp.segment.msn;
            assert_eq!(new_segment, b.stamp.starts == Cut::Segment);
            assert_eq!(a.stamp.ends.is_some(), b.stamp.starts != Cut::None);
            assert_eq!(a.stamp.ends.is_some_and(|end| end.segment), new_segment);
            let expected = match b.stamp.starts {
                Cut::None => a.stamp.part.0,
                Cut::Part => a.stamp.part.0 + 1,
                Cut::Segment => 0,
            };
            assert_eq!(b.stamp.part.0, expected);
        }
    }
}

fn assert_parts(timeline: &Timeline, units: &[AccessUnit]) {
    let target = timeline.part_target().unwrap() as f64;
    let parts = parts(units);
    assert!(!parts.is_empty());
    for (n, (length, is_last)) in parts.into_iter().enumerate() {
        assert!(length <= target, "part {n}: {length} of {target}");
        assert!(is_last || length >= target * 0.85, "part {n}: {length} of {target}");
    }
}

fn assert_segments(video: &[AccessUnit], rate: FrameRate) {
    let frame = 90_000 * i64::from(rate.den) / i64::from(rate.num);
    let mut starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
    starts.dedup();
    for pair in starts.windows(2) {
        let length = pair[1] - pair[0];
        assert!(length <= 216_000 + frame, "segment of {length} ticks");
        assert!(length >= 85_000, "segment of {length} ticks");
    }
}

/// In presentation order no two frames in a row are left out, nor, within a segment, are two in a row kept.
fn assert_halving(video: &[AccessUnit], rate: FrameRate) {
    let mut order: Vec<_> = video.iter().map(|unit| MediaTime(unit.pts)).collect();
    order.sort();
    order.truncate(order.len() - 3); // the end may miss B-frames
    let mut starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
    starts.dedup();
    let kept: Vec<_> = order
        .iter()
        .filter_map(|pts| {
            let start = *starts.iter().rfind(|start| *start <= pts)?;
            Some((start, kept_by_halving(*pts, start, rate)))
        })
        .collect();
    for pair in kept.windows(2) {
        assert!(pair[0].1 || pair[1].1, "two frames in a row are left out");
        assert!(
            pair[0].0 != pair[1].0 || !(pair[0].1 && pair[1].1),
            "two frames in a row are kept"
        );
    }
}

fn assert_sound_follows_segments(items: &[Item]) {
    let mut segments = Vec::new();
    for item in items {
        let Item::Unit(unit) = item else { continue };
        if unit.track == Track::Video {
            if unit.stamp.starts == Cut::Segment {
                segments.push(unit.stamp.segment);
            }
            continue;
        }
        let begun =
            |start: MediaTime| i128::from(start.0) * 48_000 <= i128::from(unit.pts) * 90_000;
        let last = *segments.iter().rfind(|segment| begun(segment.start)).unwrap();
        assert_eq!(unit.stamp.segment, last, "sound lies in another segment than its time says");
    }
}

fn assert_all(source: &Source) {
    let (timeline, items) = publish(source);
    let (video, audio) = (units(&items, Track::Video), units(&items, Track::Audio));
    assert_eq!(video.len() as u32, source.frames, "frames were lost");
    assert_sequence_and_clock(&items);
    assert_segments(&video, source.rate);
    assert_parts(&timeline, &video);
    assert_parts(&timeline, &audio);
    assert_sound_follows_segments(&items);
    if is_halved(source.rate) {
        assert_halving(&video, source.rate);
    }
}

/// A whole publication, in a channel of low latency or not.
fn publish_to(low_latency: bool, source: &Source) -> (Timeline, Vec<Item>) {
    let mut timeline = Timeline::new(TimelineStart {
        utc: START,
        resume: None,
        low_latency,
        limits: SourceLimits::default(),
    });
    let mut messages = vec![(0, source.hints())];
    messages.extend(source.messages());
    let items = feed(&mut timeline, messages);
    (timeline, items)
}

/// Every part but a segment's last, of a publication at `fps` with keyframes each 2 s, in a channel of low latency or not.
fn part_target_of(fps: u32, low_latency: bool) -> i64 {
    let (timeline, items) = publish_to(low_latency, &Source::new(fps, 1, 2.0, 12.0));
    assert_sequence_and_clock(&items);
    for track in [Track::Video, Track::Audio] {
        assert_parts(&timeline, &units(&items, track));
    }
    timeline.part_target().unwrap()
}

#[test]
fn the_part_target_follows_rate_and_channel() {
    for (fps, ms) in [(24, 292), (25, 280), (30, 267), (50, 280), (60, 267)] {
        assert_eq!(part_target_of(fps, true), ms * 90, "{fps} fps");
        assert_eq!(part_target_of(fps, false), 376 * 90, "{fps} fps");
    }
    for fps in [10, 12, 15, 20] {
        assert_eq!(part_target_of(fps, false), 48_600, "{fps} fps");
    }
}

/// The shortest of the parts that end segments, from 25 s on, seconds.
fn shortest_last_part(units: Vec<AccessUnit>) -> f64 {
    let known = units[0].stamp.segment.start + 25 * 90_000;
    let known = units.into_iter().skip_while(|unit| unit.stamp.segment.start < known);
    let mut last = parts(&known.collect::<Vec<_>>());
    last.retain(|(_, is_last)| *is_last);
    last.pop(); // it ends with the publication
    assert!(last.len() > 10);
    last.iter().map(|(length, _)| length / 90_000.0).fold(f64::INFINITY, f64::min)
}

/// hls.js 1.7 takes a segment whose buffer ends less than 0.2 s before it for whole, and then never asks for its last part.
#[test]
fn no_segment_ends_with_a_short_part_once_the_distance_of_keyframes_is_known() {
    let distances = [1.0, 2.0, 2.1, 4.0, 8.0, 10.0].map(|gop_s| [(gop_s, 0), (gop_s, 2)]);
    for ((num, den), (gop_s, b_frames), low_latency) in RATES.into_iter().flat_map(|rate| {
        let sources = distances.into_iter().flatten();
        sources.flat_map(move |source| [(rate, source, false), (rate, source, true)])
    }) {
        let source = Source { b_frames, ..Source::new(num, den, gop_s, 60.0) };
        let items = publish_to(low_latency, &source).1;
        // A cut without a keyframe comes up to four frames early among B-frames.
        let bound = match (b_frames > 0 && gop_s > 2.4, low_latency) {
            (false, false) => 0.22,
            (false, true) => 0.19,
            (true, false) => 0.18,
            (true, true) => 0.04,
        };
        for track in [Track::Video, Track::Audio] {
            let shortest = shortest_last_part(units(&items, track));
            assert!(
                shortest > bound,
                "{num}/{den}, keyframes each {gop_s} s, {b_frames} B-frames, {track:?}, {low_latency}: {shortest} s"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_rate_jitter_and_keyframe_distance_is_cut_within_the_rules(
        rate in prop::sample::select(RATES.to_vec()),
        gop_seconds in prop::sample::select(vec![0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 4.0, 8.0, 10.4]),
        b_frames in 0_u32..=2,
        jitter_ms in 0_i64..=2,
        first_ms in prop::sample::select(vec![0, 77, u32::MAX - 5_000]),
    ) {
        let mut source = Source::new(rate.0, rate.1, gop_seconds, 30.0);
        (source.b_frames, source.jitter_ms, source.first_ms) = (b_frames, jitter_ms, first_ms);
        assert_all(&source);
    }
}

#[test]
fn keyframes_each_two_seconds_give_segments_of_two_seconds() {
    let mut source = Source::new(30, 1, 2.0, 30.0);
    source.jitter_ms = 2;
    let (_, items) = publish(&source);
    let video = units(&items, Track::Video);
    let starts = video.iter().filter(|unit| unit.stamp.starts == Cut::Segment);
    assert!(starts.clone().all(|unit| unit.idr && unit.pts == unit.stamp.segment.start.0));
    assert_eq!(starts.count(), 15);
}

#[test]
fn keyframes_each_eight_seconds_all_start_segments_and_the_rest_is_spread_evenly() {
    let source = Source::new(30, 1, 8.0, 40.0);
    let (_, items) = publish(&source);
    let video = units(&items, Track::Video);
    let mut starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
    starts.dedup();
    let known = starts.iter().position(|start| *start - starts[0] == 16 * 90_000).unwrap();
    assert!(starts[known..].windows(2).all(|pair| pair[1] - pair[0] == 2 * 90_000), "{starts:?}");
}

#[test]
fn segments_of_a_slow_source_are_no_longer_than_the_target_duration_either() {
    for (num, den) in [(1, 2), (2, 3), (1, 1), (5, 4), (3, 2), (9, 5), (2, 1)] {
        for gop_seconds in [2.0, 250.0] {
            let video = units(&publish(&Source::new(num, den, gop_seconds, 60.0)).1, Track::Video);
            let mut starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
            starts.dedup();
            // The rate is learnt from the first pictures.
            let known = starts.windows(2).skip(1).map(|pair| pair[1] - pair[0]);
            let longest = known.max().unwrap();
            assert!((90_000..225_000).contains(&longest), "{num}/{den} fps: {longest}");
        }
    }
}

#[test]
fn boundaries_are_as_even_as_the_frame_rate_although_b_frames_are_not() {
    let mut source = Source::new(30, 1, 2.0, 10.0);
    source.b_frames = 2;
    let (_, items) = publish(&source);
    let video = units(&items, Track::Video);
    let first = video[0].stamp.segment.start;
    assert!(video.iter().any(|unit| unit.pts - unit.dts > 3_000), "no B-frames in the test");
    for end in video.iter().filter_map(|unit| unit.stamp.ends) {
        assert_eq!((end.at - first) % 3_000, 0);
    }
}

#[test]
fn forced_cuts_fall_where_b_frames_let_every_rung_begin_with_the_same_picture() {
    for b_frames in 1..=3 {
        let mut source = Source::new(30, 1, 8.0, 26.0);
        source.b_frames = b_frames;
        let (_, items) = publish(&source);
        let video = units(&items, Track::Video);
        let mut latest = i64::MIN;
        let mut forced = 0;
        for segment in video.chunk_by(|a, b| a.stamp.segment.msn == b.stamp.segment.msn) {
            let start = segment[0].stamp.segment.start.0;
            let first = segment.iter().map(|unit| unit.pts).min().unwrap();
            assert!(
                first == start && latest < start,
                "{b_frames} B-frames: {latest} {start} {first}"
            );
            latest = segment.iter().map(|unit| unit.pts).max().unwrap();
            forced += usize::from(!segment[0].idr);
            assert!(latest + 3_000 - start < 90_000 * 5 / 2, "longer than its target rounds to");
        }
        assert!(forced > 6, "{forced}");
    }
}

#[test]
fn it_is_known_to_a_few_milliseconds_when_the_picture_comes_that_begins_the_next_part() {
    for (num, den) in RATES {
        let source = Source { jitter_ms: 1, ..Source::new(num, den, 2.0, 12.0) };
        let mut timeline = timeline();
        feed(&mut timeline, [(0, source.hints())]);
        let (mut parts, mut end_ms) = (0, 0);
        for (at_ms, input) in source.messages() {
            let due = timeline.next_part_due();
            assert!(at_ms > 2_000 || due.is_none(), "the first part has no time to lose");
            let items = feed(&mut timeline, [(at_ms, input)]);
            // Until then the distance of keyframes is not known.
            let has_begun =
                units(&items, Track::Video).iter().any(|unit| unit.stamp.ends.is_some());
            if has_begun && at_ms > 5_000 {
                let early_ms = i128::from(at_ms) - due.unwrap().0.as_millis() as i128;
                assert!((-5..=5).contains(&early_ms), "{num}/{den}: {early_ms} ms off at {at_ms}");
                parts += 1;
            }
            end_ms = at_ms;
        }
        assert!(parts >= 18, "{num}/{den}: {parts} parts in 7 s");
        feed(&mut timeline, [(end_ms, Input::PublisherLeft)]);
        assert_eq!(timeline.next_part_due(), None, "nobody sends");
    }
}
