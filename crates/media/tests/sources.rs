//! What strange, broken and changing publishers become.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use bytes::Bytes;
use millrace_media::{
    AccessUnit, Cut, Input, Item, SourceHints, SourceLimits, Timeline, TimelineStart, Track,
};
use millrace_types::{FrameRate, MediaTime, Mono, Msn, RefusalReason, Wall};
use publisher::{
    ASC_48K_STEREO, AVCC, OTHER_AVCC, START, Source, audio_body, audio_configs, audio_header, feed,
    number_of, publish, timeline, units, video_body, video_configs, video_header,
};

const SECOND: i64 = 90_000;

fn numbers(items: &[Item]) -> Vec<u32> {
    units(items, Track::Video).iter().map(number_of).collect()
}

fn is_contiguous(units: &[AccessUnit]) -> bool {
    units.windows(2).all(|pair| pair[0].dts + i64::from(pair[0].duration) == pair[1].dts)
}

fn is_silence(unit: &AccessUnit) -> bool {
    unit.bytes != audio_body().slice(2..)
}

/// Moves the timestamps of the messages from `from_ms` on by `by_ms`, but not the moments they come at.
fn shifted(source: &Source, from_ms: u32, by_ms: i64) -> Vec<(u32, Input)> {
    let shift = |timestamp: u32, at: u32| {
        if at >= from_ms { timestamp.wrapping_add(by_ms as u32) } else { timestamp }
    };
    let message = |(at, input)| match input {
        Input::Video { timestamp_ms, body } => {
            (at, Input::Video { timestamp_ms: shift(timestamp_ms, at), body })
        }
        Input::Audio { timestamp_ms, body } => {
            (at, Input::Audio { timestamp_ms: shift(timestamp_ms, at), body })
        }
        other => (at, other),
    };
    source.messages().into_iter().map(message).collect()
}

#[test]
fn a_stream_starts_at_utc_with_its_second_as_msn_and_describes_itself_first() {
    let (timeline, items) = publish(&Source::new(30, 1, 2.0, 3.0));
    assert!(matches!(items[0], Item::Config(_)) && matches!(items[1], Item::Config(_)));
    let first = &units(&items, Track::Video)[0];
    assert_eq!(first.stamp.segment.msn, Msn(START.unix_seconds()));
    assert_eq!(first.stamp.segment.start, MediaTime::from_wall(START));
    assert_eq!(video_configs(&items)[0].codecs, "avc1.64000d");
    assert_eq!(audio_configs(&items)[0].codecs, "mp4a.40.2");
    assert_eq!(timeline.stats().dropped_frames, 0);
}

#[test]
fn a_picture_is_out_one_frame_after_it_came() {
    let source = Source::new(30, 1, 2.0, 2.0);
    let mut timeline = timeline();
    timeline.handle(Mono::default(), source.hints()).unwrap();
    for (at, input) in source.messages() {
        let is_frame = |input: &Input| matches!(input, Input::Video { body, .. } if body[1] == 1);
        let number = if is_frame(&input) { (at * 3 + 50) / 100 } else { 0 };
        let items = feed(&mut timeline, [(at, input)]);
        if number > 0 {
            assert_eq!(numbers(&items), [number - 1]);
        }
    }
}

#[test]
fn clock_jumps_of_both_tracks_leave_no_trace() {
    for by_ms in [-600_000, -1_500, 4_000, 3_000_000] {
        let source = Source::new(30, 1, 2.0, 12.0);
        let items = feed(&mut timeline(), shifted(&source, 5_010, by_ms));
        let (video, audio) = (units(&items, Track::Video), units(&items, Track::Audio));
        assert!(is_contiguous(&video) && is_contiguous(&audio), "{by_ms} ms");
        assert_eq!(video.len(), 359);
        assert!(audio.iter().all(|unit| unit.stamp.segment.discontinuity == 0));
        assert!(audio.iter().filter(|unit| is_silence(unit)).count() <= 1, "{by_ms} ms");
    }
}

#[test]
fn a_small_step_back_is_clamped() {
    let source = Source::new(30, 1, 2.0, 8.0);
    let (mut timeline, messages) = (timeline(), shifted(&source, 5_010, -60));
    let items = feed(&mut timeline, messages);
    let video = units(&items, Track::Video);
    assert!(video.windows(2).all(|pair| pair[0].dts < pair[1].dts));
    assert_eq!(video.len(), 239);
    assert_eq!(timeline.stats().clock_shifts, 0);
}

