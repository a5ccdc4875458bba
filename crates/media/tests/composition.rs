//! Composition times, and pictures beside the time that they say: what a decoder and a player are then given.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use millrace_media::{AccessUnit, Input, Item, Track};
use publisher::{Source, feed, timeline, units, video_body};

fn is_contiguous(units: &[AccessUnit]) -> bool {
    units.windows(2).all(|pair| pair[0].dts + i64::from(pair[0].duration) == pair[1].dts)
}

/// Moves the composition time of every picture by `by_ms`, or that of some to `absurd`.
fn recomposed(source: &Source, of: impl Fn(u32, i32) -> i32) -> Vec<(u32, Input)> {
    let mut number = 0;
    let message = |(at, input)| match input {
        Input::Video { timestamp_ms, body } if body[1] == 1 => {
            let composition = i32::from_be_bytes([0, body[2], body[3], body[4]]);
            let body = video_body(body[0] == 0x17, of(number, composition), number);
            number += 1;
            (at, Input::Video { timestamp_ms, body })
        }
        other => (at, other),
    };
    let headers = source.messages().into_iter().map(message);
    headers.chain([(source.frames * 34, Input::PublisherLeft)]).collect()
}

/// Presentation times in the order of decoding, relative to the first, ticks; no two are alike, none lies before decoding, and
/// decoding goes on without holes.
fn shown(items: &[Item]) -> Vec<i64> {
    let video = units(items, Track::Video);
    assert!(is_contiguous(&video));
    assert!(video.iter().all(|unit| unit.duration > 0 && unit.pts >= unit.dts));
    let shown: Vec<_> = video.iter().map(|unit| unit.pts - video[0].pts).collect();
    let distinct: std::collections::BTreeSet<_> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "two pictures are shown at once");
    shown
}

#[test]
fn negative_composition_times_lower_decoding_and_leave_every_picture_where_it_is_shown() {
    for b_frames in 1..=3 {
        let source = Source { b_frames, ..Source::new(30, 1, 2.0, 12.0) };
        let plain = shown(&feed(&mut timeline(), recomposed(&source, |_, ms| ms)));
        for by_ms in [33, 66] {
            let items = feed(&mut timeline(), recomposed(&source, |_, ms| ms - by_ms));
            let moved = shown(&items);
            assert_eq!(moved.len(), 360);
            let is_near = |(a, b): (&i64, &i64)| (a - b).abs() <= 90;
            assert!(moved.iter().zip(&plain).all(is_near), "{b_frames} B-frames, {by_ms} ms");
        }
    }
}

#[test]
fn as_many_b_frames_as_h264_allows_leave_every_picture_where_it_is_shown() {
    for (b_frames, ahead_ms) in [(14, 0), (16, 0), (16, 34)] {
        let source = Source { b_frames, ..Source::new(30, 1, 2.0, 12.0) };
        let items = feed(&mut timeline(), recomposed(&source, |_, ms| ms + ahead_ms));
        let mut shown = shown(&items);
        shown.sort_unstable();
        let is_even = |pair: &[i64]| (pair[1] - pair[0] - 3_000).abs() <= 90;
        assert!(shown.windows(2).all(is_even), "{b_frames} B-frames: {shown:?}");
    }
}

#[test]
fn an_absurd_composition_time_harms_no_other_picture() {
    for (b_frames, absurd) in [(0, 0x7f_ffff), (2, 0x7f_ffff), (2, -0x7f_ffff), (0, -5_000)] {
        let source = Source { b_frames, ..Source::new(30, 1, 2.0, 12.0) };
        let plain = shown(&feed(&mut timeline(), recomposed(&source, |_, ms| ms)));
        let strange = |n: u32, ms| if n % 40 == 39 { absurd } else { ms };
        let moved = shown(&feed(&mut timeline(), recomposed(&source, strange)));
        let wrong = plain.iter().zip(&moved).filter(|(a, b)| a != b);
        assert!(wrong.clone().count() <= 9, "{b_frames} B-frames, {absurd}");
        assert!(
            wrong.clone().all(|(a, b)| (a - b).abs() <= 4 * 3_000),
            "{b_frames} B-frames, {absurd}"
        );
    }
}

#[test]
fn timestamps_that_step_back_a_little_leave_decoding_in_order_and_boundaries_too() {
    for b_frames in [0, 2] {
        let source = Source { b_frames, ..Source::new(30, 1, 2.0, 20.0) };
        let mut n = 0_u32;
        let back = |(at, input)| match input {
            Input::Video { timestamp_ms, body } if body[1] == 1 => {
                n += 1;
                let by = [0, 20, 60, 90][(n.wrapping_mul(2_654_435_761) >> 13) as usize % 4];
                (at, Input::Video { timestamp_ms: (timestamp_ms + 1_000 - by), body })
            }
            Input::Audio { timestamp_ms, body } => {
                (at, Input::Audio { timestamp_ms: timestamp_ms + 1_000, body })
            }
            other => (at, other),
        };
        let items = feed(&mut timeline(), source.messages().into_iter().map(back));
        assert_eq!(shown(&items).len(), 599);
        let ends: Vec<_> =
            units(&items, Track::Video).iter().filter_map(|unit| unit.stamp.ends).collect();
        assert!(
            ends.windows(2).all(|pair| pair[0].at < pair[1].at),
            "a part ends before it begins"
        );
    }
}
