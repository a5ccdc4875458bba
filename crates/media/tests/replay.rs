//! What a successor is fed after a death, out of real publications.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use millrace_media::{Item, Replay, Track, TrackConfig};
use millrace_types::{Mark, MediaTime, Msn, PartNo};
use publisher::{Source, publish, units};

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