#[test]
fn a_publisher_without_sound_gets_silence_without_holes() {
    let mut source = Source::new(30, 1, 2.0, 20.0);
    source.sound = false;
    for hints in [source.hints(), Input::Metadata(SourceHints::default())] {
        let mut messages = vec![(0, hints)];
        messages.extend(source.messages());
        let items = feed(&mut timeline(), messages);
        let (video, audio) = (units(&items, Track::Video), units(&items, Track::Audio));
        assert!(is_contiguous(&audio) && audio.iter().all(is_silence));
        let first = MediaTime::from_timescale(audio[0].pts, 48_000);
        assert!(first - video[0].stamp.segment.start <= 1);
        let end = MediaTime::from_timescale(audio[audio.len() - 1].pts, 48_000);
        assert!(video[video.len() - 1].pts - end.0 < SECOND / 10);
    }
}

#[test]
fn sound_that_stops_is_replaced_and_comes_back_in_step() {
    let source = Source::new(30, 1, 2.0, 20.0);
    let gone = 5_000..10_000;
    let messages = source
        .messages()
        .into_iter()
        .filter(|(at, input)| !(matches!(input, Input::Audio { .. }) && gone.contains(at)));
    let mut timeline = timeline();
    let items = feed(&mut timeline, messages);
    let audio = units(&items, Track::Audio);
    assert!(is_contiguous(&audio));
    let silent = audio.iter().filter(|unit| is_silence(unit)).count();
    assert!((230..=245).contains(&silent), "{silent} frames of silence in 5 s");
    let first_sent = MediaTime::from_wall(START).in_timescale(48_000);
    let off = |unit: &&AccessUnit| {
        let frames = (unit.pts - first_sent) as f64 / 1_024.0;
        (frames - frames.round()).abs() * 1_024.0 / 48.0
    };
    let worst =
        audio.iter().filter(|unit| !is_silence(unit)).map(|unit| off(&unit)).fold(0.0, f64::max);
    assert!(worst <= 12.0, "sound is {worst} ms off");
    assert!(timeline.stats().late_audio_frames <= 3);
}

#[test]
fn sound_that_always_comes_late_is_heard_after_the_first_seconds() {
    let source = Source::new(30, 1, 2.0, 30.0);
    let mut messages: Vec<_> = source.messages();
    let arrival = |(at, input): &(u32, Input)| match input {
        Input::Audio { body, .. } if body[1] == 1 => at + 800,
        _ => *at,
    };
    messages.sort_by_key(arrival);
    let items = feed(&mut timeline(), messages);
    let audio = units(&items, Track::Audio);
    assert!(is_contiguous(&audio));
    let settled = &audio[audio.len() / 3..];
    assert!(settled.iter().all(|unit| !is_silence(unit)));
}

#[test]
fn an_hour_of_sound_in_steps_of_21_and_22_ms_does_not_drift() {
    let mut timeline = timeline();
    let source = Source::new(10, 1, 2.0, 1.0);
    let mut messages =
        vec![source.video(0, video_header(AVCC)), source.audio(0, audio_header(ASC_48K_STEREO))];
    let frames_of_sound = 3_600 * 48_000 / 1_024;
    messages
        .extend((0..36_000).map(|n| source.video(n * 100, video_body(n % 20 == 0, 0, n as u32))));
    messages.extend((0..frames_of_sound).map(|n| source.audio(n * 1_024 / 48, audio_body())));
    messages.sort_by_key(|(at, _)| *at);
    let items = feed(&mut timeline, messages);
    let audio = units(&items, Track::Audio);
    assert!(is_contiguous(&audio) && !audio.iter().any(is_silence));
    assert_eq!(timeline.stats().late_audio_frames, 0);
    assert!(audio.len() as i64 >= frames_of_sound - 10);
}

