//! What a successor is fed after a death, out of real publications.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_media::{Input, Item, Replay, Timeline, Track, TrackConfig};
use millrace_types::{Mark, MediaTime, Msn, PartNo};
use publisher::{Source, feed, publish, timeline, units};

const SECOND: i64 = 90_000;

fn mark(rung: &str, end: MediaTime) -> Mark {
    Mark { rung: rung.parse().unwrap(), msn: Msn(1), part: PartNo(0), end, closed: false }
}

fn filled(items: &[Item], max_bytes: usize) -> Replay {
    let mut replay = Replay::new(max_bytes);
    items.iter().for_each(|item| replay.push(item));
    replay
}

#[test]
fn a_successor_is_fed_from_the_idr_that_covers_the_rung_that_is_furthest_behind() {
    let (_, items) = publish(&Source::new(30, 1, 2.0, 10.0));
    let start = units(&items, Track::Video)[0].stamp.segment.start;
    let replay = filled(&items, usize::MAX);
    let marks = [mark("source", start + 7 * SECOND), mark("audio", start + 5 * SECOND)];
    let fed: Vec<_> = replay.from(&marks).collect();
    let is_config =
        |item: &Item, track| matches!(item, Item::Config(config) if config.track.track() == track);
    assert!(is_config(&fed[0], Track::Video) && is_config(&fed[1], Track::Audio));
    let Item::Unit(first) = &fed[2] else { panic!("{:?}", fed[2]) };
    assert!(first.idr && first.pts == start.0 + 4 * SECOND);
    let expected: Vec<_> = items.iter().filter(|item| item.seq() >= first.seq).cloned().collect();
    assert_eq!(fed[2..], expected);
    let sound: Vec<_> = units(&fed, Track::Audio);
    assert!(
        MediaTime::from_timescale(sound[0].pts, 48_000) < start + 5 * SECOND,
        "sound behind its mark is missing"
    );
}

#[test]
fn what_every_rung_has_published_is_forgotten_and_the_descriptions_stay() {
    let (_, items) = publish(&Source::new(30, 1, 2.0, 10.0));
    let start = units(&items, Track::Video)[0].stamp.segment.start;
    let mut replay = filled(&items, usize::MAX);
    let all = replay.bytes();
    replay.release(&[mark("source", start + 9 * SECOND), mark("720p", start + 8 * SECOND)]);
    assert!(replay.bytes() < all / 3 && replay.is_lossless());
    let fed: Vec<_> = replay.from(&[]).collect();
    assert_eq!(units(&fed, Track::Video).len(), 60);
    assert_eq!(fed.iter().filter(|item| matches!(item, Item::Config(_))).count(), 2);
}

#[test]
fn a_buffer_without_release_is_bounded_by_time_and_says_what_it_lost() {
    let (_, items) = publish(&Source::new(30, 1, 2.0, 60.0));
    let mut replay = filled(&items, usize::MAX);
    assert!(replay.span() <= 12 * SECOND && replay.lost_gops() > 20 && !replay.is_lossless());
    let fed: Vec<_> = replay.from(&[]).collect();
    let first = units(&fed, Track::Video)[0].clone();
    assert!(first.idr);
    replay.release(&[mark("source", MediaTime(first.pts))]);
    assert!(replay.is_lossless(), "what was lost is published meanwhile");
}

#[test]
fn long_gops_are_kept_three_deep_and_bytes_bound_everything() {
    let (_, items) = publish(&Source::new(30, 1, 8.0, 60.0));
    assert_eq!(filled(&items, usize::MAX).span(), 16 * SECOND);
    let small = filled(&items, 1_000);
    assert!(small.bytes() <= 1_000 && !small.is_lossless());
    let fed: Vec<_> = small.from(&[]).collect();
    assert!(units(&fed, Track::Video).first().is_none_or(|unit| unit.idr));
    assert!(
        matches!(&fed[0], Item::Config(config) if matches!(config.track, TrackConfig::Video(_)))
    );
}

#[test]
fn units_of_any_size_are_fed_again_byte_for_byte() {
    let (_, mut items) = publish(&Source::new(30, 1, 2.0, 10.0));
    let mut size = 7;
    for item in &mut items {
        if let Item::Unit(unit) = item {
            size = size * 31 % 50_021;
            unit.bytes =
                (0..size).map(|at| (at ^ unit.seq as usize) as u8).collect::<Vec<_>>().into();
        }
    }
    let replay = filled(&items, usize::MAX);
    let first = replay.oldest().unwrap();
    let held: Vec<_> = items.iter().filter(|item| item.seq() >= first).cloned().collect();
    let fed: Vec<_> = replay.from(&[]).filter(|item| item.seq() >= first).collect();
    assert_eq!(fed, held);
    for seq in [0, first + 1, first + 100, first + 401] {
        let later = items.iter().filter(|item| item.seq() >= seq.max(first)).cloned();
        assert!(replay.since(seq).eq(later), "since {seq}");
    }
    let media: usize =
        units(&held, Track::Video).iter().map(|unit| unit.bytes.len()).sum::<usize>()
            + units(&held, Track::Audio).iter().map(|unit| unit.bytes.len()).sum::<usize>();
    let known = replay.bytes() - media;
    assert!(known <= 36 * held.len(), "{known} bytes beside the media of {} items", held.len());
}