#[test]
fn sound_alone_is_cut_each_two_seconds() {
    let mut timeline = timeline();
    let source = Source::new(30, 1, 2.0, 1.0);
    let mut messages = vec![source.audio(0, audio_header(ASC_48K_STEREO))];
    messages.extend((0..700).map(|n| source.audio(n * 1_024 / 48, audio_body())));
    let items = feed(&mut timeline, messages);
    let audio = units(&items, Track::Audio);
    assert!(is_contiguous(&audio) && units(&items, Track::Video).is_empty());
    assert_eq!(audio.len(), 700);
    let starts: Vec<_> = audio
        .iter()
        .filter(|unit| unit.stamp.starts == Cut::Segment)
        .map(|unit| unit.pts)
        .collect();
    assert_eq!(starts.len(), 8);
    assert!(starts.windows(2).all(|pair| (96_000..96_000 + 1_024).contains(&(pair[1] - pair[0]))));
    let ends = audio.iter().filter(|unit| unit.stamp.ends.is_some_and(|end| end.segment));
    assert_eq!(ends.count(), 7);
}

#[test]
fn pictures_that_an_encoder_drops_stretch_the_one_before() {
    let source = Source::new(30, 1, 2.0, 10.0);
    let lost = |at: u32| (3_050..3_190).contains(&at) || (7_010..7_050).contains(&at);
    let messages = source
        .messages()
        .into_iter()
        .filter(|(at, input)| !(matches!(input, Input::Video { .. }) && lost(*at)));
    let mut timeline = timeline();
    let items = feed(&mut timeline, messages);
    let video = units(&items, Track::Video);
    assert!(is_contiguous(&video));
    let longest_part = timeline.part_target().unwrap();
    let ends: Vec<_> =
        video.iter().filter(|unit| unit.stamp.starts != Cut::None).map(|unit| unit.pts).collect();
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] <= longest_part));
}

#[test]
fn behind_a_hole_in_the_pictures_a_part_starts_with_its_own_decode_time() {
    let source = Source::new(30, 1, 8.0, 10.0);
    let messages = source.messages().into_iter().filter(|(at, input)| {
        !(matches!(input, Input::Video { .. }) && (3_050..4_000).contains(at))
    });
    let items = feed(&mut timeline(), messages);
    let video = units(&items, Track::Video);
    let end = |unit: &AccessUnit| unit.dts + i64::from(unit.duration);
    let behind: Vec<_> = video
        .windows(2)
        .filter(|pair| end(&pair[0]) != pair[1].dts)
        .map(|pair| pair[1].stamp)
        .collect();
    assert_eq!(behind.len(), 1);
    assert_ne!(behind[0].starts, Cut::None);
    assert!(is_contiguous(&units(&items, Track::Audio)));
}

#[test]
fn a_segment_ends_with_its_last_picture_before_a_hole_and_the_next_begins_with_the_hole() {
    let source = Source::new(30, 1, 8.0, 10.0);
    let messages = source.messages().into_iter().filter(|(at, input)| {
        !(matches!(input, Input::Video { .. }) && (3_600..5_500).contains(at))
    });
    let items = feed(&mut timeline(), messages);
    let video = units(&items, Track::Video);
    let end = |unit: &AccessUnit| unit.dts + i64::from(unit.duration);
    let hole = video.windows(2).position(|pair| end(&pair[0]) != pair[1].dts).unwrap();
    let (before, behind) = (&video[hole], &video[hole + 1]);
    assert_eq!(behind.stamp.starts, Cut::Segment);
    let start = behind.stamp.segment.start.0;
    assert!((end(before)..end(before) + 3_000).contains(&start) && behind.pts - start > 160_000);
    let starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] < 90_000 * 5 / 2), "a segment too long");
}

#[test]
fn one_picture_a_second_leaves_no_hole() {
    let source = Source::new(30, 1, 2.0, 1.0);
    let mut messages =
        vec![source.video(0, video_header(AVCC)), source.audio(0, audio_header(ASC_48K_STEREO))];
    messages.extend((0..20).map(|n| source.video(n * 1_000, video_body(n % 2 == 0, 0, n as u32))));
    messages.extend((0..900).map(|n| source.audio(n * 1_024 / 48, audio_body())));
    messages.sort_by_key(|(at, _)| *at);
    let items = feed(&mut timeline(), messages);
    let video = units(&items, Track::Video);
    assert!(is_contiguous(&video[2..]) && video.len() >= 18, "{}", video.len());
    assert!(is_contiguous(&units(&items, Track::Audio)));
}