/// Messages of a publisher whose pictures are of all sizes.
fn messages_of_all_sizes() -> Vec<(u32, Input)> {
    let (mut messages, mut size) = (Source::new(30, 1, 2.0, 20.0).messages(), 7);
    for (_, input) in &mut messages {
        if let Input::Video { body, .. } = input
            && body[1] == 1
        {
            size = size * 31 % 50_021;
            let mut sized = BytesMut::from(&body[..5]);
            sized.put_u32(size as u32 + 5);
            sized.put_slice(&body[9..]);
            sized.extend((0..size).map(|at| (at ^ size) as u8));
            *body = sized.freeze();
        }
    }
    messages
}

/// Feeds messages; the picture that waits for the next one's time waits in the buffer.
fn feed_and_hold(
    timeline: &mut Timeline,
    messages: &[(u32, Input)],
    replay: &mut Replay,
) -> Vec<Item> {
    let mut items = Vec::new();
    for message in messages {
        for mut item in feed(timeline, [message.clone()]) {
            replay.push(&item);
            if let Item::Unit(unit) = &mut item
                && unit.bytes.is_empty()
            {
                unit.bytes = replay.held().collect::<Vec<_>>().concat().into();
                assert_eq!(replay.held_bytes(), Some(unit.bytes.len()));
            }
            items.push(item);
        }
        replay.hold(timeline.held_bytes());
        let left = timeline.held_bytes().is_some_and(|bytes| !bytes.is_empty());
        assert!(!left || replay.oldest().is_none(), "it is kept twice");
    }
    items
}

#[test]
fn a_picture_may_wait_in_the_buffer_for_the_next_ones_time() {
    let messages = messages_of_all_sizes();
    let mut plain = timeline();
    let expected = feed(&mut plain, messages.clone());
    let start = units(&expected, Track::Video)[0].stamp.segment.start;
    for released in [None, Some(3), Some(11), Some(17)] {
        let marks = released.map(|at| mark("source", start + at * SECOND));
        let (mut replay, mut timeline) = (Replay::new(usize::MAX), timeline());
        let mut items = Vec::new();
        for (number, some) in messages.chunks(200).enumerate() {
            items.extend(feed_and_hold(&mut timeline, some, &mut replay));
            if number == 5 {
                replay.release(marks.as_slice());
            }
        }
        assert_eq!(items, expected);
        let mut without = filled(&expected, usize::MAX);
        replay.release(marks.as_slice());
        without.release(marks.as_slice());
        let first = replay.oldest().unwrap();
        assert_eq!(without.oldest(), Some(first));
        for seq in [0, first, first + 1, first + 500, first + 501, first + 502] {
            assert!(replay.since(seq).eq(without.since(seq)), "since {seq}");
        }
        for at in [9, 12, 15] {
            let marks = [mark("source", start + at * SECOND)];
            assert!(replay.from(&marks).eq(without.from(&marks)), "from {at} s");
        }
    }
}

#[test]
fn what_waits_in_the_buffer_is_not_lost_with_what_its_bounds_do_not_allow() {
    let messages = messages_of_all_sizes();
    let expected = feed(&mut timeline(), messages.clone());
    for max_bytes in [1, 10_000, 100_000, 1_000_000] {
        let (mut replay, mut timeline) = (Replay::new(max_bytes), timeline());
        for (number, some) in messages.chunks(10).enumerate() {
            let items = feed_and_hold(&mut timeline, some, &mut replay);
            assert!(items.iter().all(|item| expected.contains(item)), "after {number}");
            assert!(replay.bytes() <= max_bytes + 51_000, "a picture more at most");
        }
        assert!(!replay.is_lossless());
        let fed: Vec<_> = replay.from(&[]).collect();
        assert!(fed.iter().all(|item| expected.contains(item)));
    }
}

#[test]
fn what_comes_while_a_picture_waits_in_the_buffer_keeps_its_order() {
    let (_, items) = publish(&Source::new(30, 1, 2.0, 10.0));
    let mut pictures = units(&items, Track::Video).into_iter().skip(1);
    let mut replay = Replay::new(usize::MAX);
    let mut is_held = false;
    for mut item in items.iter().cloned() {
        if let Item::Unit(unit) = &mut item
            && unit.track == Track::Video
        {
            if is_held {
                unit.bytes = Bytes::new();
            }
            replay.push(&item);
            is_held = pictures.next().is_some_and(|mut next| {
                replay.hold(Some(&mut next.bytes));
                next.bytes.is_empty()
            });
        } else {
            replay.push(&item);
            replay.hold(None);
        }
    }
    let plain = filled(&items, usize::MAX);
    let first = plain.oldest().unwrap();
    for seq in 0..first + 200 {
        assert!(replay.since(seq).eq(plain.since(seq)), "since {seq}");
    }
    let start = units(&items, Track::Video)[0].stamp.segment.start;
    let mut plain = plain;
    for at in 0..10 {
        let marks = [mark("source", start + at * SECOND)];
        assert!(replay.from(&marks).eq(plain.from(&marks)), "from {at} s");
        replay.release(&marks);
        plain.release(&marks);
        assert!(replay.from(&[]).eq(plain.from(&[])), "released to {at} s");
        assert!(replay.since(0).eq(plain.since(0)), "released to {at} s, since 0");
    }
}