#[test]
fn a_variable_frame_rate_keeps_its_times_within_segments_and_parts() {
    let source = Source::new(30, 1, 2.0, 1.0);
    let mut messages = vec![source.video(0, video_header(AVCC))];
    let mut at = 0;
    for n in 0..600_u32 {
        messages.push(source.video(at, video_body(n % 60 == 0, 0, n)));
        at += [33, 41, 50, 29, 67, 38][(n.wrapping_mul(2_654_435_761) >> 13) as usize % 6];
    }
    let mut timeline = timeline();
    timeline.handle(Mono::default(), Input::Metadata(SourceHints::default())).unwrap();
    let items = feed(&mut timeline, messages);
    let video = units(&items, Track::Video);
    assert_eq!(numbers(&items), (0..599).collect::<Vec<_>>());
    assert!(is_contiguous(&video));
    let mut starts: Vec<_> = video.iter().map(|unit| unit.stamp.segment.start).collect();
    starts.dedup();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] < 5 * SECOND / 2));
    let parts: Vec<_> =
        video.iter().filter(|unit| unit.stamp.starts != Cut::None).map(|unit| unit.pts).collect();
    let target = timeline.part_target().unwrap();
    assert!(parts.windows(2).all(|pair| pair[1] - pair[0] <= target));
}

#[test]
fn a_rate_that_nothing_tells_is_detected_from_the_first_pictures() {
    let source = Source::new(25, 1, 2.0, 4.0);
    let mut bare = OTHER_AVCC.to_vec();
    // vui_parameters_present_flag is the bit before the last byte's trailing ones; without it the set ends there.
    bare.truncate(8 + 10);
    bare[7] = 10;
    bare.extend([1, 0, 4, 0x68, 0xce, 0x0f, 0xc8]);
    let messages = source.messages().into_iter().map(|(at, input)| match input {
        Input::Video { timestamp_ms, body } if body[1] == 0 => {
            (at, Input::Video { timestamp_ms, body: video_header(&bare) })
        }
        other => (at, other),
    });
    let items = feed(&mut timeline(), messages);
    let config = &video_configs(&items)[0];
    assert_eq!(config.frame_rate, FrameRate { num: 25, den: 1 });
    assert_eq!(units(&items, Track::Video).len(), 99);
}

#[test]
fn time_ticks_on_when_only_the_pictures_stop_and_no_unit_breaks_its_promise() {
    let source = Source::new(30, 1, 2.0, 20.0);
    let messages = source.messages().into_iter().filter(|(at, input)| {
        !(matches!(input, Input::Video { .. }) && (5_000..12_000).contains(at))
    });
    let items = feed(&mut timeline(), messages);
    let mut promised = MediaTime(0);
    let mut ticks = 0;
    for item in &items {
        match item {
            Item::Tick(tick) => (promised, ticks) = (tick.to, ticks + 1),
            Item::Unit(unit) => {
                let timescale = if unit.track == Track::Video { 90_000 } else { 48_000 };
                let pts = MediaTime::from_timescale(unit.pts, timescale);
                assert!(
                    pts - promised > -2_000,
                    "{:?} {} before the tick",
                    unit.track,
                    pts - promised
                );
            }
            Item::Config(_) => {}
        }
    }
    assert!(ticks >= 4, "{ticks} ticks in 7 s");
    assert!(is_contiguous(&units(&items, Track::Audio)));
}

/// Items of a source none of whose pictures come from `from_ms` until `to_ms`, and the numbers of those that do.
fn without_pictures(source: &Source, (from_ms, to_ms): (u32, u32)) -> (Vec<Item>, Vec<u32>) {
    let lost = |at: u32, input: &Input| {
        matches!(input, Input::Video { .. }) && (from_ms..to_ms).contains(&at)
    };
    let messages = source.messages().into_iter().filter(|(at, input)| !lost(*at, input));
    let (mut timeline, mut items) = (timeline(), Vec::new());
    timeline.handle(Mono::default(), source.hints()).unwrap();
    items.extend(feed(&mut timeline, messages));
    timeline.handle(Mono::default(), Input::PublisherLeft).unwrap();
    items.extend(std::iter::from_fn(|| timeline.poll()));
    let ms = |n: u32| (f64::from(n) * 1_000.0 / source.rate.fps()).round() as u32;
    let sent = (0..source.frames).filter(|n| !(from_ms..to_ms).contains(&ms(*n))).collect();
    (items, sent)
}

#[test]
fn segments_go_on_in_the_sound_when_only_the_pictures_stop_and_none_becomes_too_long() {
    for (fps, b_frames) in [(30, 0), (30, 2), (60, 0), (25, 1)] {
        for gap in (0..40).map(|n| (5_000 + n * 130, 8_000 + n * 370)) {
            let source = Source { b_frames, ..Source::new(fps, 1, 2.0, 26.0) };
            let (items, sent) = without_pictures(&source, gap);
            let what = format!("{fps} fps, {b_frames} B-frames, {gap:?} ms");
            assert_eq!(numbers(&items), sent, "{what}");
            let (video, audio) = (units(&items, Track::Video), units(&items, Track::Audio));
            assert!(is_contiguous(&audio), "{what}");
            let mut lengths = std::collections::BTreeMap::<Msn, i64>::new();
            for unit in &audio {
                *lengths.entry(unit.stamp.segment.msn).or_default() += i64::from(unit.duration);
            }
            let too_long = 48_000 * 5 / 2;
            assert!(lengths.values().all(|samples| *samples < too_long), "{what}: {lengths:?}");
            let msns: Vec<_> = lengths.keys().map(|msn| msn.0).collect();
            assert!(msns.windows(2).all(|pair| pair[1] == pair[0] + 1), "{what}: {msns:?}");
            let mut last = None;
            for unit in &video {
                let (segment, is_first) = (unit.stamp.segment, unit.stamp.starts == Cut::Segment);
                assert_eq!(is_first, last != Some(segment.msn), "{what}: {:?}", unit.stamp);
                assert!(last <= Some(segment.msn) && lengths.contains_key(&segment.msn), "{what}");
                assert!(unit.pts - segment.start.0 < 90_000 * 5 / 2, "{what}: {:?}", unit.stamp);
                let is_kept = millrace_media::kept_by_halving(
                    MediaTime(unit.pts),
                    segment.start,
                    source.rate,
                );
                assert!(!is_first || fps < 50 || is_kept, "{what}: {:?}", unit.stamp);
                last = Some(segment.msn);
            }
        }
    }
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_reason() {
    let refusal = |body: Bytes, sound: bool| {
        let input = match sound {
            true => Input::Audio { timestamp_ms: 0, body },
            false => Input::Video { timestamp_ms: 0, body },
        };
        timeline().handle(Mono::default(), input).unwrap_err().refusal()
    };
    assert_eq!(refusal(Bytes::from_static(b"\x12\0\0\0\0"), false), RefusalReason::VideoCodec);
    assert_eq!(refusal(Bytes::from_static(b"\x2f\0"), true), RefusalReason::AudioCodec);
    assert_eq!(refusal(video_header(b"\x01rubbish"), false), RefusalReason::Undecodable);
    let mut small = Timeline::new(TimelineStart {
        utc: Wall(0),
        resume: None,
        low_latency: false,
        limits: SourceLimits { long_side: 320, ..SourceLimits::default() },
    });
    let header = Input::Video { timestamp_ms: 0, body: video_header(AVCC) };
    assert_eq!(
        small.handle(Mono::default(), header).unwrap_err().refusal(),
        RefusalReason::SourceLimit
    );
}

#[test]
fn broken_pictures_are_dropped_and_only_many_in_a_row_are_refused() {
    let source = Source::new(30, 1, 2.0, 4.0);
    let mut timeline = timeline();
    feed(&mut timeline, source.messages());
    let broken = || Input::Video {
        timestamp_ms: 4_000,
        body: Bytes::from_static(b"\x27\x01\0\0\0\0\0\xff\xff\x41"),
    };
    let refused =
        (0..200).map(|_| timeline.handle(Mono::default(), broken())).find_map(Result::err);
    assert_eq!(refused.map(|error| error.refusal()), Some(RefusalReason::Undecodable));
    assert!(timeline.stats().dropped_frames > 100);
}

#[test]
fn health_is_measured_on_what_the_publisher_sends() {
    let (timeline, _) = publish(&Source::new(30, 1, 4.0, 20.0));
    let stats = timeline.stats();
    assert!((stats.fps - 30.0).abs() < 0.5, "{}", stats.fps);
    let expected = 8 * (30 * 9 + 47 * 7);
    assert!(stats.bitrate_bps.abs_diff(expected) < expected / 10, "{}", stats.bitrate_bps);
    assert_eq!((stats.keyframe_last_ms, stats.keyframe_longest_ms), (Some(4_000), Some(4_000)));
    assert!(stats.audio_ahead_ms.abs() < 50 && stats.regular_frame_rate);
}
